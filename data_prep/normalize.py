"""English text as it is spoken: numbers, symbols, Markdown and addresses become words.

The usual number library (num2words) is LGPL, so integers, decimals, ordinals, years, money and
per cent are spelled here; anything rarer is left to the synthesiser.
"""

from __future__ import annotations

import re

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_UNITS = {
    "km": "kilometers",
    "cm": "centimeters",
    "mm": "millimeters",
    "kg": "kilograms",
    "mph": "miles an hour",
    "°C": "degrees Celsius",
    "°F": "degrees Fahrenheit",
    "%": "percent",
}
_SYMBOLS = {
    "&": " and ",
    "+": " plus ",
    "=": " equals ",
    "@": " at ",
    "×": " times ",
    "°": " degrees ",
}
_SHORT = {"e.g.": "for example", "i.e.": "that is", "etc.": "and so on", "vs.": "versus"}
_SPEAKABLE = re.compile(r"[^A-Za-z' ,.?!;:\-]")


def number_words(value: int) -> str:
    """An integer in words, without "and": 365 is "three hundred sixty five"."""
    if value < 0:
        return f"minus {number_words(-value)}"
    if value < 20:
        return _ONES[value]
    if value < 100:
        tens, ones = divmod(value, 10)
        return _TENS[tens] + (f" {_ONES[ones]}" if ones else "")
    for size, name in _SCALES:
        if value >= size:
            if value // size >= 1000:
                break
            many, rest = divmod(value, size)
            return f"{number_words(many)} {name}" + (f" {number_words(rest)}" if rest else "")
    return " ".join(_ONES[int(digit)] for digit in str(value))


def ordinal_words(value: int) -> str:
    """21 is "twenty first"."""
    *head, last = number_words(value).split()
    if last in _ORDINALS:
        last = _ORDINALS[last]
    else:
        last = f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"
    return " ".join([*head, last])


def year_words(value: int) -> str:
    """1969 is "nineteen sixty nine"; 2005 is "two thousand five"."""
    century, rest = divmod(value, 100)
    if value < 1100 or value > 2099 or 2000 <= value < 2010:
        return number_words(value)
    if rest == 0:
        return f"{number_words(century)} hundred"
    return f"{number_words(century)} {'oh ' if rest < 10 else ''}{number_words(rest)}"


def _number(match: re.Match[str]) -> str:
    text = match.group(0).replace(",", "")
    whole, _, part = text.partition(".")
    if part:
        return f"{number_words(int(whole))} point {' '.join(_ONES[int(d)] for d in part)}"
    if len(whole) == 4 and "," not in match.group(0) and 1100 <= int(whole) <= 2099:
        return year_words(int(whole))
    return number_words(int(whole))


def _money(match: re.Match[str]) -> str:
    coin = {"$": "dollar", "€": "euro", "£": "pound"}[match.group(1)]
    amount = match.group(2)
    return f"{amount} {coin}{'' if amount == '1' else 's'}"


def speakable(text: str) -> str:
    """Text that any English voice reads as meant; empty if there is nothing to say.

    Args:
        text: An LLM's answer or a user's turn, possibly with Markdown.

    Returns:
        One line of letters, apostrophes and sentence punctuation, ending in . ? or !
    """
    text = re.sub(r"```.*?```", " ", text, flags=re.S)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"https?://\S+|www\.\S+", " ", text)
    text = re.sub(r"^\s*(?:[-*+•]|\d{1,2}[.)])\s+", "", text, flags=re.M)
    text = re.sub(r"[*_`#>|~]+", " ", text)
    for short, long in _SHORT.items():
        text = text.replace(short, long)
    text = re.sub(r"([$€£])(\d[\d,]*(?:\.\d+)?)", _money, text)
    for unit, word in _UNITS.items():
        text = re.sub(rf"(?<=\d)\s?{re.escape(unit)}(?![A-Za-z])", f" {word}", text)
    text = re.sub(r"(\d+)(?:st|nd|rd|th)\b", lambda m: ordinal_words(int(m.group(1))), text)
    text = re.sub(r"(?<![\w.])-(?=\d)", "minus ", text)
    text = re.sub(r"\d[\d,]*(?:\.\d+)?(?<!,)", _number, text)
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    text = text.translate(str.maketrans("’‘“”–—()\n", "''\"\",,,,,"))
    text = _SPEAKABLE.sub(" ", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+([,.?!;:])", r"\1", text)
    text = re.sub(r"[,;:]+([,.?!;:])", r"\1", text)
    text = re.sub(r"([.?!])[.,;:?!]+", r"\1", text).strip(" ,;:-")
    if not any(char.isalpha() for char in text):
        return ""
    return text if text[-1] in ".?!" else f"{text}."
