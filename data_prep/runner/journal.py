"""What a step has done, as an append-only file: a kill at any moment loses only what is in flight.

Each line is one input row's outcome; a line that was cut by a kill or a full disk is skipped when
the file is read, and its row is done again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fo_core.errors import DataError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
SYNC_SECONDS = 1.0  # most that a power cut may lose, besides what is in flight


def disk_fault(error: BaseException | None) -> OSError | None:
    """The error of a full or read-only disk in a chain of causes; None if it is another fault."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


class Journal:
    """The outcomes of a step by their keys; only where each line begins is held in memory.

    Args:
        path: The file; made if it is not there.

    Attributes:
        seconds: Wall time of all runs so far, s.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.seconds = path, 0.0
        self._places: dict[bytes, int] = {}
        self._file: BinaryIO | None = None
        self._started = self._synced = time.monotonic()

    def __enter__(self) -> Journal:
        with self._saying():
            self._file = self.path.open("a+b", buffering=0)
            self._index(self._file)
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def _index(self, file: BinaryIO) -> None:
        file.seek(0)
        place, last, line = 0, 0.0, b"\n"
        with open(self.path, "rb") as lines:
            for line in lines:
                row = _parse(line)
                if row is not None:
                    self._places[row[0]] = place
                    wall = float(row[1]["wall"])
                    self.seconds += last if wall < last else 0.0  # a new run began
                    last = wall
                place += len(line)
        self.seconds += last
        if not line.endswith(b"\n"):
            file.write(b"\n")

    def add(self, key: bytes, outcome: dict[str, Any]) -> None:
        """Append one outcome.

        Raises:
            DataError: The disk is full or cannot be written; what was added before is kept.
        """
        assert self._file is not None
        now = time.monotonic()
        row = {"key": key.hex(), "wall": round(now - self._started, 3), **outcome}
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode(errors="replace")
        with self._saying():
            place = os.lseek(self._file.fileno(), 0, os.SEEK_END)
            written = self._file.write(line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            if now - self._synced > SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = now
        self._places[key] = place

    def get(self, key: bytes) -> dict[str, Any]:
        """The outcome of a key that is in the journal."""
        assert self._file is not None
        with self._saying():
            self._file.seek(self._places[key])
            row = _parse(self._file_line())
        if row is None or row[0] != key:
            raise DataError(f"{self.path} changed while it was read", do="run again")
        return row[1]

    def _file_line(self) -> bytes:
        assert self._file is not None
        parts = []
        while part := self._file.read(1 << 16):
            head, found, _ = part.partition(b"\n")
            parts.append(head)
            if found:
                break
        return b"".join(parts)

    @contextlib.contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = "; all that was done is kept" if error.errno in FULL else ""
            raise DataError(
                f"cannot write {self.path}: {error.strerror or error}{full}",
                do="free space there and run the same command again",
            ) from error


def read_outcomes(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Keys and outcomes of a journal that another process may be writing."""
    with path.open("rb") as file:
        yield from filter(None, map(_parse, file))


def _parse(line: bytes) -> tuple[bytes, dict[str, Any]] | None:
    """Key and outcome of a line; None for one that was cut or is foreign."""
    try:
        row = json.loads(line)
        return bytes.fromhex(row.pop("key")), {"wall": float(row.pop("wall")), **row}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
