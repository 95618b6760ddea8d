"""Runs one step: a pure function over the rows of a manifest, in parallel, resumable, in order.

A step's folder holds::

    manifest.jsonl   what was made, in the order of the input: the same bytes however it was run
    rejects.jsonl    {"id", "step", "reason", ...} of what was dropped
    report.json      counts and seconds
    journal.jsonl    every row's outcome as it came (journal.py); .lock: one run at a time
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from data_prep.runner.backends import Backend, WorkerDied, open_backend
from data_prep.runner.journal import Journal
from data_prep.runner.outcome import Made, Reject, Row, StopRun, Work, answer
from fo_core.config import config
from fo_core.errors import DataError
from fo_core.io.files import only_run, replacing, write_json

Progress = Callable[[str, int, int], None]  # (step, done, total)
__all__ = [
    "Made",
    "Progress",
    "Reject",
    "Row",
    "RunConfig",
    "StepReport",
    "StopRun",
    "quiet",
    "rows_of",
    "run_step",
]
CHUNK = 4  # rows that go to a process at once, where the work takes them one by one
MAX_WORKER_CRASHES = 3  # workers that die one after the other, without a row done between


def quiet(step: str, done: int, total: int) -> None:
    """A progress call that says nothing."""


@config
class RunConfig:
    """How steps are run; nothing of it changes what they make, but ``limit``."""

    workers: int = 2  # processes or Ray actors; 1 = in this process
    engine: Literal["local", "ray"] = "local"  # where they run
    limit: int = 0  # only so many rows of the input; 0 = all


@dataclass(frozen=True)
class StepReport:
    """What a step did."""

    step: str
    items: int  # rows that came in
    made: int  # of them, those that gave rows
    rows: int  # of the manifest
    rejected: dict[str, int]  # reason -> how many
    counts: dict[str, float]  # what the work counted
    seconds: float  # wall time of all its runs
    items_per_second: float


def run_step(
    name: str,
    items: Path | Iterable[Row | str],
    work: Any,
    out: Path,
    *,
    how: RunConfig | None = None,
    settings: Any = None,
    progress: Progress = quiet,
    key: str = "id",
    batch: int = 0,
    total: int = 0,
) -> StepReport:
    """Do what is not done yet, then write the manifest.

    Args:
        name: The step.
        items: A JSONL file, or rows with a unique text under ``key``.
        work: Picklable; ``work(row) -> row | rows | Made``. Its ``start()``, if there is one, is
            called once in every process. Raising :class:`Reject` or another error drops the row;
            :class:`StopRun` and a full disk end the run.
        out: The step's folder.
        how: Workers, engine and limit.
        settings: JSON data that the result depends on besides the row; a row is done again when
            it or this changed.
        progress: Called with (name, rows done, rows).
        key: Field of a row's name.
        batch: Above 0, ``work`` takes a list of at most so many rows and gives as many outcomes.
        total: How many rows come, where ``items`` does not tell.

    Raises:
        FoError: Another run works in the folder; the work stopped the run; the disk is full;
            or rows came in and nothing at all was made.
    """
    how = how or RunConfig()
    with only_run(out), Journal(out / "journal.jsonl") as journal:
        run = _Run(name, journal, settings, progress, key, _count(items, how.limit, total))
        todo = run.todo(itertools.islice(rows_of(items), how.limit or None))
        each = batch or (CHUNK if how.workers > 1 or how.engine == "ray" else 1)
        jobs = iter(lambda: list(itertools.islice(todo, each)), [])
        _do(name, jobs, Work(work, batch > 0), how, run)
        return run.finish(out)


@dataclass(frozen=True)
class _Task:
    """One row on its way."""

    key: bytes
    id: str
    row: Row


class _Run:
    """The state of a run: which rows there are, in order, and what became of them."""

    def __init__(
        self, name: str, journal: Journal, settings: Any, progress: Progress, key: str, total: int
    ) -> None:
        self.name, self.journal, self.progress, self.key = name, journal, progress, key
        self.salt = json.dumps(settings, sort_keys=True, default=str).encode()
        self.total, self.ended, self.started = total, 0, time.monotonic()
        self.told = (-1, -1)
        self.order: list[bytes | Row] = []  # keys, or the reject of a row that is none

    def todo(self, rows: Iterable[Row | str]) -> Iterator[_Task]:
        """Rows without an outcome."""
        seen: set[str] = set()
        for number, row in enumerate(rows, 1):
            name = row.get(self.key) if isinstance(row, dict) else None
            name = name if isinstance(name, str) else ""
            reason = row if isinstance(row, str) else ""
            if not reason and not name:
                reason = f"no {self.key!r}"
            if not reason and name in seen:
                reason = f"the same {self.key} twice"
            if reason or isinstance(row, str):
                self.order.append({"id": name or f"line {number}", "reason": reason})
                self.ended += 1
                continue
            seen.add(str(name))
            said = json.dumps(row, sort_keys=True).encode()
            digest = hashlib.sha256(self.salt + b"\n" + said).digest()[:16]
            self.order.append(digest)
            if digest not in self.journal:
                yield _Task(digest, str(name), row)
                continue
            self.ended += 1

    def keep(self, task: _Task, outcome: Row) -> None:
        """An outcome has come."""
        self.journal.add(task.key, {"id": task.id, **outcome})
        self.ended += 1

    def tell(self) -> None:
        """Say how far it is."""
        told = (self.ended, max(self.total, self.ended))
        if told != self.told:
            self.told = told
            self.progress(self.name, *told)

    def finish(self, out: Path) -> StepReport:
        """Write manifest, rejects and report from the journal, in the order of the input."""
        counts: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        made = rows = 0
        first = ""
        with (
            replacing(out / "manifest.jsonl") as good,
            replacing(out / "rejects.jsonl") as bad,
            good.open("w", encoding="utf-8") as manifest,
            bad.open("w", encoding="utf-8") as dropped,
        ):
            for entry in self.order:
                got: Row = (
                    {"rejects": [entry]} if isinstance(entry, dict) else self.journal.get(entry)
                )
                for row in got.get("rows", ()):
                    manifest.write(json.dumps(row, ensure_ascii=False) + "\n")
                for row in got.get("rejects", ()):
                    named = {"id": row["id"], "step": self.name, **row}
                    dropped.write(json.dumps(named, ensure_ascii=False) + "\n")
                    reasons[_kind(row["reason"])] += 1
                    first = first or f"{row['id']}: {row['reason']}"
                made += bool(got.get("rows"))
                rows += len(got.get("rows", ()))
                counts.update(got.get("counts", {}))
        seconds = self.journal.seconds + time.monotonic() - self.started
        report = StepReport(
            self.name,
            len(self.order),
            made,
            rows,
            dict(reasons.most_common()),
            {name: round(value, 3) for name, value in sorted(counts.items())},
            round(seconds, 2),
            round(len(self.order) / max(seconds, 1e-9), 3),
        )
        self.tell()
        write_json(out / "report.json", asdict(report))
        if self.order and not made:
            raise DataError(
                f"{self.name} could use none of {len(self.order)} items; {first}",
                do=f"see {out / 'rejects.jsonl'}",
            )
        return report


def _kind(reason: str) -> str:
    """A reason without what stands in brackets or behind a colon: these differ by item."""
    return reason.partition(":")[0].partition(" (")[0].strip() or reason


def _do(name: str, jobs: Iterator[list[_Task]], work: Work, how: RunConfig, run: _Run) -> None:
    """Keep the workers busy until all jobs are done."""
    first = next(jobs, None)
    if first is None:
        return
    run.tell()  # rates count from here on, without what was done before
    backend = open_backend(how.engine, answer, work, how.workers)
    jobs = itertools.chain([first], jobs)
    flying: dict[Any, list[_Task]] = {}
    try:
        while True:
            for job in itertools.islice(jobs, backend.slots - len(flying)):
                flying[backend.submit([t.row for t in job])] = job
            if not flying:
                return
            for handle in backend.wait(list(flying)):
                try:
                    outcomes = backend.result(handle)
                except WorkerDied:
                    suspects = [task for job in flying.values() for task in job]
                    flying.clear()
                    _isolate_crashing_row(name, suspects, backend, run)
                    break
                _keep(run, flying.pop(handle), outcomes)
    finally:
        backend.close()


def _keep(run: _Run, tasks: Sequence[_Task], outcomes: Sequence[Row]) -> None:
    for task, outcome in zip(tasks, outcomes, strict=True):
        if "stop" in outcome:
            raise StopRun(outcome["stop"])
        rejects = [{"id": task.id, **row} for row in outcome.pop("rejects", ())]
        run.keep(task, {**outcome, **({"rejects": rejects} if rejects else {})})
    run.tell()  # once for all of them: one by one, the first would seem to have taken all the time


def _isolate_crashing_row(
    name: str, suspects: Sequence[_Task], backend: Backend, run: _Run
) -> None:
    """A worker died: do what was in flight one by one; a row that kills again is dropped."""
    deaths = 0
    backend.renew()
    for task in suspects:
        handle = backend.submit([task.row])
        try:
            _keep(run, [task], backend.result(backend.wait([handle])[0]))
            deaths = 0
        except WorkerDied:
            deaths += 1
            if deaths == MAX_WORKER_CRASHES:
                raise StopRun(
                    f"{name}: its worker processes die ({deaths} one after the other)",
                    do="check the memory, and try --num-workers 1",
                ) from None
            dead = {"rejects": [{"id": task.id, "reason": "a worker process died on it"}]}
            run.keep(task, dead)
            backend.renew()


def rows_of(items: Path | Iterable[Row | str]) -> Iterator[Row | str]:
    """Rows of a file or an iterable; a line that is none comes as the reason, in words."""
    if not isinstance(items, (str, Path)):
        yield from items
        return
    try:
        with open(items, encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield f"not JSON: {error}"
                    continue
                yield row if isinstance(row, dict) else "not a JSON object"
    except FileNotFoundError as error:
        raise DataError(f"no manifest {items}", do="run the step before first") from error
    except OSError as error:
        raise DataError(f"cannot read {items}: {error}") from error


def _count(items: Path | Iterable[Row | str], limit: int, total: int) -> int:
    """Rows to come, as far as that is known beforehand."""
    if isinstance(items, (str, Path)):
        try:
            with open(items, "rb") as file:
                total = sum(1 for line in file if line.strip())
        except OSError:
            return 0
    else:
        total = len(items) if isinstance(items, Sequence) else total
    return min(total, limit) if limit and total else total
