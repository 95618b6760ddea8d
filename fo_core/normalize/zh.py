"""Mandarin text as it is spoken: WeTextProcessing's grammar (wetext) and what it leaves unread."""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections.abc import Callable
from typing import Any

from fo_core.errors import EngineError
from fo_core.normalize._markup import AT, DOT, without_signs

log = logging.getLogger(__name__)
EXTRA = "chinese"
READING = threading.Lock()  # one piece at a time
PIECE = 200  # characters that the grammar reads at a time
_DIGITS = str.maketrans("0123456789", "零一二三四五六七八九")
_WIDE = str.maketrans({",": "，", "?": "？", "!": "！", ";": "；", ":": "：", "(": "，", ")": "，"})
_PAUSES = str.maketrans({"（": "，", "）": "，", "—": "，", "…": "。", "\n": "，", "～": "~"})
_SYMBOLS = {
    "≈": "约等于",
    "≥": "大于等于",
    "≤": "小于等于",
    "≠": "不等于",
    "＝": "等于",
    "=": "等于",
    "×": "乘以",
    "÷": "除以",
    "±": "正负",
    "+": "加",
    "&": "和",
    "→": "，",
    "∞": "无穷大",
    "π": "派",
    "@": "艾特",
}
_TYPES = (
    "[歼运轰教直强苏图安]|米格|东风|巨浪|红旗|鹰击|长征|嫦娥|神舟|天宫|天舟|天问|北斗|风云|玉兔"
)


def _version(text: str) -> str:
    """2.0.1, figure by figure."""
    return text.translate(_DIGITS).replace(".", "点")


_BEFORE: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"[¥￥]\s?(\d[\d,]*(?:\.\d+)?)\s?元?"), r"\1元"),
    (re.compile(r"(\d+(?:\.\d+)?)\s?‰"), r"千分之\1"),
    (re.compile(r"(?<=\d)\s?[*xX]\s?(?=\d)"), "乘以"),
    (re.compile(r"(\d+)\s?\^\s?(\d+)"), r"\1的\2次方"),
    (re.compile(r"(?:#|№|(?<![A-Za-z])N[oO]\.)\s?(\d+)"), r"第\1"),
    (re.compile(r"(?<=[A-Za-z])[-−–](?=\d)"), " "),  # GPT-4, COVID-19: no minus
    (re.compile(rf"({_TYPES})[-−–](?=\d)"), r"\1"),  # nor in names of aircraft and rockets
    (re.compile(r"(比分[是为]?|[以])(\d{1,3})[-−–:：](\d{1,3})(?![\d/])"), r"\1\2比\3"),
    (re.compile(r"(\d+/\d+)\s?[~～−–-]\s?(?=\d+/\d)"), r"\1到"),
    (re.compile(r"约\s?(\d{1,4})/(\d{1,4})(?![\d/])"), r"约\2分之\1"),  # else 约 gets into it
    (re.compile(r"约(\d{1,2}):(\d\d)(?!\d)"), r"约\1点\2分"),
    (re.compile(r"\$\s?(\d+(?:\.\d+)?)\s?/\s?(小时|天|日|周|月|年|人|次|个)"), r"每\2\1美元"),
    (re.compile(r"(?<![\d.])\d+(?:\.\d+){2}(?![\d.])"), lambda m: _version(m.group(0))),
    (re.compile(r"\b([A-G])#"), r"\1 sharp"),
    (re.compile(r"(?<=[A-Za-z])\.(?=\d)"), " "),  # Vol.3
    (re.compile(r"(\d\.\d+)[-−–~](?=\d+\.\d)"), r"\1到"),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
)
_SPEAKABLE = re.compile(r"[^\u3400-\u9fff\u3007A-Za-z' ，。？！；：、.\-]")


@functools.cache
def _grammar() -> Any:
    try:
        from wetext import Normalizer
    except ModuleNotFoundError as error:
        raise EngineError(
            f"Chinese text needs the package {error.name!r}",
            possible="dialogues in English",
            do="pip install wetext (the extra chinese)",
        ) from error
    return Normalizer(lang="zh", operator="tn", remove_erhua=False)


def _spoken(piece: str) -> str:
    """A piece by the grammar; where it gives up, its digits are read one by one afterwards."""
    if not any(char.isdigit() for char in piece) and "%" not in piece:
        return piece
    try:
        with READING:
            said: str = _grammar().normalize(piece)
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        log.debug("the grammar cannot read %r: %r", piece, error)
        return piece
    return said


def read(text: str) -> str:
    """One line of characters, Latin words and Chinese punctuation, ending in 。 ？ or ！

    Raises:
        EngineError: The package wetext is missing.
    """
    text = text.replace(DOT, "点").replace(AT, "艾特").translate(_PAUSES)
    for pattern, instead in _BEFORE:
        text = pattern.sub(instead, text)
    pieces = re.findall(rf"[^。？！；，,?!;]{{1,{PIECE}}}[。？！；，,?!;]*|[。？！；，,?!;]+", text)
    text = "".join(_spoken(piece) for piece in pieces)
    for sign, word in _SYMBOLS.items():
        text = text.replace(sign, word)
    text = without_signs(text).translate(_DIGITS).translate(_WIDE)
    text = re.sub(r"(?<![A-Za-z])\.|\.(?![A-Za-z])", "。", text)
    text = _SPEAKABLE.sub(" ", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s*([，。？！；：、])\s*", r"\1", text)
    text = re.sub(r"[，；：、]+(?=[，。？！；：、])", "", text)
    text = re.sub(r"([。？！])[。，；：、？！]+", r"\1", text)
    text = re.sub(r"(?<=[\u3400-\u9fff])\s+(?=[\u3400-\u9fff])", "", text).strip(" ，；：、。-")
    if not any(char.isalpha() for char in text):
        return ""
    return text if text[-1] in "？！" else f"{text}。"
