"""Lines of a manifest as they are, good or bad, with their numbers; sets of shards too."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.sources.containers import bounded_lines
from fo_core.data.manifest import to_cut
from fo_core.data.shards import is_shards, open_items
from fo_core.errors import DataError


@dataclass(frozen=True)
class Line:
    """One line that is not empty."""

    number: int  # from 1 on
    data: bytes
    fault: str = ""  # why it could not be read

    def name(self) -> str:
        """The id in it, or "line N"."""
        try:
            return str(json.loads(self.data)["id"] or f"line {self.number}")
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            return f"line {self.number}"


def cut_lines(path: str | Path, limit: int = 0) -> Iterator[Line]:
    """The first ``limit`` lines of a manifest (all for 0), in bounded memory.

    Args:
        path: JSONL, ``.gz`` too, or a set of shards, whose items come as lines.

    Raises:
        DataError: It is missing or cannot be read.
    """
    for count, line in enumerate(_lines(path)):
        if limit and count >= limit:
            return
        yield line


def _lines(path: str | Path) -> Iterator[Line]:
    if is_shards(path):
        for number, item in enumerate(open_items(path), 1):
            yield Line(number, json.dumps(to_cut(item), ensure_ascii=False).encode())
        return
    path = Path(path)
    if not path.exists():
        raise DataError(f"no manifest {path}", do="run the step that writes it first")
    try:
        with path.open("rb") as raw:
            opened = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            for number, (data, fault) in enumerate(bounded_lines(opened), 1):
                if fault or data.strip():
                    yield Line(number, data, fault)
    except OSError as error:
        raise DataError(f"cannot read manifest {path}: {error}") from error


def count_lines(path: str | Path, limit: int = 0) -> int:
    """How many lines :func:`cut_lines` will give."""
    return sum(1 for _ in cut_lines(path, limit))
