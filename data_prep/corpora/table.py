"""A CSV, TSV or JSONL file with a row for each utterance, and its columns named by the options."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_prep.corpora import Broken, CorpusOptions, Utterance, not_found
from data_prep.corpora._text import json_lines as _json_lines
from data_prep.corpora._text import text_lines
from fo_core.errors import DataError
from fo_core.registry import did_you_mean

SUMMARY = "a CSV, TSV or JSONL file with named columns"
LAYOUT = "a .csv (commas, quotes), .tsv (tabs, no quotes) or .jsonl file; a head line names columns"
LICENCE = ""
LANGUAGE = ""

TIMES = (
    *("offset", "start", "start_time", "begin", "begin_time", "onset"),
    *("end", "end_time", "stop", "duration"),
)
OTHERS = {  # columns that are pointed out where no option names them
    "channel": "channel_column", "speaker": "speaker", "speaker_id": "speaker", "spk": "speaker",
    "language": "language_column", "lang": "language_column", "locale": "language_column",
    "split": "split_column",
}  # fmt: skip
Row = Mapping[str, Any]
log = logging.getLogger(__name__)


def items(source: Path, options: CorpusOptions) -> Iterator[Utterance | Broken]:
    """A row's utterance.

    Raises:
        DataError: The file is not there or of another kind, or lacks a column that is named.
    """
    kinds = {".csv": _table, ".tsv": _table, ".jsonl": _json_lines}
    if not source.is_file() or source.suffix.lower() not in kinds:
        not_found(source, LAYOUT)
    root = Path(options.root) if options.root else source.parent
    checked = False
    for number, row, fault in kinds[source.suffix.lower()](source):
        where = f"{source.name}:{number}"
        if not fault and not checked:
            _check_columns(source, row, options)
            checked = True
        yield Broken(where, fault) if fault else _item(row, where, number, root, options)


def _check_columns(source: Path, row: Row, options: CorpusOptions) -> None:
    for key in (
        "audio",
        "text",
        "id",
        "speaker",
        "language_column",
        "split_column",
        "start",
        "end",
        "duration",
        "channel_column",
    ):
        column = getattr(options, key)
        if column and column not in row:
            raise DataError(
                f"{source} has no column {column!r} for {key}",
                possible=did_you_mean(column, [str(name) for name in row]),
                do=f"name it: --set {key}=COLUMN",
            )
    if options.end and options.duration:
        raise DataError("both end and duration name a column", possible="one of them")
    used = {options.start, options.end, options.duration}
    unused = [name for name in row if str(name).lower() in TIMES and name not in used]
    if unused:
        log.warning(
            "%s: the columns %s are not used: every row is its whole file; if not so: --set "
            "start=COLUMN --set end=COLUMN (or duration=COLUMN)", source, ", ".join(unused)
        )  # fmt: skip
    for name in row:
        known = OTHERS.get(str(name).lower(), "")
        if known and not getattr(options, known):
            log.warning("%s: the column %s is not used; if it is wanted: --set %s=%s", source, name,
                        known, name)  # fmt: skip


def _item(
    row: Row, where: str, number: int, root: Path, options: CorpusOptions
) -> Utterance | Broken:
    def value(column: str) -> str:
        found = row.get(column) if column else ""
        return "" if found is None or isinstance(found, (dict, list)) else str(found).strip()

    name = (
        value(options.id) if options.id else f"{Path(where.rpartition(':')[0]).stem}-{number:06d}"
    )
    if not name:
        return Broken(where, f"no {options.id!r}")
    if not value(options.audio):
        return Broken(name, f"no {options.audio!r}")
    times = []
    for column in (options.start, options.end, options.duration):
        try:
            times.append(float(value(column) or 0))
        except ValueError:
            return Broken(name, f"{column!r} is {value(column)!r}, not a number of seconds")
    start, end, length = times
    end = start + length if length else end
    if not (math.isfinite(start) and math.isfinite(end) and start >= 0) or 0 < end <= start:
        return Broken(name, f"from {start:g} to {end:g} s is no time")
    channel = value(options.channel_column)
    if channel and not channel.isdecimal():
        return Broken(name, f"{options.channel_column!r} is {channel!r}, not a channel's number")
    return Utterance(
        id=name,
        audio=str(root / value(options.audio)),
        text=value(options.text),
        speaker=value(options.speaker),
        language=value(options.language_column),
        split=value(options.split_column),
        start=start,
        end=end,
        channel=int(channel) if channel else None,
    )


def _table(path: Path) -> Iterator[tuple[int, Row, str]]:
    """Rows of a CSV or TSV file with the number of their last line."""
    faults: list[tuple[int, str]] = []
    at = 0

    def lines() -> Iterator[str]:
        nonlocal at
        for number, line, fault in text_lines(path):
            at = number
            if fault or "\0" in line:
                faults.append((number, fault or "holds NUL bytes"))
            else:
                yield line + "\n"

    tabs = path.suffix.lower() == ".tsv"
    reader = (csv.reader(lines(), delimiter="\t", quoting=csv.QUOTE_NONE) if tabs
              else csv.reader(lines(), strict=True))  # fmt: skip
    head: list[str] = []
    while True:
        try:
            fields = next(reader)
            fault = ""
        except StopIteration:
            break
        except csv.Error as error:
            fields, fault = [], f"not a row: {error}"
        while faults:
            yield faults[0][0], {}, faults.pop(0)[1]
        if not head and not fault:
            head = [name.strip() for name in fields]
            continue
        if not fault and len(fields) != len(head):
            fault = f"{len(fields)} fields, the head line has {len(head)}"
        yield at, dict(zip(head, fields, strict=False)), fault
    for number, fault in faults:
        yield number, {}, fault


def read_rows(path: Path) -> Iterator[tuple[int, Row, str]]:
    """(line, row, "") of a .csv, .tsv or .jsonl file; (line, {}, why) of what is no row."""
    return (_json_lines if path.suffix.lower() == ".jsonl" else _table)(path)
