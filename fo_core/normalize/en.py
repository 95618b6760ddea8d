"""English text as it is spoken; month comes first in a date of numbers, as in the US."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from fo_core.normalize._en_words import (
    CENTS,
    COINS,
    DECADES,
    FRACTIONS,
    MAGNITUDES,
    MONTHS,
    PER,
    PLACES,
    ROMANS,
    ROYAL,
    SHORT,
    SYMBOLS,
    UNITS,
)
from fo_core.normalize._markup import AT, DOT
from fo_core.normalize._numbers import words

Match = re.Match[str]
Rule = tuple[re.Pattern[str], Callable[[Match], str] | str]
_NUM = (  # also in India's groups: 1,00,000
    r"(?<!\d)(?:\d{1,3}(?:,\d{3})++(?!\d)|\d{1,2}(?:,\d\d){1,4},\d{3}(?![\d,])|\d++)(?:\.\d++)?"
)
_MONTH = "|".join(MONTHS)
_UNIT = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
_EACH = {**PER, **{unit: one for unit, (one, _) in UNITS.items() if unit.isalpha()}}
_PER = "|".join(re.escape(unit) for unit in sorted(_EACH, key=len, reverse=True))
_SIZES = "|".join(f"(?i:{size})" for size in MAGNITUDES)
_SPEAKABLE = re.compile(r"[^A-Za-z' ,.?!;:\-]")


def year_words(value: int) -> str:
    """1969 is "nineteen sixty nine"; 2005 is "two thousand five"."""
    return words(str(value), kind="year" if 1100 <= value <= 2099 else "cardinal")


def _ordinal(digits: str) -> str:
    return words(digits, kind="ordinal")


def _digits(text: str) -> str:
    return " ".join(words(char) for char in text if char.isdigit())


def _number(match: Match) -> str:
    text = match.group(0).replace(",", "")
    if len(text) == 4 and text.isdigit() and "," not in match.group(0):
        if 1100 <= int(text) <= 2099:
            return year_words(int(text))
    return words(text)


def _date(year: str, month: int, day: int) -> str:
    if not 1 <= month <= 12 or not 1 <= day <= 31:
        return ""
    name = list(dict.fromkeys(MONTHS.values()))[month - 1]
    if len(year) == 2:
        year = ("20" if int(year) < 50 else "19") + year
    return f"{name} {_ordinal(str(day))}" + (f", {year_words(int(year))}" if year else "")


def _iso(match: Match) -> str:
    year, month, day = match.groups()
    return _date(year, int(month), int(day)) or match.group(0)


def _slashed(match: Match) -> str:
    first, second, year = match.groups()
    month, day = int(first), int(second)
    if month > 12:
        month, day = day, month
    return _date(year, month, day) or match.group(0)


def _named(match: Match) -> str:
    month, day = match["month"], match["day"]
    if not 1 <= int(day) <= 31:
        return match.group(0)
    year = f", {year_words(int(match['year']))}" if match["year"] else ""
    return f"{MONTHS[month]} {_ordinal(day)}{year}"


def _clock(match: Match) -> str:
    hour, minute, second = words(match["hour"]), match["minute"], match["second"]
    half = f" {match['half'].upper()} M" if match["half"] else ""
    said = hour
    if minute and int(minute):
        said += f" {'oh ' if minute[0] == '0' else ''}{words(str(int(minute)))}"
    elif not half:
        said += " o'clock"
    if second:
        said += f" and {words(str(int(second)))} seconds"
    return said + half


def _money(match: Match) -> str:
    sign, amount, size = match["sign"], match["amount"].replace(",", ""), match["size"]
    one, many = COINS[sign]
    if size:
        return f"{words(amount)} {MAGNITUDES[size.lower()]} {many}"
    whole, _, part = amount.partition(".")
    if len(part) != 2 or sign not in CENTS:
        return f"{words(amount)} {one if amount == '1' else many}"
    cents = f"{words(str(int(part)))} {CENTS[sign][int(part) != 1]}" if int(part) else ""
    coins = f"{words(whole)} {one if whole == '1' else many}" if int(whole) or not cents else ""
    return " and ".join(piece for piece in (coins, cents) if piece)


def _measure(match: Match) -> str:
    amount, unit, each = match.groups()
    one, many = UNITS[unit]
    per = f" per {_EACH[each]}" if each else ""
    return f"{amount} {one if amount == '1' else many}{per}"


def _decade(match: Match) -> str:
    century, decade = match.groups()
    if decade == "00":
        return f"{year_words(int(century + '00'))}s" if century else "two thousands"
    before = f"{words(century)} " if century else ""
    return f"{before}{DECADES[decade[0]]}" if decade[0] != "0" else match.group(0)


def _fraction(match: Match) -> str:
    whole, above, below = match["whole"], match["above"], match["below"]
    if below not in FRACTIONS or int(above) >= int(below):
        return f"{match['whole'] or ''} {words(above)} over {words(below)}".strip()
    said = f"{words(above)} {FRACTIONS[below][above != '1']}"
    return f"{words(whole)} and {said}" if whole else said


def _roman(match: Match) -> str:
    before, numeral = match.groups()
    value = str(ROMANS[numeral])
    return f"{before} the {_ordinal(value)}" if before in ROYAL else f"{before} {words(value)}"


def _phone(match: Match) -> str:
    return ", ".join(_digits(part) for part in re.findall(r"\d+", match.group(0)))


def _power(match: Match) -> str:
    base, power = match.groups()
    known = {"2": "squared", "3": "cubed"}
    return f"{base} {known.get(power) or 'to the power of ' + power}"


def _greek(match: Match) -> str:
    name = unicodedata.name(match.group(0), "")
    return f" {name.split()[3].lower()} " if len(name.split()) > 3 else " "


def _place(match: Match) -> str:
    return f"{match[1]} {words(match[2])} {match[3]}"


_KINGS = "|".join(sorted(ROYAL))
_RULES: tuple[Rule, ...] = (
    (re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])"), " "),
    (re.compile(r"[¼-¾⅐-⅞℃℉Ａ-Ｚａ-ｚ０-９]"), lambda m: unicodedata.normalize("NFKC", m.group(0))),
    (re.compile(r"(?<=[a-z]\s)St\.(?=\s+[a-z]|\s*[,;:?!)]|\s*$)"), "Street"),
    *((re.compile(rf"(?<!\w){re.escape(short)}(?!\w)"), long) for short, long in SHORT.items()),
    (re.compile(r"\b(\d)['′]\s?(\d{1,2})(?:[\"″]|'')"), r"\1 foot \2"),
    (re.compile(r"\b([ap])\.m\.(?=\s+[a-z]|\s*[,;:?!)])"), r"\1m"),
    (re.compile(r"\b(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?![\d/-])"), _iso),
    (re.compile(r"(?<![\d/])(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})(?![\d/])"), _slashed),
    (
        re.compile(
            rf"\b(?P<month>{_MONTH})\b\.?\s(?P<day>\d{{1,2}})(?:st|nd|rd|th)?"
            r"(?![\d:%/]|\.\d|\s?[ap]\.?m\b)(?:,?\s(?P<year>[12]\d{3})\b)?"
        ),
        _named,
    ),
    (
        re.compile(
            rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:\sof)?\s(?P<month>{_MONTH})\b\.?"
            r"(?:,?\s(?P<year>[12]\d{3})\b)?"
        ),
        _named,
    ),
    (
        re.compile(r"\b(\d{1,2}(?::\d\d)?)[-–](?=\d{1,2}(?::\d\d)?\s?[ap]\.?\s?m\b)", re.I),
        r"\1 to ",
    ),
    (
        re.compile(
            r"\b(?P<hour>[01]?\d|2[0-4])(?::(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?)?"
            r"\s?(?P<half>[ap])\.?\s?m\b",
            re.I,
        ),
        _clock,
    ),
    (
        re.compile(
            r"(?<![\d:])(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)"
            r"(?::(?P<second>[0-5]\d))?(?![\d:])(?P<half>)"
        ),
        _clock,
    ),
    (re.compile(r"(?<!\d)(?:\+\d{1,3}[-.\s])?\(?\d{3}\)?[-.\s]\d{3}[-.\s]\d{4}(?!\d)"), _phone),
    (re.compile(r"(?<![\d-])\d{3}-\d{4}(?![\d-])"), _phone),
    (re.compile(rf"([$€£¥₹])\s?({_NUM})\s?[-–—]\s?\1?(?={_NUM})"), r"\2 to \1"),
    (re.compile(r"(?<![\w.])[-−](?=[$€£¥₹]\s?\d)"), "minus "),
    (re.compile(r"([$€£¥₹])[-−](?=\d)"), r"minus \1"),
    (
        re.compile(rf"([$€£¥₹]\s?{_NUM}(?:\s?(?:{_SIZES})\b)?)\s?/\s?({_PER})\b"),
        lambda m: f"{m[1]} per {_EACH[m[2]]}",
    ),
    (re.compile(rf"\b((?i:{'|'.join(PLACES)}))\.?\s(\d{{1,4}})([A-Z])\b"), _place),
    (re.compile(r"\b([A-G])#"), r"\1 sharp"),
    (re.compile(r"\b9/11\b"), "nine eleven"),
    (
        re.compile(
            rf"(?:US)?(?P<sign>[$€£¥₹])\s?(?P<amount>{_NUM})"
            rf"(?:\s?(?P<size>{'|'.join(MAGNITUDES)})\b)?",
            re.I,
        ),
        _money,
    ),
    (re.compile(r"(?<=[a-z])/(?=(?:hour|day|week|month|year|person)\b)"), " per "),
    (re.compile(r"(?<!\w)'?([12]\d)?(\d0)'?s\b"), _decade),
    (re.compile(r"(?<![\d.])(\d++(?:\.\d++){2,})"), lambda m: _versions(m.group(1))),
    (re.compile(r"\b24/7\b"), "twenty four seven"),
    (
        re.compile(
            r"(?:(?<!\d)(?P<whole>\d{1,4})\s)?(?<![\d/.])(?P<above>\d{1,3})[/⁄](?P<below>\d{1,3})(?![\d/])"
        ),
        _fraction,
    ),
    (re.compile(rf"(?<![A-Za-z])({_NUM})(?:-|\s?[–—]\s?)(?={_NUM})"), r"\1 to "),
    (re.compile(rf"({_NUM})\s[-−]\s(?={_NUM})"), r"\1 minus "),
    (re.compile(r"(?<=\d)(?=B\b)"), "-"),  # 7B: a letter; bytes are KB, MB or "512 B"
    (re.compile(rf"(?<![A-Za-z])({_NUM})\s?({_UNIT})(?:/({_PER}))?(?![A-Za-z0-9])"), _measure),
    (re.compile(r"(?<=\d)-(?=B\b)"), " "),
    (re.compile(r"(?<=\d)x(?=\s[a-z]|\s?[,.;:!?)]|$)"), " times"),
    (re.compile(r"(?<!\d)(\d++)(?:st|nd|rd|th)\b"), lambda m: _ordinal(m.group(1))),
    (re.compile(rf"({_NUM}):(?={_NUM})"), r"\1 to "),
    (re.compile(r"(?<!\w)(\w++)\s?\^\s?(\d++)"), _power),
    (re.compile(r"(\w)([²³])"), lambda m: f"{m[1]} {'squared' if m[2] == '²' else 'cubed'}"),
    (re.compile(r"(?<![\w.])[-−](?=\.?\d)"), "minus "),
    (re.compile(r"~\s?(?=\d)"), "about "),
    (re.compile(r"(?:#|\bNo\.)\s?(?=\d)"), "number "),
    (re.compile(r"(?<=\d)\s?[*xX]\s?(?=\d)"), " times "),
    (
        re.compile(
            rf"\b({_KINGS}|War|Part|Chapter|Volume|Act|Type|Phase|Class|Level|Book|Section)"
            rf"\s({'|'.join(sorted(ROMANS, key=len, reverse=True))})\b"
        ),
        _roman,
    ),  # fmt: skip
    (re.compile(r"(?<![\d.])\.(?=\d)"), "0."),
    (re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])"), " "),
    (re.compile(_NUM), _number),
    (re.compile(r"[α-ωΑ-Ω]"), _greek),
    *((re.compile(re.escape(sign)), f" {word} ") for sign, word in SYMBOLS.items()),
    (re.compile(r"(?<=[a-z])/(?=[a-z])"), " or "),
    (re.compile(r"[*_`#>|~/<]+"), " "),
)


def _versions(text: str) -> str:
    return " point ".join(words(part) for part in text.split("."))


def read(text: str) -> str:
    """One line of letters, apostrophes and sentence punctuation, ending in . ? or !"""
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    text = text.replace(DOT, " dot ").replace(AT, " at ")
    text = text.translate(str.maketrans("’‘“”–—()\n…", "''\"\",,,,, "))
    text = unicodedata.normalize("NFKD", text)
    text = "".join(char for char in text if not unicodedata.combining(char))
    text = _SPEAKABLE.sub(" ", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+([,.?!;:])", r"\1", text)
    text = re.sub(r"[,;:]+([,.?!;:])", r"\1", text)
    text = re.sub(r"([.?!])[.,;:?!]+", r"\1", text).strip(" ,;:-")
    if not any(char.isalpha() for char in text):
        return ""
    return text if text[-1] in ".?!" else f"{text}."
