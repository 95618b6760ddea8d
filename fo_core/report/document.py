"""What a report says, before how it looks; written as JSON for machines, Markdown and HTML.

Both are rendered from the same sections, so they cannot disagree. Pictures and sounds are in the
HTML only; the texts of samples are in both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fo_core.io.files import write_text

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


def write_document(
    out: str | Path, document: Document, data: Mapping[str, Any] | None = None
) -> dict[str, Path]:
    """Write ``report.md`` and ``report.html``, each whole or not at all.

    Args:
        out: Folder to write into; made if it is not there.
        document: What it says.
        data: The values behind it, for ``report.json``; None where they have a file of their own.

    Returns:
        The paths by ``json``, ``md`` and ``html``.

    Raises:
        DataError: The folder cannot be written.
    """
    from fo_core.report.html import render

    texts = {"md": markdown(document), "html": render(document)}
    if data is not None:
        texts["json"] = json.dumps(finite(data), indent=2, ensure_ascii=False) + "\n"
    paths = {kind: Path(out) / f"report.{kind}" for kind in texts}
    for kind, path in paths.items():
        write_text(path, texts[kind])
    return paths


def markdown(document: Document) -> str:
    """A report as Markdown."""
    lines = [f"# {document.title}", ""]
    lines += [document.summary, ""] if document.summary else []
    for section in document.sections:
        tables = [*section.tables, *([_samples(section.samples)] if section.samples else [])]
        if section.pictures and not tables:
            continue
        lines += [f"## {section.title}", ""]
        lines += [section.text, ""] if section.text else []
        for table in tables:
            lines += [*table_lines(table), ""]
    return "\n".join(lines)


def _samples(samples: Sequence[Sample]) -> Table:
    labels = list(dict.fromkeys(name for sample in samples for name in sample.texts))
    rows = [(s.title, *(s.texts.get(name) or "" for name in labels)) for s in samples]
    return Table(("sample", *labels), rows)


def table_lines(table: Table) -> list[str]:
    """A table as lines of Markdown."""

    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    marks = ["---:" if i in table.numeric else "---" for i in range(len(table.head))]
    return [row(table.head), row(marks), *(row(cells) for cells in table.rows)]


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: such a value was not measured, which is null."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a number of numpy or torch
        return finite(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
