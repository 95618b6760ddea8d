"""What is written but not said, in any language: Markdown, HTML, addresses, control characters."""

from __future__ import annotations

import re
import unicodedata

DOT, AT = "\ue000", "\ue001"  # stand in a web or mail address for what its language calls them
_TOP = "com|org|net|edu|gov|int|info|io|ai|dev|app|co|me|tv|cn|uk|de|fr|jp|us|eu|ru|it|es|in|au|ca"
_HOST = rf"(?:[A-Za-z0-9-]{{1,63}}\.){{1,6}}(?:{_TOP})"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r" {2,}"), " "),
    (re.compile(r"\n\s+"), "\n"),
    (re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.S), " "),  # code
    (re.compile(r"<!--[^<]*-->|</?[A-Za-z][^<>\n]*>"), " "),  # HTML
    (re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)"), r"\1"),  # links, pictures
    (re.compile(r"\[\^?\d{1,3}\]"), ""),  # notes
    (re.compile(r"^[ |:-]*--[ |:-]*$", re.M), ""),  # rules of tables, lines across the page
    (re.compile(r"^ ?(?:[*_=] ?){3,}$", re.M), ""),
    (re.compile(r"^ ?(?:> ?)+", re.M), ""),  # quotations
    (re.compile(r"^ ?#{1,6} ", re.M), ""),  # headings
    (re.compile(r"^ ?(?:[-*+•]|\d{1,2}[.)]) ", re.M), ""),  # lists
    (re.compile(r"(\*{1,3}|~~)(?=\S)([^*~\n]+)(?<=\S)\1"), r"\2"),  # emphasis
    (re.compile(r"(?<!\w)(_{1,3})(?=\S)([^_\n]+)(?<=\S)\1(?!\w)"), r"\2"),
    (re.compile(r"`+"), ""),
    (re.compile(r" ?\| ?"), ", "),
)
_SELECTORS = re.compile("[\ufe00-\ufe0f\u20d0-\u20ff]")  # say how an emoji looks
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # of a terminal
_PLAIN = re.compile(r"[ -~\n]*")
_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,6}[A-Za-z]{2,}")
_URL = re.compile(r"(?:https?|ftp)://(?:www\.)?([^\s/?#:，。、）)]*)[^\s，。、）)]*", re.I)
_BARE = re.compile(rf"(?<![\w@.-])(?:www\.)?({_HOST})(?![\w-]|\.\w)(?:/[^\s，。、）)]*)?", re.I)


def plain(text: str) -> str:
    """Text without markup; lines stay apart, and addresses are reduced to what is read of them.

    A web address keeps its host. In hosts and mail addresses :data:`DOT` and :data:`AT` stand for
    the signs, because a later rule could not tell them from a full stop.
    """
    text = _COLOURS.sub("", text)
    if not _PLAIN.fullmatch(text):
        text = "".join(_kept(char) for char in text)
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    text = _MAIL.sub(lambda m: _address(m.group(0)), text)
    text = _URL.sub(lambda m: _address(m.group(1).rstrip(".,;!")) + _end(m.group(0)), text)
    return _BARE.sub(lambda m: _address(m.group(1)) + _end(m.group(0)), text)


def without_signs(text: str) -> str:
    """Text without emoji and other pictures, marks of private use and unassigned characters.

    Marks above and below letters stay: vowels and tones of many scripts are such marks.
    """
    text = _SELECTORS.sub("", text)
    return "".join(c for c in text if unicodedata.category(c) not in ("So", "Sk", "Co", "Cn", "Me"))


def _kept(char: str) -> str:
    category = unicodedata.category(char)
    if char in "\r\n\u2028\u2029":
        return "\n"
    if category in ("Cc", "Zs", "Zl", "Zp"):
        return " "
    return "" if category in ("Cf", "Cs", "Co", "Cn") else char


def _address(text: str) -> str:
    return " " + text.replace(".", DOT).replace("@", AT) + " "


def _end(address: str) -> str:
    """The mark that ends the sentence, which an address must not swallow."""
    return address[-1] if address[-1] in ".,;!?" else ""
