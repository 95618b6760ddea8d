"""Error rates: the language's normaliser, then jiwer, over a corpus and for each item.

English goes through Whisper's English normaliser; Chinese through :mod:`eval.metrics.chinese`,
where every ideograph is a word, so that the word error rate is the character error rate that
Chinese tables give; other languages through Whisper's basic normaliser.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.metrics import chinese

CHARACTERS = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km"})  # written without blanks


@functools.cache
def _english() -> Callable[[str], str]:
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()


@functools.cache
def _basic(split: bool) -> Callable[[str], str]:
    from whisper_normalizer.basic import BasicTextNormalizer

    return BasicTextNormalizer(split_letters=split)


def short_language(language: str) -> str:
    """``en-US``, ``English`` and ``zh_CN`` as ``en``, ``en`` and ``zh``."""
    name = language.replace("_", "-").split("-")[0].lower()
    return {"english": "en", "chinese": "zh", "mandarin": "zh", "cmn": "zh"}.get(name, name)


def unit(language: str) -> str:
    """What an error rate of the language is called: ``wer`` or ``cer``."""
    return "cer" if short_language(language) in CHARACTERS else "wer"


def normalise(text: str, language: str = "en") -> str:
    """The words that are compared, with one blank between them.

    English: lower case, no punctuation, number words as digits, contractions written out, US
    spelling. Chinese: see :func:`eval.metrics.chinese.normalise`.
    """
    name = short_language(language)
    if name == "en":
        clean = _english()(text)
    elif name in ("zh", "yue"):
        clean = chinese.normalise(text)
    else:
        clean = _basic(name in CHARACTERS)(text)
    return " ".join(clean.split())


@dataclass(frozen=True)
class WordErrors:
    """Edit counts of one or more utterances; add them with :func:`total`."""

    words: int  # words (or characters) of the reference
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


def word_errors(reference: str, hypothesis: str, language: str = "en") -> WordErrors:
    """Count the edits of one utterance, both sides normalised."""
    import jiwer

    said, heard = normalise(reference, language), normalise(hypothesis, language)
    if not said:  # jiwer has no rate for an empty reference; every word heard is an insertion
        return WordErrors(0, 0, 0, len(heard.split()))
    found = jiwer.process_words(said, heard)
    return WordErrors(len(said.split()), found.substitutions, found.deletions, found.insertions)


def char_errors(reference: str, hypothesis: str, language: str = "en") -> WordErrors:
    """Count the edits of one utterance in characters, blanks left out, both sides normalised."""
    import jiwer

    said = normalise(reference, language).replace(" ", "")
    heard = normalise(hypothesis, language).replace(" ", "")
    if not said:
        return WordErrors(0, 0, 0, len(heard))
    found = jiwer.process_characters(said, heard)
    return WordErrors(len(said), found.substitutions, found.deletions, found.insertions)


def total(items: Sequence[WordErrors]) -> WordErrors:
    """The counts of a corpus: its rate weighs long utterances more than short ones."""
    return WordErrors(
        sum(i.words for i in items),
        sum(i.substitutions for i in items),
        sum(i.deletions for i in items),
        sum(i.insertions for i in items),
    )
