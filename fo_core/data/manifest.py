"""Manifests: one lhotse cut as JSON a line, with what our tasks need in its ``custom``.

``lhotse.CutSet.from_jsonl`` reads them, and we read lhotse's that point at sound files.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from fo_core.data.item import IGNORE, Item, describe, from_cut, from_line, to_cut
from fo_core.data.shards import is_shards, open_items
from fo_core.errors import DataError
from fo_core.io.files import write_jsonl

__all__ = ["IGNORE", "Item", "describe", "from_cut", "read", "read_lines", "to_cut", "write"]


def read_lines(path: str | Path) -> Iterator[Item]:
    """Items of a manifest (``.gz`` too) or of a set of shards, in bounded memory.

    Raises:
        DataError: The file is missing, or a line is not a cut (its number is named).
    """
    if is_shards(path):
        yield from open_items(path)
        return
    path = Path(path)
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    item = from_line(line, path.parent)
                except DataError as error:
                    raise DataError(f"{path} line {number}: {error}") from error
                yield item
    except FileNotFoundError as error:
        raise DataError(f"no manifest {path}", do="run fo prepare-data first") from error
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read manifest {path}: it is not text in UTF-8",
                        possible="lhotse cuts, one a line")  from error  # fmt: skip
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read manifest {path}: {error}") from error


def read(path: str | Path) -> list[Item]:
    """All items of a manifest.

    Raises:
        DataError: As :func:`read_lines`; also if there is no item at all.
    """
    items = list(read_lines(path))
    if not items:
        raise DataError(f"manifest {path} is empty", do="run fo prepare-data again")
    return items


def write(path: str | Path, items: Iterable[Item]) -> int:
    """Write a manifest atomically; returns the number of items."""
    return write_jsonl(path, map(to_cut, items))
