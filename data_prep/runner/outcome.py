"""What becomes of one row of a step, and how a worker finds out without ever raising."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.runner.journal import disk_fault
from fo_core.errors import DataError, FoError

Row = dict[str, Any]


class Reject(DataError):
    """This item is dropped for a reason; the run goes on.

    Args:
        reason: A few words; equal reasons are counted together.
        more: Further fields of its line in ``rejects.jsonl``.
    """

    def __init__(self, reason: str, **more: Any) -> None:
        super().__init__(reason)
        self.reason, self.more = reason, more


class StopRun(FoError):
    """The whole run ends here with this line; what is done is kept."""


@dataclass(frozen=True)
class Made:
    """What came of one row."""

    rows: Sequence[Row] = ()  # for the manifest
    rejects: Sequence[Row] = ()  # {"id", "reason", ...} of parts of it that were dropped
    counts: dict[str, float] = field(default_factory=dict)  # summed up into the report


@dataclass
class Work:
    """The step's function as it is sent to the workers."""

    function: Any
    in_lists: bool
    started: bool = False


def answer(work: Work, rows: list[Row]) -> list[Row]:
    """In a worker: the outcome of each row as JSON data; never raises."""
    try:
        if not work.started and hasattr(work.function, "start"):
            work.function.start()
        work.started = True
    except FoError as error:
        return [{"stop": str(error)}] * len(rows)
    if not work.in_lists:
        return [_one(work.function, row) for row in rows]
    started = time.perf_counter()
    try:
        outcomes = [_plain(made) for made in work.function(rows)]
    except Exception as error:
        if len(rows) == 1 or "stop" in _fault(error):
            return [_fault(error)] * len(rows)
        return [outcome for row in rows for outcome in answer(work, [row])]
    spent = (time.perf_counter() - started) / max(1, len(rows))
    return [_timed(outcome, spent) for outcome in outcomes]


def _one(function: Callable[[Row], Any], row: Row) -> Row:
    started = time.perf_counter()
    try:
        outcome = _plain(function(row))
    except Exception as error:
        outcome = _fault(error)
    return _timed(outcome, time.perf_counter() - started)


def _timed(outcome: Row, seconds: float) -> Row:
    if "stop" in outcome:
        return outcome
    counts = {**outcome.get("counts", {}), "work_seconds": round(seconds, 6)}
    return {**outcome, "counts": counts}


def _plain(made: Any) -> Row:
    if isinstance(made, Reject):
        return _fault(made)
    if not isinstance(made, Made):
        made = Made([made] if isinstance(made, dict) else made)
    outcome: Row = {"rows": list(made.rows), "counts": dict(made.counts)}
    return {**outcome, "rejects": list(made.rejects)} if made.rejects else outcome


def _fault(error: Exception) -> Row:
    """An error as an outcome: of this row, or of the whole run."""
    full = disk_fault(error)
    if full is not None:
        where = f" ({full.filename})" if full.filename else ""
        return {"stop": f"{full.strerror}{where}; all that was done is kept; "
                        "do: free space and run the same command again"}  # fmt: skip
    if isinstance(error, StopRun):
        return {"stop": str(error)}
    if isinstance(error, Reject):
        return {"rejects": [{"reason": error.reason, **error.more}]}
    return {
        "rejects": [{"reason": str(error) if isinstance(error, FoError) else unforeseen(error)}]
    }


def unforeseen(error: Exception) -> str:
    """An error that is none of ours, perhaps a bug: its kind, its first line, where it came up."""
    places = traceback.extract_tb(error.__traceback__)[-1:]
    at = "".join(f" ({Path(place.filename).name}:{place.lineno})" for place in places)
    said = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {said}{at}"
