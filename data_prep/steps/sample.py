"""A uniform sample of published dialogues in one pass, in bounded memory, the same from any form.

Every conversation has a key: a hash of the seed and of what its user says. The sample is the
conversations with the smallest keys. So it does not matter in which order or form they are read,
twins are drawn once, and the first K rows of a sample of N are the sample of K.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

from data_prep.filters import FILTERS, Limits, faults, language_of
from data_prep.runner.run import Progress, RunConfig, quiet
from data_prep.sources import dialogues
from data_prep.sources.containers import Records
from data_prep.sources.dialogues import Dialogue, Turn
from data_prep.sources.moss import Conversation, parse
from fo_core.config import config, to_dict
from fo_core.errors import ConfigError, DataError
from fo_core.io.files import only_run, read_json, replacing, write_json
from fo_core.registry import did_you_mean

EVERY = 500  # records between two calls of progress


@config
class SampleConfig:
    """Which conversations are drawn, and what of them is kept."""

    input: tuple[str, ...] = ()  # files and folders of moss-003, in any of its forms
    number: int = 60_000  # dialogues to draw
    seed: int = 0  # another seed draws others
    languages: tuple[str, ...] = ("en", "zh")  # of the user, by script; () = all
    categories: tuple[str, ...] = ()  # only these, in any case; () = all
    by: Literal["", "category", "language"] = ""  # draw the same number of each of these
    quotas: Mapping[str, int] = field(default_factory=dict)  # or so many of each (needs "by")
    tools: bool = False  # keep turns that used a tool
    after: Literal["cut", "drop"] = "cut"  # a turn that cannot be said: end before it, or drop all
    min_turns: int = 1  # shorter dialogues are dropped
    max_turns: int = 0  # longer ones end here; 0 = no limit
    answers: bool = False  # the data's own answers must pass the filters too
    no_filter: tuple[str, ...] = ()  # filters that are off; "all" is all of them
    limits: Limits = Limits()


@dataclass
class Counts:
    """What became of what was read."""

    read: int = 0
    eligible: int = 0
    missing_turns: int = 0
    tool_turns: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # conversations, by reason
    kinds: Counter[str] = field(default_factory=Counter)  # broken | filtered
    turns: Counter[str] = field(default_factory=Counter)  # turns that a filter stopped
    cut: Counter[str] = field(default_factory=Counter)  # dialogues that a filter shortened
    found: dict[str, Counter[str]] = field(
        default_factory=lambda: {"language": Counter(), "category": Counter()}
    )  # what conversations there are, before any choice


class Smallest:
    """The N rows with the smallest keys of a stream; the rows themselves wait in a file.

    Args:
        limit: N.
        file: Takes every row that was among the N for a while, N (1 + ln(rows / N)) of them.
    """

    def __init__(self, limit: int, file: IO[bytes]) -> None:
        self.limit, self.file = limit, file
        self._heap: list[tuple[int, int, int]] = []  # (-key, place, size)
        self._times: dict[int, int] = {}  # key -> how often it came

    def add(self, key: int, row: Mapping[str, Any]) -> bool:
        """Offer a row; False if it is the twin of one that is held."""
        if key in self._times:
            self._times[key] += 1
            return False
        if len(self._heap) < self.limit:
            self._times[key] = 1
            heapq.heappush(self._heap, self._put(key, row))
        elif self._heap and key < -self._heap[0][0]:
            self._times[key] = 1
            largest = heapq.heapreplace(self._heap, self._put(key, row))
            del self._times[-largest[0]]
        return True

    def _put(self, key: int, row: Mapping[str, Any]) -> tuple[int, int, int]:
        packed = zlib.compress(json.dumps(row, ensure_ascii=False).encode(), 1)
        place = self.file.seek(0, 2)
        self.file.write(packed)
        return -key, place, len(packed)

    def keys(self) -> list[int]:
        """Of the rows that are held, the smallest first."""
        return sorted(-key for key, _, _ in self._heap)

    def twins(self, keys: set[int]) -> int:
        """How many further times rows with these keys came."""
        return sum(self._times[key] - 1 for key in keys & self._times.keys())

    def rows(self, keys: set[int]) -> Iterator[tuple[int, Any]]:
        """(key, row) of the rows with these keys, the smallest key first."""
        for key, place, size in sorted(self._heap, reverse=True):
            if -key not in keys:
                continue
            self.file.seek(place)
            yield -key, json.loads(zlib.decompress(self.file.read(size)))


def run(
    cfg: SampleConfig,
    source: str | Path | Sequence[str | Path] | None,
    out: str | Path,
    how: RunConfig | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Draw dialogues into a folder; what is there already, by equal settings, is left alone.

    The folder takes manifest.jsonl (dialogues.py), rejects.jsonl (what was read and cannot be
    drawn, with the reason) and report.json. One process reads: a pass is quicker than its disk.

    Args:
        cfg: What to draw.
        source: Files or folders to draw from; None takes ``cfg.input``.
        out: The folder.
        how: Its ``limit`` caps the number.
        progress: Called with ("sample", bytes done, bytes there are).

    Returns:
        The report.

    Raises:
        ConfigError: An unknown filter, quotas without ``by``, or no source.
        DataError: A source cannot be read at all, or no conversation can be drawn.
        FoError: Another run works in the folder.
    """
    paths = [source] if isinstance(source, (str, Path)) else list(source or cfg.input)
    if how is not None and how.limit:
        cfg = replace(cfg, number=min(how.limit, cfg.number))
    checks = _checks(cfg)
    if not paths:
        raise ConfigError("sample has no input", do="name moss-003's files or folders")
    out, started = Path(out), time.perf_counter()
    records = Records(paths)
    with only_run(out):
        # what the sample depends on: the settings, and the files as they are now
        said = json.dumps([to_dict(replace(cfg, input=())), records.stamp], sort_keys=True)
        made_by = hashlib.sha256(said.encode()).hexdigest()[:16]
        if (out / "report.json").exists() and (out / "manifest.jsonl").exists():
            report = read_json(out / "report.json")
            if report.get("made_by") == made_by:
                return report
        report = {"step": "sample", **_draw(records, cfg, checks, out, progress)}
        report["seconds"] = round(time.perf_counter() - started, 2)
        report["items_per_second"] = round(report["items"] / max(report["seconds"], 0.01), 1)
        report["sources"] = [str(path) for path in paths]
        report["made_by"] = made_by if report["made"] else ""
        write_json(out / "report.json", report)
    progress("sample", records.total, records.total)
    if not report["made"]:
        raise _nothing(report, out)
    return report


