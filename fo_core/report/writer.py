"""A report written: JSON for machines, Markdown and HTML for people.

Both are rendered from the same sections, so they cannot disagree. Pictures and sounds are in the
HTML only; the texts of samples are in both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fo_core.io.files import write_text
from fo_core.report.document import Document, Table
from fo_core.report.html import render


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
        tables = [*section.tables]
        if samples := section.samples:
            labels = list(dict.fromkeys(name for sample in samples for name in sample.texts))
            rows = [(s.title, *(s.texts.get(name) or "" for name in labels)) for s in samples]
            tables.append(Table(("sample", *labels), rows))
        if section.pictures and not tables:
            continue
        lines += [f"## {section.title}", ""]
        lines += [section.text, ""] if section.text else []
        for table in tables:
            lines += [*table_lines(table), ""]
    return "\n".join(lines)


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
