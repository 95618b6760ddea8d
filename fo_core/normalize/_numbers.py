"""Numbers as words, by num2words."""

from __future__ import annotations

import functools

LONGEST = 15  # digits; longer numbers are read digit by digit
POINTS = {
    "es": "coma",
    "tr": "virgül",
}  # where num2words has another word between the whole and the rest
MINUS = {"vi": "âm", "pl": "minus", "cs": "minus", "sk": "mínus", "tr": "eksi"}  # where it has none
FRACTIONS = ("ru", "be", "hu")  # "three and five tenths": read as a whole


@functools.lru_cache(maxsize=8192)
def words(number: str, language: str = "en", kind: str = "cardinal") -> str:
    """A number as words, without hyphens and without the English "and".

    Args:
        number: Digits, perhaps with a minus and one decimal point.
        language: One of num2words' language codes.
        kind: "cardinal", "ordinal" or "year".

    Raises:
        NotImplementedError: num2words does not know the language, or this kind in it.
    """
    from num2words import num2words

    whole, _, part = number.lstrip("-").partition(".")
    if len(whole) > LONGEST or (len(whole) > 1 and whole[0] == "0" and not part):
        said = " ".join(num2words(int(digit), lang=language) for digit in whole)
    else:
        said = str(num2words(int(whole or "0"), lang=language, to=kind))
    if part and language in FRACTIONS:
        said = str(num2words(f"{whole}.{part}", lang=language))
    elif part:
        point = " point " if language == "en" else f" {_point(language)} "
        said += point + " ".join(num2words(int(digit), lang=language) for digit in part)
    if language == "en":
        said = said.replace("-", " ").replace(",", "").replace(" and ", " ")
        said = f"minus {said}" if number.startswith("-") else said
    elif number.startswith("-"):
        said = f"{_minus(language)} {said}"
    return said


@functools.cache
def _point(language: str) -> str:
    """The word between the whole and the rest, as num2words has it for 1.5."""
    from num2words import num2words

    found = POINTS.get(language) or str(num2words(1.5, lang=language)).split()[1]
    if not found.isalpha():
        raise NotImplementedError(f"no decimals in {language!r}")
    return found


@functools.cache
def _minus(language: str) -> str:
    """The word before a negative number, as num2words has it for -1."""
    from num2words import num2words

    if language in MINUS:
        return MINUS[language]
    said, one = (str(num2words(n, lang=language)) for n in (-1, 1))
    if not said.endswith(one):
        raise NotImplementedError(f"no negative numbers in {language!r}")
    return said.removesuffix(one).strip()
