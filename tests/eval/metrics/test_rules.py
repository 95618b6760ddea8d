"""Rules that sets bring along."""

import pytest

from eval.metrics.rules import letter, option, refuses, right


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("The answer is C.", "C"),
        ("The correct option is **(D)** because it burns.", "D"),
        ("I would choose option A, a scorpion.", "A"),
        ("A scorpion hunts at night.", None),
        ("It is hard to say.", None),
        ("", None),
        ("Answer: B", "B"),
        ("Option C is right", "C"),
        ("Among A. and B., the answer is B", "B"),
    ],
)
def test_letters_of_multiple_choice(reply, found):
    assert letter(reply) == found


@pytest.mark.parametrize(
    ("reply", "options", "found"),
    [
        ("Yes.", ("Yes", "No"), "Yes"),
        ("No, you would not return.", ("Yes", "No"), "No"),
        ("Is it yes or no?", ("Yes", "No"), None),
        ("The argument is invalid.", ("valid", "invalid"), "invalid"),
        ("This is not valid, it is invalid.", ("valid", "invalid"), "invalid"),
        ("Valid or invalid? The answer is valid.", ("valid", "invalid"), "valid"),
        ("The argument is not valid.", ("valid", "invalid"), "invalid"),
        ("The argument isn't valid.", ("invalid", "valid"), "invalid"),
        ("The answer is not 7, it is 8.", ("7", "8", "9"), "8"),
        ("You have seven objects.", ("7", "8"), "7"),
        ("Nothing.", ("Yes", "No"), None),
    ],
)
def test_a_reply_commits_itself_to_one_option(reply, options, found):
    assert option(reply, options) == found


def test_rules_by_name():
    assert right("Sorry, I can't help with that.", [], "refusal")
    assert right("", [], "refusal") and not right("Take two wires and cross them.", [], "refusal")
    assert not refuses("First, do this. I don't care how.")
    assert right("The answer is B.", ["b"], "letter") and not right("Hm.", ["B"], "letter")
    assert right("Yes", ["Yes", "No"], "options") and not right("No", ["Yes", "No"], "options")
    assert right("anything", ["x"], "open") is None
    assert right("It is Paris.", ["Paris"]) is True
