"""Cuts an imported corpus into train, val and test: seeded, by dialogue, text or speaker.

By several of them at once: what is held out is drawn by the first, and a row of the training side
that shares one of the others with it is skipped.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Literal

from data_prep.checks import short_hash
from data_prep.held_out import dialogue_of, ordered, speaker_of, text_of
from data_prep.runner.cuts import cuts_of
from data_prep.runner.run import Progress, Row, quiet
from fo_core.config import config
from fo_core.errors import ConfigError, DataError
from fo_core.io.files import only_run, replacing, write_json

By = Literal["dialogue", "text", "speaker"]
KEYS: dict[str, Callable[[Row], str]] = {
    "dialogue": dialogue_of,
    "text": text_of,
    "speaker": speaker_of,
}
EVERY = 5000  # rows between two calls of progress


@config
class SplitConfig:
    """How much is held out, and what must not be on both sides."""

    val: float = 0.05  # share of the rows for validation
    test: float = 0.0  # share of the rows for a test set
    by: tuple[By, ...] = ("dialogue",)  # a row of no dialogue stands for its text
    seed: int = 0  # another one holds out others


def run(
    manifests: Sequence[str | Path],
    out: str | Path,
    cfg: SplitConfig | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Write train.jsonl, val.jsonl and test.jsonl of manifests; every row names its split.

    Args:
        manifests: What is split.
        out: Folder of the parts, with split.json; all of them appear, or none.
        cfg: Shares, what is kept apart, the seed.
        progress: Called with ("split", rows done, rows).

    Returns:
        The report: {"items", "splits": {name: {"items", "hours", "speakers"}}, "left_out",
        "by"}.

    Raises:
        ConfigError: The shares leave no room for training.
        DataError: A manifest is empty, has a line that is no cut, or cannot be split so.
    """
    cfg, out = cfg or SplitConfig(), Path(out)
    wanted = {"val": cfg.val, "test": cfg.test}
    wanted = {name: share for name, share in wanted.items() if share}
    if not wanted or min(wanted.values()) < 0 or sum(wanted.values()) >= 1:
        raise ConfigError(f"split: val {cfg.val:g} and test {cfg.test:g}",
                          possible="shares above 0 that leave some for training",
                          )  # fmt: skip
    if not cfg.by:
        raise ConfigError("split: by is empty", possible=", ".join(KEYS))
    sizes = _groups(manifests, cfg.by[0])
    place = _drawn(sizes, wanted, cfg)
    total = sum(sizes.values())
    apart: dict[str, dict[int, str]] = {
        str(name): _held(manifests, KEYS[name], cfg.by[0], place) for name in cfg.by[1:]
    }
    with only_run(out):
        report = _write(manifests, out, cfg, place, apart, total, progress)
        write_json(out / "split.json", report)
    return report


def _rows(manifests: Sequence[str | Path]) -> Any:
    for number, row in enumerate(cuts_of(manifests), 1):
        if not isinstance(row, dict):
            raise DataError(f"row {number} is no cut: {row}",
                            do="fo prepare-data validate --fix writes a clean copy")  # fmt: skip
        yield row


def _groups(manifests: Sequence[str | Path], by: str) -> Counter[str]:
    """Group -> its rows.

    Raises:
        DataError: There is no row, or one without a speaker where that is asked for.
    """
    sizes: Counter[str] = Counter()
    for row in _rows(manifests):
        name = KEYS[by](row)
        if by == "speaker" and not name:
            raise DataError(f"{row.get('id')} names no speaker",
                            do="import with speaker=COLUMN, or split by text")  # fmt: skip
        sizes[name] += 1
    if not sizes:
        raise DataError(f"{manifests[0]} is empty", do="import the corpus again")
    return sizes


