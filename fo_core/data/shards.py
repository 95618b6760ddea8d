"""Items of lhotse Shar shards, local or remote, whose sounds are read in place, never unpacked.

A set is a folder or URL with ``cuts.000000.jsonl.gz`` and ``recording.000000.tar`` and so on, as
``fo prepare-data shard`` or lhotse write them. Ours say in ``shards.json`` what there is, and in
every cut where its sound lies in the tar; lhotse's own need the tar's headers read (local only).
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fo_core.data.item import Item, from_cut
from fo_core.errors import DataError
from fo_core.io.parts import as_url, fetch, open_file, part

INDEX = "shards.json"
FOLDER = "shar"  # of our sets: lhotse wants a folder of its own
PLACE = "part"  # in a cut's custom: where in the tar its sound is, (start, size) in bytes


def is_shards(path: str | Path) -> bool:
    """Whether this names a set of shards: a folder of them, its ``shards.json``, or a URL."""
    if as_url(path):
        return not str(path).endswith((".jsonl", ".jsonl.gz"))
    path = Path(path)
    return path.name == INDEX or (path.is_dir() and bool(_local_pairs(path)))


def open_items(path: str | Path) -> Iterator[Item]:
    """Items of a set of shards, one after the other; ``Item.audio`` is a part of a tar.

    Args:
        path: What :func:`is_shards` takes.

    Raises:
        DataError: Nothing is there, a shard is damaged, or a cut has no sound.
    """
    for cuts, tar in pairs_of(path):
        yield from shard_items(cuts, tar)


def pairs_of(path: str | Path) -> list[tuple[str, str]]:
    """(cuts, tar) of every shard of a set.

    Raises:
        DataError: There is none.
    """
    pairs = _remote_pairs(as_url(path)) if as_url(path) else _local_pairs(Path(path))
    if not pairs:
        raise DataError(f"no shards in {path}", possible="cuts.*.jsonl.gz beside recording.*.tar",
                        do="fo prepare-data shard makes them")  # fmt: skip
    return pairs


def shard_items(cuts: str, tar: str) -> Iterator[Item]:
    """Items of one shard.

    Raises:
        DataError: It is damaged, or a cut has no sound.
    """
    try:
        yield from _shard(cuts, tar)
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        raise DataError(f"{cuts} is damaged: {error}", do="make or copy it again") from error


def _shard(cuts: str, tar: str) -> Iterator[Item]:
    places: dict[str, tuple[int, int]] | None = None
    data = fetch(cuts) if as_url(cuts).startswith("http") else _read(cuts)
    with gzip.open(io.BytesIO(data), "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            item = from_cut(json.loads(line))
            place = item.extra.pop(PLACE, None)
            if place is None:
                places = _places(tar) if places is None else places
                place = places.get(item.id)
            if place is None:
                raise DataError(f"{cuts} line {number}: {tar} has no sound for {item.id!r}")
            yield replace(item, audio=part(tar, int(place[0]), int(place[1])))


def _read(path: str) -> bytes:
    with open_file(path) as file:
        return file.read()


def _places(tar: str) -> dict[str, tuple[int, int]]:
    """Where each sound of a tar lies; only the headers are read."""
    if as_url(tar):
        raise DataError(
            f"{tar}: its cuts do not say where their sounds are",
            do="make the shards with fo prepare-data shard, or copy them here",
        )
    with tarfile.open(tar, "r:") as archive:
        return {
            member.name.rpartition(".")[0]: (member.offset_data, member.size)
            for member in archive
            if not member.name.endswith((".json", ".nodata", ".nometa"))
        }


def _local_pairs(path: Path) -> list[tuple[str, str]]:
    """(cuts, tar) of every shard of a folder, in order."""
    if path.name == INDEX:
        return _pairs(_index(path.read_bytes(), str(path)), f"{path.parent}/")
    if (path / INDEX).is_file():
        return _local_pairs(path / INDEX)
    pairs = []
    for cuts in sorted(path.glob("cuts.*.jsonl.gz")):
        tar = path / cuts.name.replace("cuts.", "recording.", 1).replace(".jsonl.gz", ".tar")
        if not tar.exists():
            raise DataError(f"shard {cuts} has no {tar.name} beside it", do="copy it again")
        pairs.append((str(cuts), str(tar)))
    return pairs


def _remote_pairs(url: str) -> list[tuple[str, str]]:
    if "://" not in url:  # file:///...
        return _local_pairs(Path(url))
    base = url.removesuffix(INDEX).rstrip("/") + "/"
    data = fetch(base + INDEX) if url.startswith("http") else _read(base + INDEX)
    return _pairs(_index(data, base + INDEX), base)


def _index(data: bytes, name: str) -> list[dict[str, Any]]:
    try:
        shards = json.loads(data)["shards"]
        return [{"cuts": str(s["cuts"]), "recording": str(s["recording"])} for s in shards]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{name} is not an index of shards: {error}") from error


def _pairs(shards: list[dict[str, Any]], base: str) -> list[tuple[str, str]]:
    return [(base + shard["cuts"], base + shard["recording"]) for shard in shards]
