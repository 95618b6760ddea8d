"""Text that is spoken while it is still being written: where a sentence may be cut in chunks.

A chunk is not a sentence: the voice goes on behind it without a pause. So a cut must not change how
anything is read, and is made between two plain words only; numbers, abbreviations and markup stay
with what is beside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from fo_core.text import TERMINALS

_MARKUP = re.compile(r"[*_`#~|<>\[\](){}$€£¥%&@/\\=+^]")
_WORD_BEFORE = re.compile(r"(?:^|[\s\"“])[^\W\d_][^\W\d_'’-]*(?:['’-][^\W\d_]+)*[,;]?$")
_WORD_AFTER = re.compile(r"\s+([^\W\d_]+)")
_NUMERALS = frozenset("IVXLC")  # "VIII" is read by what stands before it
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")  # written without blanks
_PAUSES = ",;，；、"  # marks that stay at a chunk's end


@dataclass(frozen=True)
class TextChunk:
    """A part of a sentence that is handed to the voice."""

    text: str  # as it is spoken, with the blank before it; closed by a mark only where it is last
    ahead: str = ""  # what is written beyond it
    joined: bool = False  # it goes on with a sentence that has begun
    more: bool = False  # the sentence goes on behind it


def may_cut(before: str, after: str) -> bool:
    """Whether a chunk may end between two texts of one sentence.

    Args:
        before: What the chunk would hold.
        after: What is written behind it, as far as it is.
    """
    if not before or not after or _MARKUP.search(before) or _MARKUP.search(after):
        return False
    if _WIDE.match(after):
        return bool(_WIDE.match(before[-1])) or before[-1] in _PAUSES
    word = _WORD_AFTER.match(after)
    if word is None or _NUMERALS.issuperset(word.group(1)):
        return False
    return _WORD_BEFORE.search(before) is not None


def open_text(text: str, clean: Callable[[str], str]) -> str:
    """The spoken form of a chunk behind which its sentence goes on: no mark closes it.

    Args:
        text: A part of a sentence.
        clean: The clean-up of whole sentences, which closes them.
    """
    body = text.rstrip()
    if body.endswith(tuple(TERMINALS)):
        return clean(body)
    mark = body[-1] if body.endswith(tuple(_PAUSES)) else ""
    cleaned = clean(body.removesuffix(mark))
    return cleaned[:-1] + mark if cleaned else ""


def cuts(text: str) -> list[int]:
    """Characters of a sentence behind which a chunk may end."""
    places = [match.start() for match in re.finditer(r"\s+\S|(?<=.)(?=[\u3040-\u9fff])", text)]
    return [at for at in places if may_cut(text[:at], text[at:])]


def chunked(text: str, sizes: Callable[[int], int], ahead: Callable[[int], int]) -> list[TextChunk]:
    """A whole sentence as the chunks that a segmenter might have handed out.

    Args:
        text: The sentence, as it is spoken.
        sizes: Possible ends that a chunk runs over at least, by its number.
        ahead: Characters that are seen behind a chunk, of so many.
    """
    found: list[TextChunk] = []
    start, left = 0, cuts(text)
    while True:
        skip = max(1, sizes(len(found)))
        if len(left) < skip:
            found.append(TextChunk(text[start:], "", bool(found), False))
            return found
        stop = left[skip - 1]
        left = left[skip:]
        seen = text[stop : stop + max(2, ahead(len(text) - stop))]
        found.append(TextChunk(text[start:stop], seen, bool(found), True))
        start = stop
