"""Agreement: is the answer to the spoken question the text LLM's answer to the typed one?

The measure of what ears cost a frozen LLM: it needs no right answers, only the LLM's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from eval.metrics.wer import normalise


def agrees(spoken: str, typed: str) -> bool:
    """Whether two answers are the same after normalising; two empty ones are not an agreement."""
    words = normalise(spoken)
    return bool(words) and words == normalise(typed)


def agreement(spoken: Sequence[str], typed: Sequence[str]) -> float:
    """Share of pairs that agree.

    Raises:
        ValueError: The two lists differ in length or are empty.
    """
    if len(spoken) != len(typed) or not spoken:
        raise ValueError(f"{len(spoken)} spoken answers, {len(typed)} typed ones")
    return sum(agrees(s, t) for s, t in zip(spoken, typed, strict=True)) / len(spoken)
