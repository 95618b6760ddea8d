"""Is a manifest what it says? Every line and sound is checked; a cleaned copy can be written.

One pass in bounded memory (24 bytes an item): the lines go through checks.py in several processes,
then ids, sounds and texts are compared with each other and with those of other manifests.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_prep.checks import ERROR, LEVELS, REPAIRABLE, WARNING, CheckConfig, Checked, check
from data_prep.runner.lines import Line, count_lines, cut_lines
from data_prep.runner.ordered import ordered_map
from data_prep.runner.outcome import unforeseen
from data_prep.runner.run import Progress, RunConfig, quiet
from fo_core.data.shards import is_shards
from fo_core.errors import ConfigError, DataError
from fo_core.io.files import replacing
from fo_core.registry import did_you_mean

EXAMPLES = 3  # that the report names for every check


@dataclass
class Seen:
    """Hashes of what a manifest holds, one of each an item; 0 = there is none."""

    numbers: array[int] = field(default_factory=lambda: array("Q"))  # of the lines
    id: array[int] = field(default_factory=lambda: array("Q"))
    audio: array[int] = field(default_factory=lambda: array("Q"))
    text: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, found: Checked) -> None:
        """Keep an item's."""
        self.numbers.append(found.number)
        self.id.append(found.id_hash)
        self.audio.append(found.audio_hash)
        self.text.append(found.text_hash)

    def twins(self, kind: str) -> list[tuple[int, int]]:
        """(line, line of the first that is the same) of every further one."""
        values = np.frombuffer(getattr(self, kind), np.uint64)
        numbers = np.frombuffer(self.numbers, np.uint64)
        order = np.argsort(values, kind="stable")
        ranked = values[order]
        again = np.flatnonzero((ranked[1:] == ranked[:-1]) & (ranked[1:] != 0)) + 1
        firsts = np.searchsorted(ranked, ranked[again])
        pairs = zip(numbers[order[again]].tolist(), numbers[order[firsts]].tolist(), strict=True)
        return sorted(pairs)

    def shared(self, kind: str, other: Seen) -> list[tuple[int, int]]:
        """(line, line of the other manifest) of what is in both."""
        values = np.frombuffer(getattr(self, kind), np.uint64)
        theirs, places = np.unique(
            np.frombuffer(getattr(other, kind), np.uint64), return_index=True
        )
        at = np.searchsorted(theirs, values)
        at[at == len(theirs)] = 0
        if not len(theirs):
            return []
        same = np.flatnonzero((theirs[at] == values) & (values != 0)).tolist()
        return [(self.numbers[i], other.numbers[int(places[at[i]])]) for i in same]


class Findings:
    """Faults as they come: counted, a few kept, all listed in a file if there is one."""

    def __init__(self, listed: IO[str] | None) -> None:
        self.listed = listed
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[dict[str, Any]]] = {}
        self.bad: dict[str, set[int]] = {ERROR: set(), WARNING: set()}  # lines
        self.fatal: set[int] = set()  # lines that no mending saves

    def add(self, number: int, name: str, kind: str, said: str) -> None:
        """One fault."""
        level = LEVELS[kind]
        row = {"id": name, "step": "validate", "line": number, "check": kind, "level": level,
               "reason": f"{kind}: {said}"}  # fmt: skip
        self.counts[kind] += 1
        self.bad[level].add(number)
        if level == ERROR and kind not in REPAIRABLE:
            self.fatal.add(number)
        kept = self.examples.setdefault(kind, [])
        if len(kept) < EXAMPLES:
            kept.append({"line": number, "id": name, "said": said})
        if self.listed is not None:
            self.listed.write(json.dumps(row, ensure_ascii=True) + "\n")


