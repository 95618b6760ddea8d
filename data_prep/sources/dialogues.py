"""Written dialogues and single sentences: the rows of the first steps, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fo_core.errors import DataError
from fo_core.io.files import write_jsonl


@dataclass(frozen=True)
class Turn:
    """What the user says, and the data's own answer where it has one."""

    user: str
    assistant: str | None = None
    sound: dict[str, Any] | None = None  # cut of the user's recording, where there is one

    def to_dict(self) -> dict[str, Any]:
        """Its part of the dialogue's row."""
        row: dict[str, Any] = {"user": self.user, "assistant": self.assistant}
        return row if self.sound is None else {**row, "sound": self.sound}


@dataclass(frozen=True)
class Dialogue:
    """A conversation of at least one turn."""

    id: str  # unique; letters and digits only, so that files can be named after it
    turns: tuple[Turn, ...]
    language: str = "en"  # by the script of the user's turns
    category: str = ""  # lower case; empty where the data has none
    source: str = ""  # file:line it was read from
    extra: dict[str, Any] = field(default_factory=dict)  # for ``custom`` of its cuts: split, fact

    def to_dict(self) -> dict[str, Any]:
        """The row of ``dialogues.jsonl``."""
        row: dict[str, Any] = {
            "id": self.id,
            "category": self.category,
            "language": self.language,
            "turns": [turn.to_dict() for turn in self.turns],
            "source": self.source,
        }
        return {**row, "extra": self.extra} if self.extra else row

    @classmethod
    def from_dict(cls, row: Any) -> Dialogue:
        """A dialogue from its row.

        Raises:
            DataError: A field is missing, empty or of the wrong kind.
        """
        if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not row["id"]:
            raise DataError("not a dialogue: it has no id", possible="rows that sample writes")
        turns = row.get("turns")
        if not isinstance(turns, list) or not turns:
            raise DataError(f"dialogue {row['id']} has no turns")
        made = []
        for number, turn in enumerate(turns):
            user = turn.get("user") if isinstance(turn, dict) else None
            answer = turn.get("assistant") if isinstance(turn, dict) else None
            if not isinstance(user, str) or not user.strip():
                raise DataError(f"dialogue {row['id']} turn {number}: the user says nothing")
            if not isinstance(answer, str | None):
                raise DataError(f"dialogue {row['id']} turn {number}: the answer is not text")
            sound = turn.get("sound") if isinstance(turn, dict) else None
            made.append(Turn(user, answer, sound if isinstance(sound, dict) else None))
        texts = {k: str(row.get(k) or "") for k in ("language", "category", "source")}
        extra = row.get("extra")
        return cls(row["id"], tuple(made), texts["language"] or "en", texts["category"],
                   texts["source"], extra if isinstance(extra, dict) else {})  # fmt: skip


@dataclass(frozen=True)
class Sentence:
    """A text that is read aloud and answers nobody."""

    id: str  # unique; letters, digits, "-", "_", "." only
    text: str
    language: str = "en"
    source: str = ""  # file:line it was read from
    extra: dict[str, Any] = field(default_factory=dict)  # for ``custom`` of its cut

    def to_dict(self) -> dict[str, Any]:
        """Its row."""
        row: dict[str, Any] = {
            "id": self.id,
            "language": self.language,
            "text": self.text,
            "source": self.source,
        }
        return {**row, "extra": self.extra} if self.extra else row

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Sentence:
        """A sentence from its row.

        Raises:
            DataError: A field is missing, empty or of the wrong kind.
        """
        if not isinstance(row.get("id"), str) or not row["id"]:
            raise DataError("not a sentence: it has no id", possible="rows that sample writes")
        if not isinstance(row.get("text"), str) or not row["text"].strip():
            raise DataError(f"sentence {row['id']} has no text")
        extra = row.get("extra")
        return cls(row["id"], row["text"], str(row.get("language") or "en"),
                   str(row.get("source") or ""),
                   extra if isinstance(extra, dict) else {})  # fmt: skip


def read(path: str | Path) -> Iterator[Dialogue]:
    """Dialogues of a file, one after the other, in bounded memory.

    Raises:
        DataError: The file is missing, or a line is not a dialogue (its number is named).
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    dialogue = Dialogue.from_dict(json.loads(line))
                except (ValueError, RecursionError, DataError) as error:
                    raise DataError(f"{path} line {number}: {error}") from error
                yield dialogue
    except FileNotFoundError as error:
        raise DataError(f"no dialogues {path}", do="run fo prepare-data sample first") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def write(path: str | Path, dialogues: Iterable[Dialogue]) -> int:
    """Write dialogues atomically; returns how many."""
    return write_jsonl(path, (dialogue.to_dict() for dialogue in dialogues))
