"""Languages without rules of their own: numbers are read, pictures and markup go."""

from __future__ import annotations

import functools
import re

from fo_core.normalize._markup import AT, DOT, without_signs
from fo_core.normalize._numbers import words

ENDS = ".?!。？！؟।…"
# Where a comma is the decimal sign, and a full stop, a space or an apostrophe groups digits; in all
# others it is the other way round (India's groups of two are taken there, too).
COMMA = frozenset(
    "af az be bg bs ca cs da de el es et eu fi fr gl hr hu hy id is it ka kk kz lt lv mk nb nl nn "
    "no pl pt ro ru sk sl sq sr sv tg tr uk uz vi".split()
)
ORDINAL = frozenset("bs cs da de et fi hr hu is lv nb nn no pl sk sl sr tr".split())  # "3. Mai"
# Written without a space before the next word; of Korean all but the counters with native numbers.
ATTACHED = {"th": "", "ko": "시개명살마리번잔권대병장가사달곳그켤벌채척"}
_SIGNS = r"(?<![\w.,:/])-?"
_AFTER = r"(?!\w|[.,:/]\d|\.?[ºª])"
_DOTTED = re.compile(rf"{_SIGNS}(?:\d{{1,3}}(?:,\d{{2,3}})*,\d{{3}}|\d{{1,18}})(?:\.\d+)?{_AFTER}")
_COMMAED = re.compile(
    rf"{_SIGNS}(?:\d{{1,3}}(?P<group>[. '’])\d{{3}}(?:(?P=group)\d{{3}})*(?:,\d+)?"
    rf"|\d{{1,18}}(?:[.,]\d+)?){_AFTER}"
)


def read(text: str, language: str) -> str:
    """One line in any language; empty if there is no letter or digit in it.

    Numbers become words where num2words knows the language, grouped as the language groups them;
    times, dates, fractions and ordinals with a full stop are left to the synthesiser.
    """
    comma = language in COMMA

    def number(match: re.Match[str]) -> str:
        after = match.string[match.end() : match.end() + 3]
        if language in ORDINAL and re.match(r"\.\s\w", after) and len(match.group(0)) < 3:
            return match.group(0)
        try:
            return words(_plain(match.group(0), comma), language)
        except (LookupError, TypeError, ArithmeticError, ValueError, NotImplementedError):
            return match.group(0)

    text = text.replace(DOT, " ").replace(AT, " ")
    text = _pattern(language).sub(number, text)
    return tidy(text)


@functools.cache
def _pattern(language: str) -> re.Pattern[str]:
    """Numbers of a language."""
    if language not in ATTACHED:
        return _COMMAED if language in COMMA else _DOTTED
    own = f"[{ATTACHED[language]}]|" if ATTACHED[language] else ""
    attached = rf"(?!{own}[A-Za-z]|\d|[.,:/]\d)"
    found = _DOTTED.pattern.replace(_AFTER, attached)
    return re.compile(found.replace(_SIGNS, r"(?<![A-Za-z\d.,:/])-?"))


def tidy(text: str) -> str:
    """One line without signs of markup, with a mark at its end; empty without letters or digits."""
    text = re.sub(r"[*_`#<>|~^\\{}\[\]]+", " ", without_signs(text)).replace("\n", ", ")
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+([,.?!;:])", r"\1", text)
    text = re.sub(r"[,;:]+(?=[,.?!;:])", "", text).strip(" ,;:-")
    if not any(char.isalnum() for char in text):
        return ""
    return text if text[-1] in ENDS else f"{text}."


@functools.lru_cache(maxsize=8192)
def _plain(number: str, comma: bool) -> str:
    """Digits with one decimal point at most."""
    if not comma:
        return number.replace(",", "")
    whole, _, part = number.partition(",")
    grouped = re.fullmatch(r"-?\d{1,3}\.\d{3}", whole)
    if not part and not grouped and re.fullmatch(r"-?\d+\.\d+", whole):
        return whole  # 1.5 or 1.25: a point as elsewhere
    return re.sub(r"[. '’]", "", whole) + (f".{part}" if part else "")
