"""JSON records out of the forms that dialogue data is published in, read as streams.

``.jsonl.zip`` (never unpacked), ``.jsonl``, ``.jsonl.gz``, and folders of one ``.json`` a record.
Whatever is damaged becomes a record with a fault; reading goes on where it can.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fo_core.errors import DataError

LONGEST = 8 * 2**20  # bytes of a line or a JSON file; longer ones are faults
FORMS = "a .jsonl.zip, .jsonl, .jsonl.gz or .json file, or a folder of these"
LINES = (".jsonl", ".ndjson", ".jsonlines")
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError)


@dataclass(frozen=True)
class Record:
    """One JSON value, or why there is none."""

    source: str  # file, !member of a zip, :line
    data: Any = None
    fault: str = ""


class Records:
    """Iterating gives every record of some files and folders, in the order of their names.

    Args:
        paths: Files and folders in any of the ``FORMS``.

    Attributes:
        done: Bytes read so far (unpacked ones, for a zip).
        total: Bytes there are.
        stamp: Hash of the files' names, sizes and times of change.

    Raises:
        DataError: A path does not exist, is of no known form, or is a zip that was cut short.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = [Path(path) for path in paths]
        self.done, self.total = 0, 0
        digest = hashlib.sha256()
        for path, label in self._all():
            self.total += _size(path)
            state = path.stat()
            digest.update(
                f"{label}\0{state.st_size}\0{state.st_mtime_ns}\0".encode(errors="replace")
            )
        self.stamp = digest.hexdigest()

    def _all(self) -> Iterator[tuple[Path, str]]:
        """Every file with its name below what was asked for; not held, as there may be many."""
        for root in self.paths:
            for file in _files(root):
                yield file, file.relative_to(root.parent).as_posix()

    def __iter__(self) -> Iterator[Record]:
        self.done = 0
        for file, label in self._all():
            before = self.done
            yield from self._file(file, label)
            self.done = before + _size(file)

    def _file(self, path: Path, label: str) -> Iterator[Record]:
        name = path.name.lower()
        if name.endswith(".zip"):
            yield from self._zip(path, label)
            return
        try:
            with path.open("rb") as raw:
                if name.endswith(".gz"):
                    yield from self._stream(gzip.GzipFile(fileobj=raw), label, name[:-3], raw)
                else:
                    yield from self._stream(raw, label, name, raw)
        except OSError as error:
            yield Record(label, fault=f"cannot be read: {error}")

    def _zip(self, path: Path, label: str) -> Iterator[Record]:
        with _open_zip(path) as archive:
            for member in _members(archive):
                source = f"{label}!{member.filename}"
                before = self.done
                try:
                    with archive.open(member) as file:
                        yield from self._stream(file, source, member.filename.lower(), file)
                except (*_DAMAGE, NotImplementedError) as error:
                    yield Record(source, fault=f"damaged: {error}")
                self.done = before + member.file_size

    def _stream(self, file: Any, source: str, name: str, told: IO[bytes]) -> Iterator[Record]:
        """Records of an open file; ``told`` knows how much was read."""
        before = self.done
        if name.endswith(".json"):
            yield from _whole(file, source)
            return
        for number, (line, fault) in enumerate(bounded_lines(file), 1):
            self.done = before + told.tell()
            if fault:
                yield Record(f"{source}:{number}", fault=fault)
            elif line.strip():
                yield _parsed(f"{source}:{number}", line)


def bounded_lines(file: Any) -> Iterator[tuple[bytes, str]]:
    """(line, "") of a binary file; (b"", why) for a line too long or where it is damaged."""
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file, 2**18)
    while True:
        try:
            line = buffered.readline(LONGEST + 1)
            long = len(line) > LONGEST
            while long and line and not line.endswith(b"\n"):
                line = buffered.readline(LONGEST)
        except _DAMAGE as error:
            yield b"", f"damaged from here on: {error}"
            return
        if long:
            yield b"", f"longer than {LONGEST >> 20} MB"
        elif line:
            yield line, ""
        else:
            return


def _parsed(source: str, data: bytes) -> Record:
    try:
        return Record(source, json.loads(data.removeprefix(b"\xef\xbb\xbf")))
    except RecursionError:
        return Record(source, fault="not JSON: nested too deep")
    except ValueError as error:
        return Record(source, fault=f"not JSON: {error}")


def _whole(file: IO[bytes], source: str) -> Iterator[Record]:
    """The record of a JSON file, or the records of a file that holds a list of them."""
    try:
        data = file.read(LONGEST + 1)
    except _DAMAGE as error:
        yield Record(source, fault=f"damaged: {error}")
        return
    if len(data) > LONGEST:
        yield Record(source, fault=f"longer than {LONGEST >> 20} MB")
        return
    found = _parsed(source, data)
    if not isinstance(found.data, list):
        yield found
        return
    for number, data in enumerate(found.data, 1):
        yield Record(f"{source}:{number}", data)


def _files(path: Path) -> Iterator[Path]:
    """The files to read for a path, those of a folder in the order of their names."""
    if path.is_dir():
        found = 0
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if _known(name) and not name.startswith("."):
                    found += 1
                    yield Path(folder) / name
        if not found:
            raise DataError(f"no dialogues in folder {path}", possible=FORMS)
        return
    if not path.exists():
        raise DataError(f"no file or folder {path}", possible=FORMS, do="check the path")
    if not _known(path.name):
        raise DataError(f"{path} is of an unknown form", possible=FORMS)
    yield path


def _known(name: str) -> bool:
    name = name.lower().removesuffix(".gz")
    return name.endswith((*LINES, ".json", ".zip"))


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        with path.open("rb") as file:
            cut = file.read(2) == b"PK"
        what = "was cut short (its directory is missing)" if cut else f"is not a zip: {error}"
        raise DataError(f"{path} {what}", do="download it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """What a zip holds of JSON, without the extra files that macOS puts in."""
    return [
        member
        for member in archive.infolist()
        if not member.is_dir()
        and not member.filename.startswith("__MACOSX/")
        and member.filename.lower().endswith((*LINES, ".json"))
    ]


def _size(path: Path) -> int:
    if not path.name.lower().endswith(".zip"):
        return path.stat().st_size if path.exists() else 0
    with _open_zip(path) as archive:
        members = _members(archive)
    if not members:
        raise DataError(f"{path} holds no .jsonl or .json", possible=FORMS)
    return sum(member.file_size for member in members)
