import pytest

from eval.metrics.contains import accuracy, contains


@pytest.mark.parametrize(
    ("reply", "answers", "right"),
    [
        ("A spider has eight legs.", ["8"], True),
        ("A spider has 8 legs!", ["eight"], True),
        ("The capital is PARIS.", ["London", "paris"], True),  # any alias
        ("George, I think, Washington", ["George Washington"], True),  # all words, any place
        ("Washington", ["George Washington"], False),
        ("The weather is nice", ["eat"], False),  # whole words only
        ("", ["8"], False),
        ("anything", ["..."], False),  # nothing left of the answer
        ("anything", [], False),
    ],
)
def test_contains(reply, answers, right):
    assert contains(reply, answers) is right


def test_accuracy_is_the_share():
    assert accuracy(["it is blue", "red", "two"], [["blue"], ["green"], ["2", "3"]]) == 2 / 3
    with pytest.raises(ValueError):
        accuracy(["a"], [])
