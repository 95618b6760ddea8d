"""Public evaluation sets: one file each, found by its name; adding a set is adding a file.

A file says its ``KIND``. A set of questions (``KIND = "questions"``) has ``TITLE``, ``COLUMN`` (its
name in the paper's table, or ""), ``LANGUAGE``, ``PATTERNS`` (names of its published files) and
``read(path) -> list[Question]``. Where it says ``RECORDED = True``, its own recordings are what is
asked; where it has ``SUBSETS``, ``read(folder, subsets)`` reads a whole suite; ``export(rows, out,
model)`` writes the answers as the suite's own scorer reads them; ``HUB`` is its id on the Hugging
Face hub and ``FILES`` what of it is fetched. A set of recordings for a live model
(``KIND = "duplex"``) has ``read(folder) -> rows, left out``. A set of transcribed speech
(``KIND = "speech"``) has ``TITLE``, ``COLUMNS`` (its parts and their names in the paper's table),
``LANGUAGE`` and ``read(corpus, part) -> list[Item]``. Importing a file must be cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

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
    category: str = ""  # part of the set that is also scored by itself
    rule: str = "contains"  # of eval.metrics.rules
    earlier: tuple[str, ...] = ()  # recordings of the same talk's turns before this one
    published: Mapping[str, Any] = field(default_factory=dict)  # fields for the suite's own scorer


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
