"""Right or wrong by containment: does a reply hold a right answer's words?

The rule that spoken question answering tables use: lower case, no punctuation, number words folded
into digits; a reply is right when, for one of the accepted answers, all of its words are in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from eval.metrics.wer import normalise


def contains(reply: str, answers: Sequence[str]) -> bool:
    """Whether the reply holds all words of one of the accepted answers (aliases).

    An answer that has no word left after normalising matches nothing.
    """
    said = set(normalise(reply).split())
    wanted = (set(normalise(answer).split()) for answer in answers)
    return any(words and words <= said for words in wanted)


def accuracy(replies: Sequence[str], answers: Sequence[Sequence[str]]) -> float:
    """Share of replies that are right.

    Raises:
        ValueError: The two lists differ in length or are empty.
    """
    if len(replies) != len(answers) or not replies:
        raise ValueError(f"{len(replies)} replies, {len(answers)} sets of answers")
    return sum(contains(r, a) for r, a in zip(replies, answers, strict=True)) / len(replies)
