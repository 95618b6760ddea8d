"""The letters of a text that a speech decoder with durations reads."""

from __future__ import annotations

import re
import unicodedata

LETTERS = "abcdefghijklmnopqrstuvwxyz '.,?!;:-"  # one unit each, for English


def spell(text: str, letters: str = LETTERS) -> str:
    """Lower-case letters and marks of ``letters``, accents dropped, single spaces between words.

    Args:
        text: As it is spoken: numbers in words.
        letters: Characters that are kept.
    """
    plain = unicodedata.normalize("NFKD", text.lower().replace("\u2019", "'"))
    plain = re.sub(r"(?<=[,;:?!])(?=[^\W\d_])", " ", plain)
    return " ".join("".join(c for c in plain if c in letters).split())
