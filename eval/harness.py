"""The one loop of all evaluations: passes over items, each with a journal, then scores.

An evaluation is a list of passes. A pass adds fields to the items' rows (what the model answered,
what the judge heard) and keeps every row in its own journal as soon as it is there, so a stopped
run goes on where it was, and a new judge or metric works on what was kept: passes that run the
model are then not opened at all. Scores are worked out from the rows every time: each is a
numerator and a denominator of an item, summed over the items and bootstrapped
(:mod:`eval.metrics.bootstrap`).

A results folder holds ``PASS.jsonl`` (the journals), ``items.jsonl`` (every row with its scores),
``overview.json``, and the sounds that were made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.metrics.bootstrap import interval
from fo_core.errors import AudioError, DataError, EngineError, FoError
from fo_core.io.files import only_run, read_json, read_jsonl, write_json, write_jsonl

Row = dict[str, Any]
Score = tuple[float, float]  # numerator and denominator
Progress = Callable[[str, int, int], None]
Work = Callable[[Sequence[Row]], Sequence[Row]]  # rows in, the fields to add to each out

ASKED, SETTINGS = "asked.json", "settings.json"  # what a run was asked for; the passes' keys
PATIENCE = 3  # engine faults in a row after which a pass stops


class OtherRunError(DataError):
    """A folder holds results of another model or setting."""


@dataclass(frozen=True)
class Pass:
    """One kind of work on every item."""

    name: str  # also its journal's
    key: Mapping[str, Any]  # what its rows depend on; those of another key are not used
    open: Callable[[], Work]  # loads what it needs; only called where a row is missing
    model: bool = False  # runs the model under test
    batch: int = 1  # items at a time
    reads: Sequence[str] = ()  # fields its rows depend on; none: all that come before it


@dataclass(frozen=True)
class Evaluation:
    """What to do with the items of a set, and how to score them."""

    name: str
    passes: Sequence[Pass]
    score: Callable[[Row], dict[str, Score]]
    about: Mapping[str, Any] = field(default_factory=dict)  # model, judge, machine, versions, ..


@dataclass
class Skipped:
    """Items that could not be measured."""

    rows: dict[str, str] = field(default_factory=dict)  # id -> what was wrong

    def listed(self) -> list[Row]:
        """JSON-ready, in the order of the ids."""
        return [{"id": name, "why": why} for name, why in sorted(self.rows.items())]


def run(
    evaluation: Evaluation,
    items: Sequence[Row],
    out_dir: str | Path,
    left_out: Mapping[str, str] | None = None,
    resume: bool = True,
    rescore: bool = False,
    seed: int = 0,
    progress: Progress = lambda what, done, of: None,
) -> Row:
    """Run the passes on what they have not done yet, then score all rows.

    Args:
        evaluation: What to do.
        items: Rows with an ``id`` and what the first pass needs.
        out_dir: The results folder.
        left_out: Items of the set that cannot be used, and why; listed in the overview.
        resume: Keep what the journals hold; False starts anew.
        rescore: Never open a pass that runs the model; items it has not measured are skipped.
        seed: Of the bootstrap.
        progress: Called with (pass, done, all).

    Returns:
        The overview, as written.

    Raises:
        DataError: There is no item; or ``rescore`` finds nothing that was measured.
        OtherRunError: The folder holds results of another model or setting.
        FoError: A pass cannot work (no trained part, a judge that is not installed, an endpoint
            that is gone): what was done is kept and scored, and the same command goes on; or
            another run works in the folder.
    """
    out = Path(out_dir)
    skipped = Skipped(dict(left_out or {}))
    rows = _unique(items, skipped)
    if not rows:
        why = next(iter(skipped.rows.items()), None)
        reason = f" ({len(skipped.rows)} skipped, such as {why[0]}: {why[1]})" if why else ""
        raise DataError(f"{evaluation.name}: no item to measure{reason}", do="check the set")
    about: Row = {"evaluation": evaluation.name, "about": dict(evaluation.about)}
    about |= {"items": list(items), "left_out": dict(left_out or {})}
    with only_run(out):
        if not resume and not rescore:
            _forget(out, evaluation.passes)
        _same_settings(out, evaluation.passes, rescore)
        if not rescore:
            write_json(out / ASKED, about)
        return _measured(evaluation, rows, items, out, skipped, rescore, seed, progress)


def _measured(
    evaluation: Evaluation,
    rows: list[Row],
    items: Sequence[Row],
    out: Path,
    skipped: Skipped,
    rescore: bool,
    seed: int,
    progress: Progress,
) -> Row:
    """Every pass on the rows, then their scores; those of what was done if a pass cannot go on."""
    asked = len(rows)
    try:
        for number, step in enumerate(evaluation.passes):
            rows = _do(step, rows, out, skipped, rescore, progress)
            if not rows and number == 0:
                _nothing(evaluation, skipped, rescore)
    except BaseException:
        with suppress(FoError, OSError):
            done = _finished(evaluation, items, out, skipped)
            if done:
                _write(evaluation, done, asked, skipped, out, seed)
        raise
    return _write(evaluation, rows, asked, skipped, out, seed)


def asked_before(out_dir: str | Path, name: str) -> Row:
    """What an earlier run of an evaluation was asked for: ``about``, ``items``, ``left_out``; and
    ``settings``, the keys of its passes that ran the model.

    Raises:
        DataError: The folder holds no run of this evaluation.
    """
    out = Path(out_dir)
    if not (out / ASKED).is_file():
        raise DataError(f"{out} holds no run to rescore", do="run it once without --rescore")
    found = read_json(out / ASKED)
    if found.get("evaluation") != name:
        raise DataError(f"{out} holds a run of {found.get('evaluation')}, not of {name}")
    return found | {"settings": read_json(out / SETTINGS) if (out / SETTINGS).is_file() else {}}


def _nothing(evaluation: Evaluation, skipped: Skipped, rescore: bool) -> None:
    if rescore:
        raise DataError(
            f"{evaluation.name}: nothing to rescore, no item was measured with this set",
            do="run it once without --rescore",
        )
    name, why = next(iter(skipped.rows.items()))
    raise DataError(
        f"{evaluation.name}: not one of {len(skipped.rows)} items could be measured ({name}: {why})"
    )


def _unique(items: Iterable[Row], skipped: Skipped) -> list[Row]:
    rows: dict[str, Row] = {}
    for item in items:
        name = str(item["id"])
        if name in rows:
            skipped.rows[f"{name} (again)"] = "another item has the same id"
        else:
            rows[name] = dict(item)
    return list(rows.values())


def digest(value: Any) -> str:
    """A short name for JSON data."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _journal(out: Path, step: Pass) -> Path:
    return out / f"{step.name}.jsonl"


