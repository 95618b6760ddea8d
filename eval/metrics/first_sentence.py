"""The strict look at an answer: is it in the first sentence?

A long reply holds many words, so matching anywhere in it is generous. A judge's transcript may have
no punctuation; then as many of its words are looked at as the written answer's first sentence has.
"""

from __future__ import annotations

import re

from eval.metrics.speaking import words

_END = re.compile(r"[.!?。！？]+[\"'”’)\]]*(?=\s|$)|(?<=[。！？])|\n")
_TITLES = frozenset({"mr", "mrs", "ms", "dr", "prof", "st", "vs", "jr", "sr", "no", "e.g", "i.e"})


def first_sentence(text: str) -> str:
    """A text up to the end of its first sentence; titles and initials end none."""
    text = text.strip()
    for match in _END.finditer(text):
        before = text[: match.start()].split()
        last = before[-1].strip("\"'(“‘[").lower() if before else ""
        if match.group() == "." and (last in _TITLES or re.fullmatch(r"[a-z](\.[a-z])*", last)):
            continue
        if last:
            return text[: match.end()].strip()
    return text


def first_heard(heard: str, written: str, language: str = "en") -> str:
    """The first sentence of a transcript of an answer that was written as ``written``."""
    found = first_sentence(heard)
    if len(found) < len(heard.strip()) or re.search(r"[.!?。！？]\s*$", heard):
        return found
    return " ".join(heard.split()[: max(1, words(first_sentence(written), language))])
