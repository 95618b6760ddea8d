"""The report of a run: ``report.json`` for machines, ``report.md`` and ``report.html`` for people.

The dict holds the results of held-out set (a) at the top level and those of set (b) under
``unseen_facts``, each with the keys of :data:`eval.report.sections.MEASURES` and ``items``;
``state_f1`` maps each state to an F1 or to precision, recall, f1 and support, and ``macro`` to a
number. Beside them stand ``parts`` (which encoder,
adapter, decoder and codec types ran), ``stages``, ``steps`` (name, seconds, peak_memory_mb),
``wall_seconds``, ``llm_fingerprint_before`` and ``_after``, ``machine``, ``versions``, ``seed``,
``title`` and ``summary``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.report.sections import Section, Table, sections
from fo_core.io.files import write_text


def write_report(
    out_dir: str | Path,
    report: Mapping[str, Any],
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    samples: Sequence[Mapping[str, Any]] = (),
    found: Sequence[Section] | None = None,
) -> dict[str, Path]:
    """Write the three files, each whole or not at all.

    Args:
        out_dir: Folder to write into; made if it is not there.
        report: The results, see the module's docstring.
        curves: Stage name to records ``{"step", "loss"?, "val_loss"?}``.
        samples: Question and reply pairs to show, see :func:`eval.report.writer.html.render`.
        found: Sections of another report than the from-scratch demo's; it has no aims then.

    Returns:
        The paths by ``json``, ``md`` and ``html``.

    Raises:
        DataError: The folder cannot be written.
    """
    from eval.report.html import render

    known = _finite(dict(report))
    aims = found is None
    found = sections(known, curves or {}) if found is None else found
    out = Path(out_dir)
    paths = {kind: out / f"report.{kind}" for kind in ("json", "md", "html")}
    write_text(paths["json"], json.dumps(known, indent=2, ensure_ascii=False) + "\n")
    write_text(paths["md"], markdown(known, found, samples))
    write_text(paths["html"], render(known, found, curves or {}, samples, aims))
    return paths


def markdown(
    report: Mapping[str, Any],
    found: Sequence[Section],
    samples: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The sections as Markdown; figures are left to the HTML, samples become a table."""
    lines = [f"# {report.get('title', 'Freeze-Omni report')}", ""]
    if report.get("summary"):
        lines += [str(report["summary"]), ""]
    for section in found:
        tables = section.tables
        if section.figures == "samples":
            tables = (_samples(samples),) if samples else ()
        if not tables:
            continue
        lines += [f"## {section.title}", ""]
        if section.text:
            lines += [section.text, ""]
        for table in tables:
            lines += [*table_lines(table), ""]
    return "\n".join(lines)


def _samples(samples: Sequence[Mapping[str, Any]]) -> Table:
    keys = ("title", "question", "heard", "answer", "judge")
    rows = tuple(tuple(str(s.get(key) or "") for key in keys) for s in samples)
    return Table(("sample", "asked", "heard", "answer", "judge heard"), rows)


def table_lines(table: Table) -> list[str]:
    """A table as lines of Markdown."""

    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    marks = ["---:" if i in table.numeric else "---" for i in range(len(table.head))]
    return [row(table.head), row(marks), *(row(cells) for cells in table.rows)]


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: such a value was not measured, which is null."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a number of numpy or torch
        return _finite(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
