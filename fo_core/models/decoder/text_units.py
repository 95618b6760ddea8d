"""Spelled texts as the speech decoder with durations reads them, whole or chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fo_core.layers.kv_cache import KVCache

PAD, START, END = 0, 1, 2  # unit ids before those of the letters
Chunks = Sequence[tuple[int, int]]  # of a text: units up to each chunk's end, and seen by then


@dataclass
class Spelling:
    """Texts as units: start, letters, end."""

    units: Tensor  # [B, N] ids, PAD behind each text
    lens: Tensor  # [B]
    chunks: Sequence[Chunks] = ()  # of every text, where texts come by the chunk
    ahead: int = 0  # of one chunk [1, N]: units at its end that are seen and not yet spoken


@dataclass
class DurationState:
    """What one sentence's decoding remembers."""

    cache: KVCache  # keys and values of [prefix, sos, tokens ..]
    units: Tensor  # [1, N] read so far
    steering: Tensor  # [1, T, D] what the text adds to every input
    end: Tensor  # [1, 1] tokens that the units take, not rounded
    shift: int = 0  # position = cache.length - shift
    prefix: tuple[Tensor, Tensor] | None = None  # keys and values of the prefix so far
    hidden: Tensor | None = None  # [1, n, D] outputs of the newest rows


def readings(text: Spelling) -> tuple[Spelling, Tensor]:
    """What is read of texts that come by the chunk: each as far as it is there, every time anew.

    Returns:
        R readings, each of which sees all of its units, and ``[B, N]`` the reading that a unit is
        spoken from.
    """
    row = torch.zeros_like(text.units)
    kept: list[tuple[int, int]] = []  # text, units of it
    for b, (chunks, size) in enumerate(zip(text.chunks, text.lens.tolist(), strict=True)):
        start = 0
        for end, seen in chunks or [(size, size)]:
            row[b, start:] = len(kept)
            kept.append((b, seen))
            start = end
    lens = text.lens.new_tensor([seen for _, seen in kept])
    units = text.units[[b for b, _ in kept]]
    behind = torch.arange(units.shape[1], device=units.device) >= lens[:, None]
    return Spelling(units.masked_fill(behind, PAD), lens), row


def token_chunks(text: Spelling, counts: Tensor, size: int) -> Tensor:
    """The chunk of each speech token: ``[B, T]`` of ``counts [B, N]`` units' tokens."""
    found = counts.new_zeros(len(counts), size)
    for row, chunks, ends in zip(found, text.chunks, counts.cumsum(1), strict=True):
        for end, _ in chunks[:-1]:
            row[int(ends[end - 1]) :] += 1
    return found
