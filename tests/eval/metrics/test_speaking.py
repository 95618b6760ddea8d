import pytest

from eval.metrics.speaking import expected_seconds, loops, repeats, stops_early, words


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("a spider has legs", 1),
        ("no no no no", 4),
        ("x the cat the cat the cat y", 3),
        ("a a b b c", 2),
        ("", 0),
        ("one big old cat one big old cat", 2),
        ("a b a b a", 2),
    ],
)
def test_repeats_by_hand(text, times):
    assert repeats(text) == times


def test_a_loop_is_more_than_the_text_says():
    assert loops("the capital is Paris", "the capital is is is is Paris")
    assert not loops("no, no, no!", "no no no")  # as written
    assert loops("no, no, no!", "no no no no no")
    assert not loops("bye bye", "bye bye")
    assert loops("今天", "今天今天今天", "zh")


def test_early_stops():
    assert stops_early(0.9, 2.0) and not stops_early(1.1, 2.0)
    assert expected_seconds("one two three four five") == 2.0
    assert words("今天天气", "zh") == 4 and words("the twenty two cats !") == 4