def _nothing(report: Mapping[str, Any], out: Path) -> DataError:
    """Why nothing was drawn, and what there is instead of what was asked for."""
    rejected = [f"{name} {count}" for name, count in report["rejected"].items()]
    main = next(iter(report["rejected"]), "")
    there = report["found"].get(main, {})
    return DataError(
        f"none of {report['items']} conversations can be drawn"
        f" ({', '.join(rejected[:4]) or 'no record'})",
        possible=", ".join(f"{main} {name or '(none)'}" for name in list(there)[:20]),
        do=f"see {out / 'rejects.jsonl'}"
        + ("" if there or not main else "; --no-filter turns a filter off"),
    )


def _draw(
    records: Records, cfg: SampleConfig, checks: dict[str, Any], out: Path, progress: Progress
) -> dict[str, Any]:
    """Read everything once and write what is drawn; returns the counts."""
    counts = Counts()
    heaps: dict[str, Smallest] = {}
    try:
        with tempfile.TemporaryFile(dir=out) as spool, replacing(out / "rejects.jsonl") as listed:
            with listed.open("w", encoding="utf-8") as rejects:
                for made in _eligible(records, cfg, checks, counts, rejects, progress):
                    group = getattr(made, cfg.by) if cfg.by else ""
                    limit = cfg.quotas.get(group, 0) if cfg.quotas else cfg.number
                    heap = heaps.setdefault(group, Smallest(limit, spool))
                    # its place in the order of this seed: 64 bits, as good as random
                    place = hashlib.blake2b(f"{cfg.seed}:{made.id}".encode(), digest_size=8)
                    heap.add(int.from_bytes(place.digest()), made.to_dict())
                    counts.eligible += 1
            return _write(out, heaps, cfg, counts)
    except OSError as error:
        raise DataError(f"cannot write in {out}: {error}", do="free space there") from error


def _checks(cfg: SampleConfig) -> dict[str, Any]:
    """The filters that are on."""
    for name in cfg.no_filter:
        if name not in FILTERS and name != "all":
            raise ConfigError(f"unknown filter {name!r}",
                              possible=did_you_mean(name, [*FILTERS, "all"]))  # fmt: skip
    if cfg.quotas and not cfg.by:
        raise ConfigError("quotas need by", possible="by=category or by=language")
    if cfg.number < 1 or any(count < 0 for count in cfg.quotas.values()):
        raise ConfigError("nothing to draw", possible="a number of 1 or more")
    if "all" in cfg.no_filter:
        return {}
    return {name: check for name, check in FILTERS.items() if name not in cfg.no_filter}


