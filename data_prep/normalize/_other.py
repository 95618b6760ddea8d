"""Languages without rules of their own: numbers are read, pictures and markup go."""

from __future__ import annotations

import re

from data_prep.normalize._markup import AT, DOT, without_signs
from data_prep.normalize._numbers import words

ENDS = ".?!。？！؟।…"
_NUMBER = re.compile(r"(?<![\w.,])-?\d{1,18}(?:[.,]\d+)?(?![\w]|[.,]\d)")


def read(text: str, language: str) -> str:
    """One line in any language; empty if there is no letter or digit in it.

    Numbers become words where num2words knows the language; a number with more than one mark
    inside (1.234,5) is left to the synthesiser.
    """

    def number(match: re.Match[str]) -> str:
        try:
            return words(match.group(0).replace(",", "."), language)
        except (NotImplementedError, IndexError, KeyError, TypeError, OverflowError):
            return match.group(0)

    text = _NUMBER.sub(number, text.replace(DOT, " ").replace(AT, " "))
    text = re.sub(r"[*_`#<>|~^\\{}\[\]]+", " ", without_signs(text)).replace("\n", ", ")
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+([,.?!;:])", r"\1", text)
    text = re.sub(r"[,;:]+(?=[,.?!;:])", "", text).strip(" ,;:-")
    if not any(char.isalnum() for char in text):
        return ""
    return text if text[-1] in ENDS else f"{text}."
