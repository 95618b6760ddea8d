"""What cannot be said aloud: each filter is one small named test of a user's turn.

They look for what a voice cannot read (code, tables, links, formulas), for requests whose only
good answer is such a thing, and for turns that nobody speaks (forms, very long ones, another
script than the dialogue's). The names are those of reports and of ``--no-filter``.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from fo_core.config import config


@config
class Limits:
    """Where a turn becomes too much to say."""

    words: int = 60  # of a turn; about 25 s
    characters: int = 120  # of a turn in Chinese; about 25 s
    lines: int = 3  # that are not empty
    digits: int = 7  # in a row; years, prices and sums stay below
    symbols: float = 0.1  # largest share of characters that are no letter, digit or usual mark
    foreign: float = 0.02  # largest share of letters of another script than the language's


Filter = Callable[[str, str, Limits], bool]

_LANGUAGES = (
    "python|java(?:script)?|typescript|c\\+\\+|c#|html|css|sql|php|ruby|rust|golang|bash|shell|perl|"
    "matlab|latex|regex|json|xml|yaml|vba"
)
_CODE = re.compile(
    r"```|`[^`\n]+`|^[ \t]*(?:def \w+\(|class \w+\s*[:({]|import \w+|from \w+ import |#include|#!/"
    r"|public (?:static|class|void)|function\s+\w*\s*\(|(?:var|let|const) \w+\s*=|<\?php|return .*;"
    r"|for\s*\(|while\s*\(|if\s*\(.*\)\s*\{)|\bselect\b.{1,60}\bfrom \w+\s*(?:;|where)"
    r"|\w\([^()\n]*\)\s*[;{]|[;{}]\s*\n.*[;{}]\s*$|=>|==|!=|\+\+|&&|\|\|",
    re.MULTILINE | re.IGNORECASE,
)
_ASKS_CODE = re.compile(
    r"\b(?:write|create|implement|generate|make|build|develop|construct|provide|show|give|code|fix|"
    r"debug|correct|optimi[sz]e|convert|design)\b.{0,60}\b(?:code|function|sql"
    r"|(?<!play )(?<!film )(?<!movie )(?<!video )(?<!radio )(?<!podcast )script"
    rf"|programs?(?= (?:to|that|which|in|using|with)\b)|{_LANGUAGES})(?!\w)"
    r"|(?:写|編寫|编写|实现|實現|创建|使用|利用|用|修改|优化|给出|给我|设计|生成).{0,30}"
    rf"(?:代码|代碼|函数|函數|脚本|腳本|程序|正则|{_LANGUAGES})",
    re.IGNORECASE | re.DOTALL,
)
_TABLE = re.compile(r"^[ \t]*\|.*\|\s*$|\|\s*:?-{2,}|\S\t+\S.*\t", re.MULTILINE)
_ASKS_TABLE = re.compile(
    r"\b(?:in|as|into|with|make|create|draw|generate)\b.{0,20}\b(?:tables?|spreadsheet|csv|chart|"
    r"diagram)\b(?! (?:for|tennis))|表格|图表|圖表|流程图|流程圖|(?:做|画|列)(?:一?[个张張])表",
    re.IGNORECASE,
)
_ASKS_PICTURE = re.compile(
    r"\b(?:draw|paint|sketch|generate|create|make|show|design)(?: me)? (?:an?|another|some)\b"
    r".{0,25}\b(?:image|picture|photo|drawing|painting|illustration|logo)s?\b|^[ \t]*draw\b"
    r"|(?:画|畫|绘制|生成).{0,20}(?:图|圖|画|畫|照片)|^.{0,6}(?:画|畫)(?:一|个|出)",
    re.IGNORECASE,
)
_ITEM = re.compile(
    r"^[ \t]*(?:[-*+•·]|\d{1,2}[.)、:]|[(（]?[a-hA-H一二三四五六七八九十][.)、）])\s*\S", re.M
)
_LINK = re.compile(
    r"https?:|www\.|\b[\w.+-]+@[\w-]+\.\w|\b[\w-]+\.(?:com|org|net|cn|io|gov|edu)\b"
    r"|(?:^|\s)(?:[a-z]:\\|~?/\w+/\w)",
    re.IGNORECASE,
)
_LATEX = re.compile(
    r"\$[^$\n]{1,80}[\\^_=+][^$\n]{0,80}\$|\\(?:frac|sqrt|sum|int|begin|left|cdot|times|alpha|beta|pi|[([])"
    r"|\w\^[\w{(]|[a-z]_\{|\b[a-z]_[a-z\d]\b|[√∑∫∂≤≥≠∞∈∀∃→⇒]"
    r"|\b\d*[a-z]\s?[=<>]\s?[-(]?\s?[\da-z]|\d\s?[*/^]\s?[\d(a-z]",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"</?[a-z][^<>]{0,80}>|<!--|^[ \t]*#{1,6} \S|\*\*\S|&\w{2,6};", re.I | re.M)
_BLANK = re.compile(
    r"\[[^\]\n]{1,40}\]|\{[^{}\n]{1,40}\}|<[^<>\n]{1,40}>|_{3,}|\.{5,}|…{3,}|【[^】\n]*】|\bXX+\b",
)
_SAME = re.compile(r"(.)\1{6,}", re.DOTALL)
_DIGITS = re.compile(r"\d+")
_PLAIN = re.compile(
    r"(?:[^\W_]++|[ ,?!'’，。？！、：；“”]++|\.(?![\w.])|-)*+"
)  # no structure in it
_CODE_WORDS = ("code", "function", "script", "program", "sql", "python", "java", "c++", "c#",
               "html", "css", "php", "ruby", "rust", "golang", "bash", "shell", "perl", "matlab",
               "latex", "regex", "json", "xml", "yaml", "vba", "代码", "代碼", "函数", "函數",
               "脚本", "腳本", "程序", "正则")  # fmt: skip
_TABLE_WORDS = ("table", "spreadsheet", "csv", "chart", "diagram", "表", "图", "圖")
_PICTURE_WORDS = ("image", "picture", "photo", "drawing", "painting", "illustration", "logo",
                  "draw", "画", "畫", "图", "圖", "照片")  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_MARKS = set(" \n\t.,;:!?'\"-()%$€£¥&/+，。！？、；：“”‘’《》（）…—–·「」『』")
_SCRIPTS = {  # where a script alone says the language; Latin letters count as English
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CYRILLIC": "ru",
    "ARABIC": "ar",
    "HEBREW": "he",
    "DEVANAGARI": "hi",
    "THAI": "th",
    "GREEK": "el",
    "CJK": "zh",
}
_SAME_SCRIPT = {  # languages that are written in the script of another one
    "be": "ru", "bg": "ru", "kk": "ru", "mk": "ru", "uk": "ru",
    "fa": "ar", "ur": "ar", "mr": "hi", "ne": "hi", "yi": "he",
}  # fmt: skip


@lru_cache(maxsize=65536)
def _letter_of(char: str) -> str:
    """The language that a letter's script stands for; "en" for Latin, "" for what is no letter."""
    if not char.isalpha():
        return ""
    script = unicodedata.name(char, "LATIN").split()[0]
    return _SCRIPTS.get(script, "en" if script in ("LATIN", "FULLWIDTH", "FEMININE") else "other")


