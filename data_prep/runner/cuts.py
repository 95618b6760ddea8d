"""Rows of manifests for the steps: any number of files or shards, each row with its own place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.runner.lines import cut_lines
from data_prep.runner.run import Row
from fo_core.data.cuts import with_source
from fo_core.data.manifest import from_cut
from fo_core.data.shards import is_shards
from fo_core.errors import DataError
from fo_core.io.parts import as_url, is_part

SPLITS = ("train", "val", "test")  # manifests of a folder that is split


def file_stem(name: str) -> str:
    """A file's name for an item's id: the id itself, or a hash of one that files cannot have."""
    plain = re.fullmatch(r"\w[\w.-]{0,150}", name)
    return name if plain else hashlib.sha256(name.encode(errors="replace")).hexdigest()[:20]


def manifests(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """The manifests that are meant: files, shards, or the split ones of a folder.

    Raises:
        DataError: A folder holds none of them, or nothing is there.
    """
    found: list[Path] = []
    for each in [source] if isinstance(source, str | Path) else source:
        path = Path(each)
        if not path.is_dir() or is_shards(path):
            found.append(path)
            continue
        held = [path / f"{name}.jsonl" for name in SPLITS]
        held = [name for name in held if name.is_file()]
        if not held:
            there = ", ".join(sorted(p.name for p in path.glob("*.jsonl"))[:8]) or "none"
            raise DataError(f"{path} holds no train.jsonl, val.jsonl or test.jsonl",
                            possible=there, do="name a manifest")  # fmt: skip
        found += held
    return found


def named(source: str | Path | Sequence[str | Path]) -> str:
    """One or several manifests for a message."""
    return str(source) if isinstance(source, str | Path) else ", ".join(map(str, source))


def cuts_of(source: str | Path | Sequence[str | Path]) -> Iterator[Row | str]:
    """Rows of manifests, in order; a line that is none comes as the reason, in words.

    A relative path of a sound is made absolute, and a row of one of several manifests that says no
    split gets that of the file's name (train, val, test).

    Raises:
        DataError: A manifest is missing or cannot be read.
    """
    paths = manifests(source)
    for path in paths:
        split = path.name.removesuffix(".gz").removesuffix(".jsonl") if len(paths) > 1 else ""
        for line in cut_lines(path):
            if line.fault:
                yield line.fault
                continue
            try:
                row = json.loads(line.data)
            except (ValueError, RecursionError) as error:
                yield f"not JSON: {error}"
                continue
            yield _placed(row, path.parent, split) if isinstance(row, dict) else "not a JSON object"


def _placed(row: Row, folder: Path, split: str) -> Row:
    """The row with the absolute path of its sound, and its split."""
    with contextlib.suppress(DataError):  # whoever works on the row says what it lacks
        sound = from_cut(row, folder).audio
        if not as_url(sound) and not is_part(sound):
            row["recording"]["sources"] = with_source(row, str(Path(sound).absolute()))
    if split in SPLITS and isinstance(row.get("custom") or {}, dict):
        row["custom"] = {"split": split, **(row.get("custom") or {})}
    return row
