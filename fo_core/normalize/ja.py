"""Japanese text as it is spoken: WeTextProcessing's grammar (wetext), or else its numbers only."""

from __future__ import annotations

import functools
import logging
import re
from typing import Any

from fo_core.normalize._markup import AT, DOT
from fo_core.normalize._numbers import words
from fo_core.normalize._other import tidy
from fo_core.normalize.zh import PIECE, READING

log = logging.getLogger(__name__)
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<=[A-Za-z])[-−–](?=\d)"), " "),  # no minus
    (re.compile(r"(?:№|(?<![A-Za-z])N[oO]\.)\s?(?=\d)"), "ナンバー"),
    (re.compile(r"[¥￥]\s?(\d+(?:\.\d+)?)(?!\d)"), r"\1円"),
    (re.compile(r"(?<=\d)\s?[~〜～]\s?(?=\d)"), "から"),
    (re.compile(r"\b([A-G])#"), r"\1シャープ"),
    (re.compile(r"(?<=\d)½"), "と1/2"),
    (re.compile("½"), "1/2"),
    (re.compile("²"), "二乗"),
    (re.compile("³"), "三乗"),
)
_NUMBER = re.compile(r"\d{1,15}(?:\.\d+)?")


@functools.cache
def _grammar() -> Any:
    """The grammar; None where the package is missing."""
    try:
        from wetext import Normalizer
    except ModuleNotFoundError:
        log.warning(
            "Japanese: only numbers are read; for dates, units and more: pip install wetext"
        )
        return None
    return Normalizer(lang="ja", operator="tn")


def _spoken(piece: str) -> str:
    if any(char.isdigit() for char in piece) and _grammar() is not None:
        try:
            with READING:
                piece = _grammar().normalize(piece)
        except (AssertionError, RuntimeError, ValueError, IndexError) as error:
            log.debug("the grammar cannot read %r: %r", piece, error)
    return _NUMBER.sub(lambda m: words(m.group(0), "ja"), piece)


def read(text: str) -> str:
    """One line of Japanese, ending in a mark that ends a sentence."""
    text = text.replace(DOT, "ドット").replace(AT, "アットマーク").replace("\n", "、")
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    pieces = re.findall(rf"[^。？！、,?!;]{{1,{PIECE}}}[。？！、,?!;]*|[。？！、,?!;]+", text)
    said = tidy("".join(map(_spoken, pieces)))
    return f"{said[:-1]}。" if said.endswith(".") else said
