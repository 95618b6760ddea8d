"""Large sets as lhotse Shar: some hundred sounds a tar, with their cuts beside it.

``OUT/shar`` is what ``lhotse.CutSet.from_shar`` reads; ``OUT/shards.json`` lists it for our
training (fo_core/data/shards.py). A shard appears whole; a stopped run goes on at the next one.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from data_prep.runner.backends import WorkerDied, open_backend
from data_prep.runner.journal import disk_fault
from data_prep.runner.lines import Line, count_lines, cut_lines
from data_prep.runner.run import Progress, RunConfig, quiet
from fo_core.config import config
from fo_core.data.cuts import custom_recordings
from fo_core.data.manifest import Item, from_cut
from fo_core.data.shards import FOLDER, INDEX, PLACE
from fo_core.errors import DataError, FoError
from fo_core.io.audio import mono
from fo_core.io.files import only_run, read_json, replacing, sha256_of, write_json
from fo_core.io.parts import is_part, read_part
from fo_core.io.sound_file import open_sound


@config
class ShardConfig:
    """How a set is cut into shards."""

    size: int = 1000  # items a shard


@dataclass(frozen=True)
class _Job:
    """One shard to write."""

    number: int
    lines: list[Line]
    folder: str  # of the manifest
    out: str


def run(
    cfg: ShardConfig,
    source: str | Path,
    out: str | Path,
    how: RunConfig | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Write a manifest's items and their sounds as shards.

    Args:
        cfg: Size of a shard.
        source: Manifest of cuts (JSONL, ``.gz`` too).
        out: Folder; takes ``shar/``, shards.json, rejects.jsonl and report.json.
        how: Processes, engine and limit.
        progress: Called with ("shard", items done, items).

    Returns:
        The report.

    Raises:
        DataError: The manifest is missing or empty, the folder holds shards of other settings, the
            disk is full, or no item could be used.
    """
    how, source, out = how or RunConfig(), Path(source), Path(out)
    if cfg.size < 1:
        raise DataError(f"shards of {cfg.size} items", possible="1 or more")
    started = time.perf_counter()
    with only_run(out):
        made_by = _made_by(cfg, source, how.limit)
        state = out / ".made_by.json"
        if state.exists() and read_json(state) != made_by:
            raise DataError(f"{out} holds shards of another manifest or size",
                            do="name another --out, or delete it")  # fmt: skip
        (out / FOLDER).mkdir(exist_ok=True)
        for left in (out / FOLDER).glob(".*"):  # of a run that was killed; lhotse would trip
            left.unlink()
        write_json(state, made_by)
        total = count_lines(source, how.limit)
        if not total:
            raise DataError(f"manifest {source} is empty", do="run the step that writes it again")
        done = _write_all(cfg, source, out, how, total, progress)
        report = _finish(out, done, total)
        report |= {"seconds": round(time.perf_counter() - started, 2), "source": str(source)}
        write_json(out / "report.json", report)
    if not report["made"]:
        raise DataError(f"none of {total} items could be put into a shard",
                        do=f"see {out / 'rejects.jsonl'}")  # fmt: skip
    return report


def _made_by(cfg: ShardConfig, source: Path, limit: int) -> dict[str, Any]:
    try:
        digest = sha256_of(source)
    except OSError as error:
        raise DataError(f"cannot read manifest {source}: {error}") from error
    return {"manifest": digest, "size": cfg.size, "limit": limit}


def _jobs(cfg: ShardConfig, source: Path, out: Path, limit: int) -> Iterator[_Job]:
    lines = cut_lines(source, limit)
    for number in itertools.count():
        block = list(itertools.islice(lines, cfg.size))
        if not block:
            return
        yield _Job(number, block, str(source.parent), str(out))


def _write_all(
    cfg: ShardConfig, source: Path, out: Path, how: RunConfig, total: int, progress: Progress
) -> int:
    """Write the shards that are not there; the number of shards."""
    jobs = _jobs(cfg, source, out, how.limit)
    backend = open_backend(how.engine, _answer, None, how.workers)
    flying: dict[Any, _Job] = {}
    count = ended = 0
    try:
        while True:
            while len(flying) < backend.slots and (job := next(jobs, None)) is not None:
                count += 1
                if _report(out, job.number).exists():
                    ended += len(job.lines)
                    continue
                flying[backend.submit([job])] = job
            progress("shard", ended, total)
            if not flying:
                return count
            for handle in backend.wait(list(flying)):
                job = flying.pop(handle)
                try:
                    fault = backend.result(handle)
                except WorkerDied as error:
                    raise DataError(
                        f"a process died that wrote a shard near line {job.lines[0].number}",
                        do="fo prepare-data validate finds the item; --fix leaves it out",
                    ) from error
                if fault:
                    raise DataError(fault)
                ended += len(job.lines)
    finally:
        backend.close()


def _answer(work: None, jobs: list[_Job]) -> str:
    """In a worker: write shards; the fault that ends the run, or ""."""
    try:
        for job in jobs:
            write_shard(job)
    except FoError as error:
        return str(error)
    except OSError as error:
        return f"cannot write shards: {error}"
    return ""


