"""A section of a model's card, written from the results of a suite (or of one set)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from eval.report.results import number
from eval.report.suite import answers_table, read_suite, sound_table, strict_table
from fo_core.errors import DataError
from fo_core.io.files import read_json, read_text, write_text
from fo_core.report.document import Table
from fo_core.report.writer import table_lines

BEGIN, END = "<!-- evaluation: begin -->", "<!-- evaluation: end -->"


def section(results: Path) -> str:
    """Markdown of a results folder, between two marks by which it is found again.

    Raises:
        DataError: The folder holds no results of spoken questions.
    """
    overview, timings = _read(results)
    names = [n for n in overview["parts"] if f"{n}/answer_words" in overview["metrics"]]
    if not names:
        raise DataError(f"{results} holds no spoken questions", do="fo eval all --suite quick")
    about = overview["about"]
    judge, cascade = about.get("judge", {}), about.get("cascade", {})
    machine = about.get("machine", {})
    told = [
        f"judge {judge.get('model', judge.get('judge', 'none'))}",
        f"seed {about.get('seed', 0)}",
        f"{machine.get('cpu', 'unknown machine')}, {machine.get('cores', '?')} cores",
        f"fingerprint {about.get('model', {}).get('fingerprint', '')[:23]}",
    ]
    if cascade:
        told.insert(1, f"cascade {cascade.get('ears_model')} + {cascade.get('cascade_tts')}")
    missing = about.get("not_measured", {})
    lines = [BEGIN, "## Evaluation", "", f"By `fo eval`: {'; '.join(told)}.", ""]
    for table in (
        answers_table(overview, names),
        strict_table(overview, names),
        sound_table(overview, timings, names),
    ):
        lines += [*table_lines(_measured(table)), ""]
    if missing:
        lines += [f"Not measured here: {', '.join(missing)}.", ""]
    return "\n".join([*lines, END])


def _read(results: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A suite's results; those of one set as a suite of one part."""
    path = results / "overview.json"
    if path.is_file() and "parts" not in (one := read_json(path)):
        name = results.name
        timings = results / "timings.json"
        found = {
            "parts": {name: {"items": one["items"], "evaluation": one["evaluation"]}},
            "metrics": {f"{name}/{key}": value for key, value in one["metrics"].items()},
            "about": one["about"],
        }
        return found, {name: read_json(timings)} if timings.is_file() else {}
    return read_suite(results)


def _measured(table: Table) -> Table:
    """A table without columns in which nothing was measured."""
    empty = ("", number(None))
    keep = [
        place
        for place in range(len(table.head))
        if any(row[place] not in empty for row in table.rows)
    ]
    rows = tuple(tuple(row[place] for place in keep) for row in table.rows)
    numeric = tuple(new for new, place in enumerate(keep) if place in table.numeric)
    return Table(tuple(table.head[place] for place in keep), rows, numeric)


def put(card: Path, text: str) -> None:
    """Write a section into a card: in place of the one of before, else behind what is there."""
    before = read_text(card) if card.is_file() else ""
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if marked.search(before):
        after = marked.sub(lambda _: text, before, count=1)
    else:
        after = f"{before.rstrip()}\n\n{text}\n" if before.strip() else f"{text}\n"
    write_text(card, after)
