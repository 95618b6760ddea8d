"""Error rates while training, as (errors, length) pairs that add up over a whole set."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fo_core.training.stage import Ratio

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u9fff]+(?:'\w+)?")


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; East Asian characters one by one."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


def word_errors(wanted: Sequence[str], said: Sequence[str]) -> Ratio:
    """Word errors and words of a batch of texts."""
    return _errors([words(text) for text in wanted], [words(text) for text in said])


def token_errors(wanted: Sequence[Sequence[int]], said: Sequence[Sequence[int]]) -> Ratio:
    """Token errors and tokens of a batch of id lists."""
    return _errors([[str(i) for i in row] for row in wanted], [[str(i) for i in r] for r in said])


def _errors(wanted: list[list[str]], said: list[list[str]]) -> Ratio:
    import jiwer

    errors, length = 0, 0
    for one, two in zip(wanted, said, strict=True):
        length += len(one)
        if not one or not two:
            errors += len(one) + len(two)
            continue
        found = jiwer.process_words(" ".join(one), " ".join(two))
        errors += found.substitutions + found.deletions + found.insertions
    return float(errors), float(length)