def run(
    manifest: str | Path,
    cfg: CheckConfig | None = None,
    against: Sequence[str | Path] = (),
    fix: str | Path | None = None,
    rejects: str | Path | None = None,
    how: RunConfig | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Check a manifest, or a set of shards.

    Args:
        manifest: What to check.
        cfg: Limits, and the checks that are off.
        against: Manifests that must share nothing with it (its training set, for a test set).
        fix: Where to write a cleaned copy: without the items that have errors, with the true rates
            and lengths, with absolute paths.
        rejects: Where to list every fault, as JSONL.
        how: Processes, engine and limit.
        progress: Called with ("validate", items done, items).

    Returns:
        The report: {"manifest", "items", "errors", "warnings" (items that have some), "checks":
        {name: {"level", "count", "examples"}}, "seconds", "rates", "kept" (with ``fix``)}.

    Raises:
        ConfigError: An unknown check is to be ignored.
        DataError: A manifest is missing or empty, or nothing is left for the cleaned copy.
    """
    cfg, how = cfg or CheckConfig(), how or RunConfig()
    for name in cfg.ignore:
        if name not in LEVELS:
            known = list(LEVELS)
            raise ConfigError(f"unknown check {name!r}", possible=did_you_mean(name, known))
    total = count_lines(manifest, how.limit)
    if not total:
        raise DataError(f"manifest {manifest} is empty", do="run the step that writes it again")
    sizes = [count_lines(path) for path in against]
    tell = _Teller(progress, total + sum(sizes))
    with _writing(rejects) as listed, _spool(fix) as cleaned:
        faults = Findings(listed)
        report, seen = _check_all(Path(manifest), cfg, how, faults, cleaned, tell)
        pairs = [(f"same-{kind}", f"the {kind} of line {{}}", seen.twins(kind))
                 for kind in ("id", "audio")]  # fmt: skip
        for path in against:
            other = _hashes(Path(path), cfg, how, tell)
            pairs += [(f"leak-{kind}", f"the {kind} of line {{}} in {path}",
                       seen.shared(kind, other)) for kind in ("id", "audio", "text")]  # fmt: skip
        _compare(faults, manifest, [pair for pair in pairs if pair[0] not in cfg.ignore])
        if fix is not None and cleaned is not None:
            report["kept"] = _clean(cleaned, faults.fatal, Path(fix))
    checks = {name: {"level": LEVELS[name], "count": faults.counts[name],
                     "examples": faults.examples[name]}
              for name in LEVELS if faults.counts[name]}  # fmt: skip
    errors, warnings = (len(faults.bad[level]) for level in (ERROR, WARNING))
    return {"manifest": str(manifest), "items": total, "errors": errors, "warnings": warnings,
            "checks": checks, **report}  # fmt: skip


class _Teller:
    """Progress over several manifests."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, count: int) -> None:
        self.done += count
        self.progress("validate", self.done, self.total)


@contextlib.contextmanager
def _writing(path: str | Path | None) -> Iterator[IO[str] | None]:
    """A text file that appears when the block ends well; None for no path."""
    if path is None:
        yield None
        return
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


@contextlib.contextmanager
def _spool(fix: str | Path | None) -> Iterator[IO[str] | None]:
    """Where the cleaned copy waits for the twins and leaks to be known, beside its place."""
    if fix is None:
        yield None
        return
    folder = Path(fix).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder) as file:
            yield file
    except OSError as error:
        raise DataError(f"cannot write in {folder}: {error}", do="free space there") from error


def _check_all(
    path: Path,
    cfg: CheckConfig,
    how: RunConfig,
    faults: Findings,
    cleaned: IO[str] | None,
    tell: Callable[[int], None],
) -> tuple[dict[str, Any], Seen]:
    seen, seconds, rates = Seen(), 0.0, Counter[int]()
    for found in _checked(path, cfg, how):
        tell(1)
        seen.add(found)
        seconds += found.seconds
        rates[found.rate] += bool(found.rate)
        for kind, said in found.faults:
            faults.add(found.number, found.name, kind, said)
        if cleaned is not None and found.repaired:
            cleaned.write(f"{found.number}\t{found.repaired}\n")
    by_rate = {str(rate): count for rate, count in sorted(rates.items()) if rate}
    return {"seconds": round(seconds, 3), "rates": by_rate}, seen


def _hashes(path: Path, cfg: CheckConfig, how: RunConfig, tell: Callable[[int], None]) -> Seen:
    """What another manifest holds; its own faults are not looked at."""
    seen = Seen()
    for found in _checked(path, cfg, RunConfig(how.workers, how.engine)):
        tell(1)
        seen.add(found)
    return seen


def _compare(
    faults: Findings, manifest: str | Path, pairs: Sequence[tuple[str, str, list[tuple[int, int]]]]
) -> None:
    """List what is the same as something else, with its id."""
    wanted = {number for _, _, found in pairs for number, _ in found}
    names = {}
    if wanted:
        names = {line.number: line.name() for line in cut_lines(manifest) if line.number in wanted}
    for kind, said, found in pairs:
        for number, first in found:
            faults.add(number, names[number], kind, said.format(first))


def _clean(lines: IO[str], fatal: set[int], path: Path) -> int:
    """Write the repaired lines that may stay; how many there are."""
    kept = 0
    lines.seek(0)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for line in lines:
            number, _, text = line.partition("\t")
            if int(number) not in fatal:
                file.write(text)
                kept += 1
        if not kept:
            raise DataError("no item is without errors: no cleaned copy", do="leave --fix out")
    return kept


def _checked(path: Path, cfg: CheckConfig, how: RunConfig) -> Iterator[Checked]:
    """Every line's outcome, in the order of the lines."""
    folder = Path() if is_shards(path) else path.parent
    return ordered_map(_work, (folder, cfg), cut_lines(path, how.limit), how, _died)


def _died(line: Line) -> Checked:
    fault = ("unreadable", "the process that read it died")
    return Checked(line.number, line.name(), faults=[fault])


def _work(work: tuple[Path, CheckConfig], lines: Sequence[Line]) -> list[Checked]:
    """In a worker: check some lines."""
    return [_safely(line, *work) for line in lines]


def _safely(line: Line, folder: Path, cfg: CheckConfig) -> Checked:
    """A line so odd that a check itself fails over it has a fault, too."""
    try:
        return check(line, folder, cfg)
    except Exception as error:
        fault = ("line", f"a check failed over it: {unforeseen(error)}")
        return Checked(line.number, line.name(), faults=[fault])
