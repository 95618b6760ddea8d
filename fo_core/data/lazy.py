"""Large manifests in bounded memory: items are read a window at a time, in an order of their own.

A manifest is cut into blocks of neighbouring lines (a set of shards: its shards). Every epoch puts
the blocks into another order, and so many of them as a window holds are read together, shuffled and
batched. What an epoch gives is a function of the seed and the epoch, so a run goes on exactly; a
manifest that fits one window is held whole.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import shutil
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np

from fo_core.data.item import from_line
from fo_core.data.manifest import Item, read, read_lines
from fo_core.data.shards import is_shards, pairs_of, shard_items
from fo_core.errors import DataError
from fo_core.io.files import cache_dir, replacing

log = logging.getLogger(__name__)
WINDOW = 8192  # items that are held at a time
BLOCK = 32  # lines that stay together
CHUNK = 2**24  # bytes that are read at a time to find the lines


class Blocks(Protocol):
    """What a manifest is cut into."""

    sizes: list[int]  # items of each block, as far as known before it is read
    mark: int  # check sum of the manifest

    def read(self, block: int) -> list[Item]:
        """The items of a block."""
        ...


class LineBlocks:
    """Blocks of lines of a JSONL file: only where each begins is held.

    Args:
        path: The file; ``.gz`` is unpacked into the cache folder once.
        size: Lines of a block.

    Raises:
        DataError: It cannot be read.
    """

    def __init__(self, path: Path, size: int = BLOCK) -> None:
        self.path, self.size = path, size
        self.file = _unpacked(path) if path.suffix == ".gz" else path
        starts, lines, self.mark = [0], 0, 0
        try:
            with self.file.open("rb") as file:
                place = 0
                while chunk := file.read(CHUNK):
                    ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == 10)
                    first = size - 1 - lines % size  # lines from here to the end of a block
                    starts += (place + ends[first::size] + 1).tolist()
                    lines, place = lines + len(ends), place + len(chunk)
                    self.mark = zlib.crc32(chunk, self.mark)
                    last = chunk[-1:]
                if place and last != b"\n":
                    lines += 1
        except OSError as error:
            raise DataError(f"cannot read manifest {path}: {error}") from error
        count = -(-lines // size)
        self.starts = np.asarray([*starts[:count], place], np.int64)
        self.sizes = [size] * (count - 1) + [lines - size * (count - 1)] if count else []

    def read(self, block: int) -> list[Item]:
        """The items of a block; a line that is none is skipped and said."""
        with self.file.open("rb") as file:
            file.seek(int(self.starts[block]))
            data = file.read(int(self.starts[block + 1] - self.starts[block]))
        items = []
        for number, line in enumerate(data.split(b"\n"), block * self.size + 1):
            if not line.strip():
                continue
            try:
                items.append(from_line(line, self.path.parent))
            except DataError as error:
                log.warning("skipped %s line %d: %s", self.path, number, error)
        return items


class ShardBlocks:
    """The shards of a set, a block each.

    Args:
        path: Folder, index or URL of the set.

    Raises:
        DataError: There is none, or the first one is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.pairs = pairs_of(path)
        self.sizes = [len(self.read(0))] * len(self.pairs)
        self.mark = zlib.crc32(json.dumps(self.pairs).encode())

    def read(self, block: int) -> list[Item]:
        """The items of a shard."""
        return list(shard_items(*self.pairs[block]))


class LazyItems:
    """A manifest whose items are read a window at a time.

    Args:
        blocks: The manifest.
        window: Items of a window, about.

    Attributes:
        windows: How many an epoch has.
    """

    def __init__(self, blocks: Blocks, window: int = WINDOW) -> None:
        self.blocks = blocks
        self.items = sum(blocks.sizes)
        self.each = max(1, window // max(blocks.sizes))  # blocks of a window
        self.windows = -(-len(blocks.sizes) // self.each)

    def read(self, round_: int, seed: int, shuffle: bool) -> list[Item]:
        """The items of a window, counted from the first epoch's first one."""
        epoch, window = divmod(round_, self.windows)
        count = len(self.blocks.sizes)
        order = np.random.default_rng((seed, epoch)).permutation(count) if shuffle else range(count)
        items: list[Item] = []
        for block in order[window * self.each : (window + 1) * self.each]:
            try:
                items += self.blocks.read(int(block))
            except (DataError, OSError) as error:
                log.warning("skipped block %d of the training manifest: %s", block, error)
        return items


def open_items(source: str | Path, window: int = 0) -> list[Item] | LazyItems:
    """The items of a manifest or of a set of shards; lazily if there are more than a window.

    Args:
        source: The manifest.
        window: Items that are held at a time, about; 0 = :data:`WINDOW`.

    Raises:
        DataError: It is missing, damaged or empty; a line of a small one is no cut.
    """
    window = window or WINDOW
    if is_shards(source):
        shards = ShardBlocks(source)
        return read(source) if sum(shards.sizes) <= window else LazyItems(shards, window)
    path = Path(source)
    if not path.is_file():
        return read(path)  # says what is wrong
    lines = LineBlocks(path)
    return read(path) if sum(lines.sizes) <= window else LazyItems(lines, window)


def some_items(source: str | Path, count: int = WINDOW) -> list[Item]:
    """The first items of a manifest."""
    from itertools import islice

    return list(islice(read_lines(source), count))


def _unpacked(path: Path) -> Path:
    """A packed manifest as a plain file in the cache folder.

    Raises:
        DataError: It is damaged, or there is no room.
    """
    state = path.stat()
    said = f"{path.absolute()}\0{state.st_size}\0{state.st_mtime_ns}"
    place = cache_dir() / "manifests" / f"{hashlib.sha256(said.encode()).hexdigest()[:24]}.jsonl"
    if not place.is_file():
        try:
            with replacing(place) as temporary, gzip.open(path, "rb") as packed:
                with temporary.open("wb") as plain:
                    shutil.copyfileobj(packed, plain, CHUNK)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"cannot read manifest {path}: {error}") from error
    return place