def _drawn(sizes: Counter[str], wanted: dict[str, float], cfg: SplitConfig) -> dict[str, str]:
    """Group -> the part that holds it out.

    Raises:
        DataError: There are too few groups for a part and training.
    """
    total, by = sum(sizes.values()), cfg.by[0]
    if len(sizes) <= len(wanted):
        names = ", ".join(list(sizes)[:3]) if by == "speaker" else ""
        raise DataError(
            f"{total} rows of {len(sizes)} {by}{'s' if len(sizes) > 1 else ''}"
            f"{f' ({names})' if names else ''}: nothing is left to train on"
            f" when {' and '.join(wanted)} take{'s' if len(wanted) == 1 else ''} one",
            do="split by text" if by == "speaker" else "import more, or use all for training",
        )
    place: dict[str, str] = {}
    order = iter(ordered(sizes, cfg.seed))
    for number, (part, share) in enumerate(wanted.items()):
        held = 0
        for name in order:
            place[name] = part
            held += sizes[name]
            left = len(sizes) - len(place) - (len(wanted) - number - 1)  # for parts to come
            if held >= share * total or left <= 1:
                break
    return place


def _held(
    manifests: Sequence[str | Path], key: Callable[[Row], str], by: str, place: dict[str, str]
) -> dict[int, str]:
    """Hash of a text (a speaker ...) that is held out -> the first part that has it."""
    found: dict[int, str] = {}
    for row in _rows(manifests):
        part = place.get(KEYS[by](row))
        if part and key(row):
            found.setdefault(short_hash(key(row).encode(errors="replace")), part)
    return found


def _write(
    manifests: Sequence[str | Path],
    out: Path,
    cfg: SplitConfig,
    place: dict[str, str],
    apart: dict[str, dict[int, str]],
    total: int,
    progress: Progress,
) -> dict[str, Any]:
    names = ("train", *dict.fromkeys(place.values()))
    counts: Counter[str] = Counter()
    seconds: dict[str, float] = dict.fromkeys(names, 0.0)
    speakers: dict[str, set[int]] = {name: set() for name in names}
    left_out: Counter[str] = Counter()
    with ExitStack() as stack:
        files: dict[str, IO[str]] = {}
        for name in names:
            path = stack.enter_context(replacing(out / f"{name}.jsonl"))
            files[name] = stack.enter_context(path.open("w", encoding="utf-8"))
        for number, row in enumerate(_rows(manifests)):
            if number % EVERY == 0:
                progress("split", number, total)
            part = place.get(KEYS[cfg.by[0]](row), "train")
            crosses = [
                name for name, held in apart.items()
                if held.get(short_hash(KEYS[name](row).encode(errors="replace")), part) != part
            ]  # fmt: skip
            if crosses:
                left_out[f"its {crosses[0]} is held out elsewhere"] += 1
                continue
            row["custom"] = {**(row.get("custom") or {}), "split": part}
            files[part].write(json.dumps(row, ensure_ascii=False) + "\n")
            counts[part] += 1
            seconds[part] += float(row.get("duration") or 0)
            speakers[part].add(short_hash(speaker_of(row).encode(errors="replace")))
        empty = [name for name in names if not counts[name]]
        if empty:
            raise DataError(
                f"nothing is left for {empty[0]}: every row of it shares its "
                f"{' or '.join(cfg.by[1:])} with what is held out",
                do=f"split by {cfg.by[0]} alone, or hold out less",
            )
    progress("split", total, total)
    return {
        "step": "split",
        "by": list(cfg.by),
        "items": total,
        "splits": {
            name: {"items": counts[name], "hours": round(seconds[name] / 3600, 4),
                   "speakers": len(speakers[name])}
            for name in names
        },
        "left_out": dict(left_out),
    }  # fmt: skip


def one_part(
    folder: Path, cfg: SplitConfig, splits: Sequence[str], progress: Progress = quiet
) -> dict[str, Any]:
    """Split what ``import`` has just written.

    Raises:
        DataError: The corpus has parts of its own.
    """
    if len(splits) != 1:
        raise DataError(
            f"{folder} has the parts {', '.join(splits)} of its own",
            do="leave --val out, or fo prepare-data split one of them into another folder",
        )
    name = splits[0]
    whole = folder / f"{name}.jsonl"
    if name in ("train", "val", "test"):  # the parts take this place
        whole = whole.rename(folder / "all.jsonl")
    return run([whole], folder, cfg, progress)
