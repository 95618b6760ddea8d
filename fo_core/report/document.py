"""What a report says, before how it looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MISSING = "not measured"
# labels of a sample's texts
ASKED, HEARD, ANSWER = "Question asked", "Heard by the model", "Answer, as text"
TYPED, JUDGED = "Answer to the typed question", "Judge heard in the reply"


@dataclass(frozen=True)
class Table:
    """Text cells; ``numeric`` columns are set to the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[int] = ()


@dataclass(frozen=True)
class Picture:
    """A picture, see :mod:`fo_core.report.plots`; ``words`` say what it shows."""

    data: bytes
    words: str
    kind: str = "svg"  # or "png"


@dataclass(frozen=True)
class Sound:
    """A sound file, or a part of one as :func:`fo_core.io.audio.read` takes it."""

    name: str
    path: str | Path
    part: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One item to look at and listen to."""

    title: str
    texts: Mapping[str, str | None]  # label -> text; None: there is none
    sounds: Sequence[Sound] = ()
    states: Sequence[Sequence[float]] = ()  # probabilities of the dialogue states, a chunk each
    spectrograms: bool = True


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and what belongs under it."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    samples: Sequence[Sample] = ()


@dataclass(frozen=True)
class Document:
    """A report; ``verdicts`` (met, missed or None, and words) stand under its summary."""

    title: str
    summary: str
    sections: Sequence[Section]
    verdicts: Sequence[tuple[bool | None, str]] = ()