def write_shard(job: _Job) -> None:
    """Write one shard: the tar, the cuts, and last its report, which says that it is whole.

    Raises:
        DataError: The disk is full.
    """
    folder = Path(job.out) / FOLDER
    cuts: list[str] = []
    rejects: list[dict[str, Any]] = []
    seen: set[str] = set()
    seconds = 0.0
    with replacing(folder / f"recording.{job.number:06d}.tar") as path:
        with path.open("wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
            for line in job.lines:
                try:
                    cut, length = _add(archive, line, job.folder, seen)
                except (FoError, OSError, soundfile.SoundFileError) as error:
                    if disk_fault(error):
                        raise
                    rejects.append({"id": line.name(), "step": "shard", "line": line.number,
                                    "reason": str(error)})  # fmt: skip
                    continue
                cuts.append(cut)
                seconds += length
    with replacing(folder / f"cuts.{job.number:06d}.jsonl.gz") as path, path.open("wb") as file:
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
            packed.write("".join(cuts).encode())
    report = {"items": len(job.lines), "made": len(cuts), "audio_seconds": round(seconds, 3)}
    write_json(_report(Path(job.out), job.number), {**report, "rejects": rejects})


def _report(out: Path, number: int) -> Path:
    """A shard's report: it is there when the shard is whole. Not in lhotse's folder."""
    return out / ".shards" / f"{number:06d}.json"


def _add(archive: tarfile.TarFile, line: Line, folder: str, seen: set[str]) -> tuple[str, float]:
    """Put one item's sound into the tar; its cut's line and its length in s."""
    if line.fault:
        raise DataError(line.fault)
    try:
        cut = json.loads(line.data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}") from error
    item = from_cut(cut, Path(folder))
    name = item.id
    if name in seen:
        raise DataError(f"the id {name!r} comes twice")
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"the id {name!r} cannot name a file")
    for further in custom_recordings(item.extra):
        raise DataError(f"its custom recording {further!r} cannot be put into a shard")
    data, rate, samples = _flac(item)
    recording = {
        "id": cut["recording"].get("id", name),
        "sources": [{"type": "shar", "channels": [0], "source": ""}],
        "sampling_rate": rate,
        "num_samples": samples,
        "duration": samples / rate,
        "channel_ids": [0],
    }
    place = _member(archive, f"{name}.flac", data)
    _member(archive, f"{name}.json", json.dumps(recording).encode() + b"\n")
    seen.add(name)
    custom = {**(cut.get("custom") or {}), PLACE: [place, len(data)]}
    said = [{**one, "channel": 0} for one in cut.get("supervisions") or ()]
    placed = {**cut, "start": 0, "duration": samples / rate, "channel": 0, "type": "MonoCut",
              "supervisions": said, "recording": recording, "custom": custom}  # fmt: skip
    return json.dumps(placed, ensure_ascii=False) + "\n", samples / rate


def _member(archive: tarfile.TarFile, name: str, data: bytes) -> int:
    """Put a file into the tar; where its bytes begin."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
    return archive.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _flac(item: Item) -> tuple[bytes, int, int]:
    """An item's sound as FLAC bytes, its rate and its samples; a mono FLAC is copied as it is.

    Raises:
        AudioError: It cannot be read, or has no such channel.
        DataError: It holds no samples, or fewer than its header says.
    """
    path = item.audio
    with open_sound(path) as sound:
        first, rate = round(item.start * sound.rate), sound.rate
        count = round(item.seconds * rate) if item.seconds else 2**40
        if sound.frames is not None:
            count = min(count, sound.frames - first)
        if count <= 0:
            raise DataError(f"{path} holds no samples from {item.start:g} s on")
        copy = sound.flac and sound.channels == 1 and count == sound.frames
        deep = sound.deep
        sound.skip(first)
        samples = sound.read(count)
        known = sound.frames is not None
    if len(samples) < count and known:
        raise DataError(f"{path} was cut short: {len(samples)} of {count} samples")
    if copy:
        data = read_part(path) if is_part(path) else Path(path).read_bytes()
        return data, rate, count
    packed, full = io.BytesIO(), 2.0 ** (23 if deep else 15)
    wave = mono(path, samples, item.channel).astype(np.float64) * full
    whole = np.clip(np.round(wave), -full, full - 1).astype(np.int32) << (8 if deep else 16)
    soundfile.write(packed, whole, rate, "PCM_24" if deep else "PCM_16", format="FLAC")
    return packed.getvalue(), rate, len(samples)


def _finish(out: Path, shards: int, total: int) -> dict[str, Any]:
    """Gather the shards' reports into the index, the rejects and the report."""
    index, made, seconds = [], 0, 0.0
    reasons: Counter[str] = Counter()
    with replacing(out / "rejects.jsonl") as path, path.open("w", encoding="utf-8") as rejects:
        for number in range(shards):
            found = read_json(_report(out, number))
            for row in found["rejects"]:
                rejects.write(json.dumps(row, ensure_ascii=False) + "\n")
                reasons[row["reason"].partition(":")[0]] += 1
            made += found["made"]
            seconds += found["audio_seconds"]
            index.append({
                "cuts": f"{FOLDER}/cuts.{number:06d}.jsonl.gz",
                "recording": f"{FOLDER}/recording.{number:06d}.tar",
                "items": found["made"],
            })  # fmt: skip
    write_json(out / INDEX, {"items": made, "audio_seconds": round(seconds, 3), "shards": index})
    size = sum((out / row["recording"]).stat().st_size for row in index)
    return {
        "step": "shard",
        "items": total,
        "made": made,
        "rows": made,
        "rejected": dict(reasons.most_common()),
        "shards": shards,
        "audio_hours": round(seconds / 3600, 4),
        "bytes": size,
    }