def _letters(text: str) -> dict[str, int]:
    """How many letters of each script a text has, by language."""
    if text.isascii():
        count = sum(map(str.isalpha, text))
        return {"en": count} if count else {}
    found = Counter(map(_letter_of, text))
    del found[""]
    return found


def language_of(text: str) -> str:
    """The language of a text by its scripts: en, zh, ja, ko, ru ...; "" without any letter.

    A Han character weighs as three Latin letters; one letter in ten of Japanese kana makes it ja.
    """
    found = _letters(text)
    if not found:
        return ""
    if found.get("ja", 0) * 10 >= sum(found.values()):
        return "ja"
    return max(sorted(found), key=lambda name: found[name] * (3 if name == "zh" else 1))


def _has(text: str, words: Sequence[str]) -> bool:
    """Whether one of the words is in the text; a quick look before a slow expression."""
    low = text.lower()
    return any(word in low for word in words)


def code(text: str, language: str, limits: Limits) -> bool:
    """Program text, fenced or bare."""
    return _CODE.search(text) is not None


def asks_code(text: str, language: str, limits: Limits) -> bool:
    """A request that only program text answers."""
    return _has(text, _CODE_WORDS) and _ASKS_CODE.search(text) is not None


def table(text: str, language: str, limits: Limits) -> bool:
    """A table in Markdown or with tabs."""
    return _TABLE.search(text) is not None


def asks_table(text: str, language: str, limits: Limits) -> bool:
    """A request for a table, a chart or a diagram."""
    return _has(text, _TABLE_WORDS) and _ASKS_TABLE.search(text) is not None