def _eligible(
    records: Records,
    cfg: SampleConfig,
    checks: dict[str, Any],
    counts: Counts,
    rejects: IO[str],
    progress: Progress,
) -> Iterator[Dialogue]:
    """What may be drawn; the rest is counted and listed."""

    def reject(source: str, kind: str, reason: str, short: str, name: str = "") -> None:
        counts.kinds[kind] += 1
        counts.reasons[short] += 1
        row = {"id": name or source, "step": "sample", "reason": reason, "kind": kind,
               "source": source}  # fmt: skip
        rejects.write(json.dumps(row, ensure_ascii=True) + "\n")

    wanted = {name.lower() for name in cfg.categories}
    for record in records:
        counts.read += 1
        if counts.read % EVERY == 0:
            progress("sample", min(records.done, records.total - 1), records.total)
        if record.fault:
            reject(record.source, "broken", record.fault, record.fault.split(":")[0])
            continue
        try:
            found = parse(record.data)
        except DataError as error:
            reject(record.source, "broken", str(error), re.sub(r"\d+", "N", error.what))
            continue
        counts.missing_turns += found.missing
        name = f"d{found.digest()}"
        kept: tuple[Turn, ...] = ()
        language = language_of(" ".join(turn.user for turn in found.turns))
        counts.found["language"][language] += 1
        counts.found["category"][found.category] += 1
        if wanted and found.category not in wanted:
            reason = "category"
        elif cfg.languages and language not in cfg.languages:
            reason = "language"
        else:
            reason, kept = _speakable(found, language, cfg, checks, counts)
        if not kept:
            reject(record.source, "filtered", reason, reason, name)
            continue
        yield Dialogue(name, kept, language, found.category, record.source)


def _speakable(
    found: Conversation, language: str, cfg: SampleConfig, checks: dict[str, Any], counts: Counts
) -> tuple[str, tuple[Turn, ...]]:
    """The turns that are kept, and the reason why there are no more of them."""
    kept: list[Turn] = []
    first = ""  # why the dialogue ends where it does
    for turn, tool in zip(found.turns, found.tools, strict=True):
        failed = ["tool"] if tool and not cfg.tools else []
        counts.tool_turns += tool
        failed += faults(turn.user, language, cfg.limits, checks)
        if cfg.answers and turn.assistant:
            failed += faults(turn.assistant, language, cfg.limits, checks)
        counts.turns.update(set(failed))
        if failed and not first:
            first = failed[0]
        if not first and not (cfg.max_turns and len(kept) >= cfg.max_turns):
            kept.append(turn)
    if first and (cfg.after == "drop" or not kept):
        return first, ()
    if len(kept) < cfg.min_turns:
        return first or "short", ()
    if first:
        counts.cut[first] += 1
    return first, tuple(kept)


def _drawn(heaps: Mapping[str, Smallest], cfg: SampleConfig) -> tuple[dict[str, set[int]], int]:
    """The keys that are drawn of each group, and how many twins they had."""
    keys = {name: heap.keys() for name, heap in sorted(heaps.items())}
    share = {name: len(found) for name, found in keys.items()}
    if cfg.by and not cfg.quotas:  # fill all groups evenly until the number is reached
        left, waiting = cfg.number, sorted(keys, key=lambda name: (len(keys[name]), name))
        for place, name in enumerate(waiting):
            share[name] = min(len(keys[name]), -(-left // (len(waiting) - place)))
            left -= share[name]
    drawn = {name: set(found[: share[name]]) for name, found in keys.items()}
    return drawn, sum(heap.twins(drawn[name]) for name, heap in heaps.items())


def _write(
    out: Path, heaps: Mapping[str, Smallest], cfg: SampleConfig, counts: Counts
) -> dict[str, Any]:
    """Write the drawn dialogues, the smallest key first; returns the counts."""
    drawn, twins = _drawn(heaps, cfg)
    languages: Counter[str] = Counter()
    categories: Counter[str] = Counter()
    turns: Counter[int] = Counter()

    def chosen() -> Iterator[Dialogue]:
        held = [heap.rows(drawn[name]) for name, heap in heaps.items()]
        last = None
        for key, row in heapq.merge(*held, key=lambda found: found[0]):
            if key == last:  # a twin of another category
                continue
            last, made = key, Dialogue.from_dict(row)
            languages[made.language] += 1
            categories[made.category] += 1
            turns[len(made.turns)] += 1
            yield made

    sampled = dialogues.write(out / "manifest.jsonl", chosen())
    dropped = counts.reasons
    return {
        "items": counts.read,
        "made": sampled,
        "rows": sampled,
        "rejected": dict(dropped.most_common()),
        "broken": counts.kinds["broken"],
        "filtered": counts.kinds["filtered"],
        "eligible": counts.eligible,
        "duplicates": twins,  # of what was drawn
        "turns": sum(n * many for n, many in turns.items()),
        "missing_turns": counts.missing_turns,
        "tool_turns": counts.tool_turns,
        "filters": {
            name: {"turns": counts.turns[name], "cut": counts.cut[name], "dropped": dropped[name]}
            for name in ["tool", *FILTERS]
        },
        "found": {kind: dict(each.most_common()) for kind, each in counts.found.items()},
        "languages": dict(languages.most_common()),
        "categories": dict(categories.most_common()),
        "turns_a_dialogue": {str(n): turns[n] for n in sorted(turns)},
    }
