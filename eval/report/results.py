"""The results of an evaluation for people: what every evaluation's report has, written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fo_core.report.document import MISSING, Document, Picture, Sample, Section, Table
from fo_core.report.writer import write_document

Overview = Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """A score: its key in the overview, its name, what it tells, its unit."""

    key: str
    name: str
    meaning: str
    unit: str = "%"  # "%": a share, shown times 100; "": as it is; "s": seconds


@dataclass(frozen=True)
class Page:
    """What an evaluation shows besides what all of them show."""

    title: str
    summary: str
    sections: Sequence[Section]  # scores, the paper's rows
    bars: Sequence[tuple[str, str]] = ()  # (key of a share, its name), for the plot
    samples: Sequence[Sample] = ()


def write_page(out: Path, overview: Overview, page: Page) -> dict[str, Path]:
    """Write ``report.md`` and ``report.html``.

    Returns:
        The paths by ``md`` and ``html``.
    """
    sections = [*page.sections, *_common(overview)]
    sections[0] = replace(sections[0], pictures=_plot(overview, page))
    if page.samples:
        sections.append(Section("Hear it", samples=page.samples))
    return write_document(out, Document(page.title, page.summary, sections))


def _plot(overview: Overview, page: Page) -> tuple[Picture, ...]:
    from fo_core.report.plots import intervals

    metrics = overview["metrics"]
    bars = [
        (name, 100 * found["value"], _percent(found["low"]), _percent(found["high"]))
        for key, name in page.bars
        if (found := metrics.get(key)) is not None
    ]
    words = "; ".join(f"{bar[0]} {bar[1]:.1f} %" for bar in bars)
    return (Picture(intervals(bars), words),) if bars else ()


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def number(value: float | None, unit: str = "%") -> str:
    """A score as text."""
    if value is None:
        return MISSING
    if unit == "%":
        return f"{100 * value:.1f} %"
    return f"{value:.2f} {unit}".strip()


def spread(found: Mapping[str, Any] | None, unit: str = "%") -> str:
    """A score's 95 % interval as text."""
    if not found or found["low"] is None:
        return ""
    scale = 100 if unit == "%" else 1
    digits = 1 if unit == "%" else 2
    return f"{scale * found['low']:.{digits}f} to {scale * found['high']:.{digits}f}"


def metric_table(overview: Overview, metrics: Sequence[Metric]) -> Table:
    """Value, interval and number of items of every metric that was measured."""
    found = overview["metrics"]
    rows = [
        (m.name, number(found[m.key]["value"], m.unit), spread(found[m.key], m.unit),
         str(found[m.key]["items"]), m.meaning)
        for m in metrics
        if m.key in found
    ]  # fmt: skip
    return Table(("measure", "value", "95 % interval", "items", "meaning"), tuple(rows), (1, 2, 3))


def _common(overview: Overview) -> list[Section]:
    found = []
    skipped = overview["skipped"]
    if skipped:
        reasons: dict[str, list[str]] = {}
        for row in skipped:
            reasons.setdefault(row["why"], []).append(row["id"])
        rows = tuple(
            (why, str(len(ids)), ", ".join(ids[:10]) + ", .." * (len(ids) > 10))
            for why, ids in reasons.items()
        )
        text = f"{len(skipped)} items of the set are in no score."
        found.append(Section("Left out", text, (Table(("why", "items", "which"), rows, (1,)),)))
    if not overview["complete"]:
        text = (
            f"{overview['items']} of {overview['asked']} items were measured; "
            "the same command goes on with the rest."
        )
        found.append(Section("Not complete", text))
    about = tuple(_flat(overview["about"]))
    found.append(Section("What was measured, with what", "", (Table(("what", "value"), about),)))
    return found


def _flat(values: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{above}{name}.")
        elif value not in (None, "", {}, []):
            plain = isinstance(value, str) and value.isprintable()
            text = str(value) if plain else json.dumps(value, ensure_ascii=False)
            rows.append((f"{above}{name}", text))
    return rows