def asks_picture(text: str, language: str, limits: Limits) -> bool:
    """A request for a picture."""
    return _has(text, _PICTURE_WORDS) and _ASKS_PICTURE.search(text) is not None


def listing(text: str, language: str, limits: Limits) -> bool:
    """Two list items or more."""
    return "\n" in text and len(_ITEM.findall(text)) > 1


def link(text: str, language: str, limits: Limits) -> bool:
    """A web or mail address, or the path of a file."""
    return _LINK.search(text) is not None


def latex(text: str, language: str, limits: Limits) -> bool:
    """LaTeX or a formula."""
    return _LATEX.search(text) is not None


def markup(text: str, language: str, limits: Limits) -> bool:
    """HTML or Markdown."""
    return _MARKUP.search(text) is not None


def blank(text: str, language: str, limits: Limits) -> bool:
    """A form with something left to fill in: [name], {topic}, ____."""
    return _BLANK.search(text) is not None


def digits(text: str, language: str, limits: Limits) -> bool:
    """A number that nobody reads out whole."""
    return any(len(number) > limits.digits for number in _DIGITS.findall(text))


def symbols(text: str, language: str, limits: Limits) -> bool:
    """Too many characters that no voice says, emoji for one."""
    odd = sum(not (char.isalnum() or char in _MARKS) for char in text)
    return odd > max(2, limits.symbols * len(text))


def lines(text: str, language: str, limits: Limits) -> bool:
    """Several paragraphs: a pasted text, a poem, a letter."""
    return sum(bool(line.strip()) for line in text.split("\n")) > limits.lines


def long(text: str, language: str, limits: Limits) -> bool:
    """More than one says in a breath or two."""
    if 2 * len(text) < min(limits.characters, limits.words):
        return False
    if language == "zh":
        han = len(_HAN.findall(text))
        return han + 2 * len(_WORD.findall(_HAN.sub(" ", text))) > limits.characters
    return len(_WORD.findall(text)) > limits.words


def repeats(text: str, language: str, limits: Limits) -> bool:
    """A character seven times or a word five times in a row."""
    if _SAME.search(text):
        return True
    times, last = 0, ""
    for word in text.lower().split():
        times = times + 1 if word.strip(".,!?") == last else 1
        last = word.strip(".,!?")
        if times > 4:
            return True
    return False


def script(text: str, language: str, limits: Limits) -> bool:
    """No letters at all, or letters that a voice of the dialogue's language cannot read."""
    language = language.replace("_", "-").split("-")[0].lower()
    if language == "en" and text.isascii() and not text.isdigit():
        return not any(map(str.isalnum, text))
    found = _letters(text)
    total = sum(found.values())
    if not total:
        return not any(map(str.isdigit, text))
    readable = _readable(found, language)
    if language == "zh" and language_of(text) != "zh":
        return True
    return total - readable > limits.foreign * total


def _readable(found: dict[str, int], language: str) -> int:
    """How many of the letters, by language, are of the script of ``language``."""
    language = _SAME_SCRIPT.get(language, language)
    if language == "zh":
        return found.get("zh", 0) + found.get("en", 0)
    if language in _SCRIPTS.values():
        return found.get(language, 0)
    return max(found.get("en", 0), found.get("other", 0))  # Latin, or a script that is not listed


FILTERS: dict[str, Filter] = {
    check.__name__.replace("_", "-"): check
    for check in (
        code,
        asks_code,
        table,
        asks_table,
        asks_picture,
        listing,
        link,
        latex,
        markup,
        blank,
        digits,
        symbols,
        lines,
        long,
        repeats,
        script,
    )
}


_NEED_STRUCTURE = {"code", "table", "link", "latex", "markup", "symbols"}


def faults(
    text: str, language: str, limits: Limits, checks: dict[str, Filter] | None = None
) -> list[str]:
    """Names of the filters that a turn does not pass, in their order; [] if it can be said.

    Args:
        text: What the user says.
        language: Of the dialogue.
        limits: Where too much begins.
        checks: The filters that are on; None is all of them.
    """
    on = FILTERS if checks is None else checks
    if "long" in on and len(text) > 20 * max(limits.words, limits.characters):
        return ["long"]  # whatever else it holds
    plain = _PLAIN.fullmatch(text) is not None
    return [
        name
        for name, check in on.items()
        if not (plain and name in _NEED_STRUCTURE) and check(text, language, limits)
    ]