def _forget(out: Path, passes: Sequence[Pass]) -> None:
    for step in passes:
        _journal(out, step).unlink(missing_ok=True)
    (out / SETTINGS).unlink(missing_ok=True)


def _same_settings(out: Path, passes: Sequence[Pass], rescore: bool) -> None:
    """Refuse to mix rows of two models; note the settings of this one."""
    path = out / SETTINGS
    known = read_json(path) if path.is_file() else {}
    for step in passes:
        if not step.model or rescore:
            continue
        before, now = known.get(step.name), json.loads(json.dumps(dict(step.key), default=str))
        if before is not None and before != now:
            changed = [k for k in {**before, **now} if before.get(k) != now.get(k)]
            raise OtherRunError(
                f"{out} holds results of other settings: {', '.join(sorted(changed))} differ",
                possible="--out with another folder, or --no-resume to start anew",
            )
        known[step.name] = now
    if not rescore:
        write_json(path, known)


def _kept(step: Pass, rows: Sequence[Row], out: Path, rescore: bool) -> dict[str, Row]:
    """The journal's fields of these rows, by id."""
    journal, key = _journal(out, step), digest(step.key)
    if not journal.is_file():
        return {}
    # The model's rows are kept whatever the key when only scores are wanted: it is not at hand.
    same = {row["id"]: digest(_input(row, step)) for row in rows}
    found = {}
    for line in read_jsonl(journal, whole=False):
        name = line.pop("id", None)
        by, of = line.pop("by", None), line.pop("of", None)
        if name in same and of == same[name] and (by == key or (rescore and step.model)):
            found[name] = line
    return found


