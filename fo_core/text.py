"""Clean-up of LLM text before it is spoken: what a voice cannot say becomes a pause or goes."""

from __future__ import annotations

import re

from fo_core.sampling import Compat

TERMINALS = "。？！.?!"  # a speakable text ends with one of these
_TRAILING = ",，;；:：、"  # ... in place of one of these
_CJK = re.compile(r"[\u4e00-\u9fff]")
_ROUND = str.maketrans({"、": "，", "(": ",", ")": ",", "（": "，", "）": "，"})
_LIST_NUMBER = re.compile(r"^\s*(\d{1,3})[.)]\s+", re.MULTILINE)  # "1. " or "1) " begins a line


def speakable(text: str, compat: Compat = "none") -> str:
    """The form of ``text`` that the speech decoder reads.

    Ours keeps decimals ("3.14"), turns line breaks into pauses instead of glueing words together,
    and closes an English sentence with an English full stop. "official" is the published engine's
    clean-up to the letter, in its order.

    Args:
        text: A piece of the LLM's answer.
        compat: "official" reproduces the published engine.

    Returns:
        The cleaned text, ending with one of 。？！.?! ; empty if there is nothing to say (ours) or
        if ``text`` is empty ("official").
    """
    return _official(text) if compat == "official" else _ours(text)


def has_words(text: str) -> bool:
    """Whether anything in ``text`` can be pronounced."""
    return any(char.isalnum() for char in text)


def _official(text: str) -> str:
    text = text.translate(_ROUND)
    text = re.sub(r"[\r\n\t*_`~]", "", text)
    text = re.sub(r"([.:])\s+", r"\1", text)
    if _CJK.search(text):
        text = re.sub(r"(\d+)\.(?=[\u4e00-\u9fffA-Za-z])", r"\1：", text)
    else:
        text = re.sub(r"(\d+)\.(?=\w)", r"\1:", text)
    return _terminated(text, "。")


def _ours(text: str) -> str:
    text = text.replace("\ufffd", "")
    text = re.sub(r"^\s*(#+|[-*•])\s+", "", text, flags=re.MULTILINE)  # headings, bullets
    text = re.sub(r"[*_`~]+", "", text)
    text = _LIST_NUMBER.sub(r"\1: ", text)
    text = re.sub(r"(?<=[\w”’\"')])\s*[\r\n]+\s*(?=\S)", ", ", text)  # a line's end is a pause
    text = text.translate(_ROUND)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+(?=[,，])", "", text)
    text = re.sub(r"[,，]\s*(?=[,，;；:：.。?？!！])", "", text)  # one pause, not two
    text = re.sub(r",(?=[^\W\d])", ", ", text)
    text = text.strip().lstrip(" " + TERMINALS + _TRAILING)
    if not has_words(text):
        return ""
    return _terminated(text.rstrip(), "。" if _CJK.search(text) else ".")


def _terminated(text: str, stop: str) -> str:
    if not text or text[-1] in TERMINALS:
        return text
    return (text[:-1] if text[-1] in _TRAILING else text) + stop
