"""Word error rate: Whisper's English normaliser, then jiwer, over a corpus and for each item."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@functools.cache
def _normalizer() -> Callable[[str], str]:
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()


def normalise(text: str) -> str:
    """Lower case, no punctuation, number words as digits, contractions written out, US spelling."""
    return " ".join(_normalizer()(text).split())


@dataclass(frozen=True)
class WordErrors:
    """Edit counts of one or more utterances; add them with :func:`total`."""

    words: int  # words of the reference
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference word; can pass 1. With no reference word: 0.0 or 1.0."""
        if self.words == 0:
            return float(self.errors > 0)
        return self.errors / self.words


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Count the edits of one utterance, both sides normalised."""
    import jiwer

    said, heard = normalise(reference), normalise(hypothesis)
    if not said:  # jiwer has no rate for an empty reference; every word heard is an insertion
        return WordErrors(0, 0, 0, len(heard.split()))
    found = jiwer.process_words(said, heard)
    return WordErrors(len(said.split()), found.substitutions, found.deletions, found.insertions)


def total(items: Sequence[WordErrors]) -> WordErrors:
    """The counts of a corpus: its rate weighs long utterances more than short ones."""
    return WordErrors(
        sum(i.words for i in items),
        sum(i.substitutions for i in items),
        sum(i.deletions for i in items),
        sum(i.insertions for i in items),
    )


def corpus_wer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """WER over all utterances together.

    Raises:
        ValueError: The two lists differ in length or are empty.
    """
    if len(references) != len(hypotheses) or not references:
        raise ValueError(f"{len(references)} references, {len(hypotheses)} hypotheses")
    return total([word_errors(r, h) for r, h in zip(references, hypotheses, strict=True)]).rate