def _input(row: Row, step: Pass) -> Row:
    """What of a row tells whether an earlier result belongs to it: all but places of files."""
    known = {k: v for k, v in row.items() if not k.endswith(("audio", "_wav"))}
    return {k: v for k, v in known.items() if not step.reads or k in step.reads}


def _do(
    step: Pass, rows: list[Row], out: Path, skipped: Skipped, rescore: bool, progress: Progress
) -> list[Row]:
    """Rows with the pass's fields; those it failed on are listed and left out."""
    kept = _kept(step, rows, out, rescore)
    missing = [row for row in rows if row["id"] not in kept]
    progress(step.name, len(kept), len(rows))
    if missing and not (rescore and step.model):
        work = step.open()
        _clean(_journal(out, step))
        out.mkdir(parents=True, exist_ok=True)
        with _journal(out, step).open("a", encoding="utf-8") as file:
            faults = 0
            for start in range(0, len(missing), step.batch):
                batch = missing[start : start + step.batch]
                try:
                    found = work(batch)
                    faults = 0
                except (AudioError, DataError, EngineError) as error:
                    faults = faults + 1 if isinstance(error, EngineError) else 0
                    if faults >= PATIENCE or (step.batch > 1 and faults):
                        raise _stopped(error, step, len(kept), len(rows)) from error
                    skipped.rows |= {row["id"]: f"{step.name}: {error}" for row in batch}
                    continue
                for row, fields in zip(batch, found, strict=True):
                    kept[row["id"]] = fields
                    mark = {
                        "id": row["id"],
                        "by": digest(step.key),
                        "of": digest(_input(row, step)),
                    }
                    file.write(json.dumps(mark | fields, ensure_ascii=False) + "\n")
                file.flush()
                progress(step.name, len(kept), len(rows))
    return [row | kept[row["id"]] for row in rows if row["id"] in kept]


def _stopped(error: FoError, step: Pass, done: int, of: int) -> EngineError:
    return EngineError(
        f"{step.name} stopped after {done} of {of} items: {error.what}",
        possible=error.possible,
        do=f"{error.do}, then " * bool(error.do) + "run the same command again: it goes on",
    )


def _clean(journal: Path) -> None:
    """End a line that a kill has cut, so that the next one stands alone."""
    if journal.is_file():
        data = journal.read_bytes()
        if data and not data.endswith(b"\n"):
            journal.write_bytes(data + b"\n")


def _finished(
    evaluation: Evaluation, items: Sequence[Row], out: Path, skipped: Skipped
) -> list[Row]:
    """Rows that went through every pass, of a run that was stopped."""
    rows = _unique(items, Skipped())
    for step in evaluation.passes:
        kept = _kept(step, rows, out, False)
        rows = [row | kept[row["id"]] for row in rows if row["id"] in kept]
    return rows


def _write(
    evaluation: Evaluation,
    rows: Sequence[Row],
    asked: int,
    skipped: Skipped,
    out: Path,
    seed: int,
) -> Row:
    scored = [row | {"scores": {k: list(v) for k, v in evaluation.score(row).items()}}
              for row in rows]  # fmt: skip
    write_jsonl(out / "items.jsonl", scored)
    overview = {
        "evaluation": evaluation.name,
        "items": len(rows),
        "asked": asked,
        "complete": len(rows) == asked,
        "metrics": summarise(scored, seed),
        "skipped": skipped.listed(),
        "about": dict(evaluation.about),
    }
    write_json(out / "overview.json", overview)
    return overview


def summarise(scored: Sequence[Row], seed: int = 0) -> dict[str, Row]:
    """Every score over its items: ``value``, ``low`` and ``high`` (95 %), ``items``."""
    names = dict.fromkeys(name for row in scored for name in row["scores"])
    found = {}
    for name in names:
        pairs = [row["scores"][name] for row in scored if name in row["scores"]]
        about = interval([p[0] for p in pairs], [p[1] for p in pairs], seed)
        if about is not None:
            bounds = {"value": about.value, "low": about.low, "high": about.high}
            found[name] = bounds | {"items": len(pairs)}
    return found
