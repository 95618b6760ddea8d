"""moss-003 conversations, as they are published, and the other public layout of the kind.

A record of moss-003 has ``chat`` = {``turn_1``: {``Human``, ``Inner Thoughts``, ``Commands``,
``Tool Responses``, ``MOSS``}, ...}, every text inside markers such as ``<|Human|>: ...<eoh>``; in
the other layout ``conversation`` = [{``human``, ``assistant``}, ...]. A turn that gave a command
to a tool is a tool turn.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from data_prep.sources.dialogues import Turn
from fo_core.errors import DataError

_MARKERS = re.compile(
    r"<\|(?:Human|Inner Thoughts|Commands|Results|MOSS)\|>\s*:?|<eo[htcrm]>"
    r"|<sup>\s*(?:<\|\d+\|>\s*)+</sup>"  # where a statement was found on the web
)
_SPANS = ((0, 9), (11, 32), (127, 128), (0x200B, 0x2010), (0x2028, 0x202F), (0xFEFF, 0xFF00))
_CONTROL = {code: None for first, end in _SPANS for code in range(first, end)}
_NUMBER = re.compile(r"turn_?(\d+)$", re.IGNORECASE)


@dataclass(frozen=True)
class Conversation:
    """A record that is in order."""

    turns: tuple[Turn, ...]
    tools: tuple[bool, ...]  # whether the turn used a tool
    category: str
    missing: int  # turns that were None or empty

    def digest(self) -> str:
        """Hash of what the user says: the same whatever file it came in; twins share it."""
        said = "\x1e".join(turn.user for turn in self.turns)
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()


def strip_markers(text: str) -> str:
    """Text without moss-003's markers, control characters and outer white space."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "<" in text:
        text = _MARKERS.sub("", text)
    if not text.replace("\n", "").isprintable():
        text = text.translate(_CONTROL)
    return text.strip()


def parse(record: Any) -> Conversation:
    """A conversation from a record of either layout.

    Turns that are None, or in which the user says nothing, are skipped: loaders that fill up
    missing turns with None exist.

    Raises:
        DataError: A field is of the wrong kind, or no turn is left.
    """
    if not isinstance(record, dict):
        raise DataError(f"a record is {_kind(record)}", possible="a JSON object")
    turns, tools, missing = [], [], 0
    for name, value in _turns(record):
        if value is None:
            missing += 1
            continue
        if not isinstance(value, dict):
            raise DataError(f"{name} is {_kind(value)}", possible="an object")
        user = _text(value, name, "Human", "human", "user")
        if not user:
            missing += 1
            continue
        turns.append(Turn(user, _text(value, name, "MOSS", "assistant", "bot") or None))
        tools.append(_text(value, name, "Commands") not in ("", "None"))
    if not turns:
        raise DataError("no turns")
    category = record.get("category")
    if not isinstance(category, str | None):
        raise DataError(f"category is {_kind(category)}", possible="text")
    try:
        "".join(turn.user + (turn.assistant or "") for turn in turns).encode()
    except UnicodeEncodeError as error:
        raise DataError("text that is not Unicode (half a surrogate pair)") from error
    return Conversation(tuple(turns), tuple(tools), (category or "").strip().lower(), missing)


def _turns(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, value) of every turn, in order."""
    for key in ("chat", "conversation"):
        if record.get(key) is None:
            continue
        found = record[key]
        if isinstance(found, list):
            for number, value in enumerate(found, 1):
                yield f"{key} {number}", value
        elif isinstance(found, dict):
            numbered = [(_NUMBER.match(name), name) for name in found]
            for _, name in sorted((int(m[1]), name) for m, name in numbered if m):
                yield name, found[name]
        else:
            raise DataError(f"{key} is {_kind(found)}", possible="turns")
        return
    raise DataError("no turns", possible="an object with chat or conversation")


def _text(turn: dict[str, Any], name: str, *keys: str) -> str:
    """The text under the first key there is, stripped; empty where it is missing or None."""
    value = next((turn[key] for key in keys if turn.get(key) is not None), "")
    if not isinstance(value, str):
        raise DataError(f"{name} {keys[0]} is {_kind(value)}", possible="text")
    return strip_markers(value)


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}"
