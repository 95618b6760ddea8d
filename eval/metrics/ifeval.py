"""IFEval: does a reply follow instructions that a rule can check? (arXiv 2311.07911)

An item names instructions (``instruction_id_list``) with their settings (``kwargs``); it is right
when all of them are followed, strictly. ``language:response_language`` needs a language detector,
which is not at hand: an item with it has no score here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Settings = Mapping[str, Any]
CHOICES = ("my answer is yes.", "my answer is no.", "my answer is maybe.")


def follows(reply: str, instructions: Sequence[str], settings: Sequence[Any]) -> bool | None:
    """Whether a reply follows all instructions; None where one of them cannot be checked.

    Args:
        reply: What was said.
        instructions: Their names, such as ``punctuation:no_comma``.
        settings: Of each, or fewer.
    """
    if not instructions or any(name not in _CHECKS for name in instructions):
        return None
    padded = [*settings, *[{}] * len(instructions)]
    try:
        return bool(reply.strip()) and all(
            _CHECKS[name](reply, {k: v for k, v in (how or {}).items() if v is not None})
            for name, how in zip(instructions, padded, strict=False)
        )
    except (LookupError, TypeError, ValueError):  # settings that are not as published
        return None


def _compared(count: int, relation: Any, wanted: Any) -> bool:
    return count < int(wanted) if relation == "less than" else count >= int(wanted)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _sentences(text: str) -> int:
    parts = re.split(r"(?<=[.!?])[\"')\]]*\s+|\n+", text.strip())
    return sum(any(char.isalnum() for char in part) for part in parts)


def _paragraphs(text: str, mark: str = r"\s?\*\*\*\s?") -> list[str]:
    return [part for part in re.split(mark, text) if part.strip()]


def _has(text: str, word: Any) -> int:
    return len(re.findall(rf"\b{re.escape(str(word))}\b", text, re.IGNORECASE))


def _json(text: str) -> bool:
    plain = re.sub(r"^\s*```(?:json)?|```\s*$", "", text.strip(), flags=re.IGNORECASE)
    try:
        json.loads(plain)
    except ValueError:
        return False
    return True


def _nth_paragraph(text: str, how: Settings) -> bool:
    parts = [part for part in re.split(r"\n\n", text) if part.strip()]
    place = int(how["nth_paragraph"])
    if len(parts) != int(how["num_paragraphs"]) or place > len(parts):
        return False
    first = _words(parts[place - 1])[:1]
    return bool(first) and first[0].lower() == str(how["first_word"]).lower()


def _postscript(text: str, how: Settings) -> bool:
    letters = re.sub(r"\W", "", str(how.get("postscript_marker", "P.S.")))
    mark = r"\.?\s?".join(letters)
    return bool(re.search(rf"^\s*{mark}\.?\s?\S|\s{mark}\.", text, re.IGNORECASE | re.MULTILINE))


def _two_responses(text: str) -> bool:
    parts = [part.strip() for part in text.split("******")]
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def _highlights(text: str) -> int:
    double = re.findall(r"\*\*[^\n*]+\*\*", text)
    single = re.findall(r"(?<!\*)\*[^\n*]+\*(?!\*)", text)
    return len(double) + len(single)


def _repeats(text: str, how: Settings) -> bool:
    return text.strip().lower().startswith(str(how["prompt_to_repeat"]).strip().lower())


def _capitals(text: str) -> int:
    return sum(word.isupper() for word in re.findall(r"\b[^\W\d_]+(?:-[^\W\d_]+)*\b", text))


def _letters(text: str, how: Settings) -> bool:
    count = text.lower().count(str(how["letter"]).lower())
    return _compared(count, how["let_relation"], how["let_frequency"])


def _quoted(text: str) -> bool:
    plain = text.strip()
    return len(plain) > 1 and plain[0] == plain[-1] == '"'


def _ends(text: str, how: Settings) -> bool:
    plain = text.strip().strip('"').lower()
    return plain.endswith(str(how["end_phrase"]).strip().lower())


_CHECKS: dict[str, Callable[[str, Settings], bool]] = {
    "keywords:existence": lambda t, h: all(_has(t, word) for word in h["keywords"]),
    "keywords:forbidden_words": lambda t, h: not any(_has(t, w) for w in h["forbidden_words"]),
    "keywords:frequency": lambda t, h: _compared(
        _has(t, h["keyword"]), h["relation"], h["frequency"]
    ),
    "keywords:letter_frequency": _letters,
    "length_constraints:number_words": lambda t, h: _compared(
        len(_words(t)), h["relation"], h["num_words"]
    ),
    "length_constraints:number_sentences": lambda t, h: _compared(
        _sentences(t), h["relation"], h["num_sentences"]
    ),
    "length_constraints:number_paragraphs": lambda t, h: (
        len(_paragraphs(t)) == int(h["num_paragraphs"])
    ),
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:number_placeholders": lambda t, h: (
        len(re.findall(r"\[.*?\]", t)) >= int(h["num_placeholders"])
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": lambda t, h: (
        len(re.findall(r"^\s*(?:\*[^*]|-)\s*.*$", t, re.MULTILINE)) == int(h["num_bullets"])
    ),
    "detectable_format:constrained_response": lambda t, h: any(one in t.lower() for one in CHOICES),
    "detectable_format:number_highlighted_sections": lambda t, h: (
        _highlights(t) >= int(h["num_highlights"])
    ),
    "detectable_format:multiple_sections": lambda t, h: (
        len(re.findall(rf"\s?{re.escape(str(h['section_spliter']))}\s?\d+\s?", t))
        >= int(h["num_sections"])
    ),
    "detectable_format:json_format": lambda t, h: _json(t),
    "detectable_format:title": lambda t, h: bool(re.search(r"<<[^\n<>]*\w[^\n<>]*>>", t)),
    "combination:two_responses": lambda t, h: _two_responses(t),
    "combination:repeat_prompt": _repeats,
    "startend:end_checker": _ends,
    "startend:quotation": lambda t, h: _quoted(t),
    "change_case:capital_word_frequency": lambda t, h: _compared(
        _capitals(t), h["capital_relation"], h["capital_frequency"]
    ),
    "change_case:english_capital": lambda t, h: t.isupper(),
    "change_case:english_lowercase": lambda t, h: t.islower(),
    "punctuation:no_comma": lambda t, h: "," not in t,
}
