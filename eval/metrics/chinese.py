"""Chinese text before it is compared: one form of characters, digits as they are read, no marks."""

from __future__ import annotations

import re
import unicodedata

DIGITS = "零一二三四五六七八九"
UNITS = ("", "十", "百", "千")
GROUPS = ("", "万", "亿", "万亿")
CJK = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # ideographs
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(%)?(年)?")
_SAME = str.maketrans({"〇": "零", "○": "零", "兩": "两"})


def read_number(digits: str) -> str:
    """An integer as it is read, ``105`` → 一百零五; with leading zeros or too long: its digits."""
    if len(digits) > 16 or (len(digits) > 1 and digits[0] == "0"):
        return read_digits(digits)
    if not int(digits):
        return DIGITS[0]
    groups = []  # of four digits, the lowest first
    rest = int(digits)
    while rest:
        rest, group = divmod(rest, 10000)
        groups.append(group)
    said, gap = "", False
    for place in reversed(range(len(groups))):
        group = groups[place]
        if not group:
            gap = True
            continue
        if said and (gap or group < 1000):
            said += DIGITS[0]
        said, gap = said + _group(group) + GROUPS[place], False
    return said[1:] if said.startswith("一十") else said


def _group(value: int) -> str:
    """1 to 9999."""
    said, zero = "", False
    for place in (3, 2, 1, 0):
        digit = value // 10**place % 10
        if digit:
            said += (DIGITS[0] if zero else "") + DIGITS[digit] + UNITS[place]
            zero = False
        else:
            zero = bool(said)
    return said


def read_digits(digits: str) -> str:
    """Digit by digit: ``2024`` → 二零二四."""
    return "".join(DIGITS[int(digit)] for digit in digits)


def _read(match: re.Match[str]) -> str:
    number, percent, year = match.groups()
    whole, _, decimals = number.partition(".")
    if year and not decimals and len(whole) in (2, 4):
        return read_digits(whole) + year
    said = read_number(whole) + ("点" + read_digits(decimals) if decimals else "")
    return ("百分之" if percent else "") + said + (year or "")


def normalise(text: str) -> str:
    """What is compared: NFKC, lower case, numbers read out, marks gone, every ideograph a word.

    Latin words and what else is no ideograph stay words of their own, so a mixed sentence is
    counted in ideographs and words (the mixed error rate).
    """
    text = unicodedata.normalize("NFKC", text).lower().translate(_SAME)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = _NUMBER.sub(_read, text)
    text = re.sub(f"([{CJK}])", r" \1 ", text)
    kept = (c if unicodedata.category(c)[0] in "LNM" or c == "'" else " " for c in text)
    return " ".join("".join(kept).split())
