"""Public evaluation sets: one file each, found by its name; adding a set is adding a file.

A file says its ``KIND``. A set of questions (``KIND = "questions"``) has ``TITLE``, ``COLUMN`` (its
name in the paper's table, or ""), ``LANGUAGE``, ``PATTERNS`` (names of its published files) and
``read(path) -> list[Question]``. A set of transcribed speech (``KIND = "speech"``) has ``TITLE``,
``COLUMNS`` (its parts and their names in the paper's table), ``LANGUAGE`` and
``read(corpus, part) -> list[Item]``. Importing a file must be cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from fo_core.errors import EngineError
from fo_core.registry import Registry, did_you_mean

SETS = Registry("evaluation set", "eval.sets")


@dataclass(frozen=True)
class Question:
    """A question with its accepted answers."""

    id: str
    text: str
    answers: tuple[str, ...]  # any of them is right
    audio: str = ""  # the set's own recording, where it has one


def names(kind: str) -> list[str]:
    """Names of the sets of one kind."""
    return [name for name in SETS.names() if SETS.load(name).KIND == kind]


def load(name: str, kind: str) -> ModuleType:
    """A set by its name.

    Raises:
        EngineError: There is none of this name and kind.
    """
    known = names(kind)
    if name not in known:
        raise EngineError(f"unknown set of {kind} {name!r}", possible=did_you_mean(name, known))
    return SETS.load(name)
