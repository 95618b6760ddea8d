"""Masks: True where a query may look. And the draw of a chunk size for dynamic chunk training."""

from __future__ import annotations

import torch
from torch import Tensor


def padding_mask(lens: Tensor, length: int) -> Tensor:
    """True for real frames: lens ``[B]`` -> ``[B, T]``."""
    return torch.arange(length, device=lens.device)[None, :] < lens[:, None]


def chunk_mask(
    length: int, chunk: int, left: int, device: torch.device | str | None = None
) -> Tensor:
    """Which keys each query sees: its own chunk and ``left`` chunks before it.

    Query ``i`` sees keys ``(i // chunk - left) * chunk .. (i // chunk + 1) * chunk - 1``.

    Args:
        length: T, frames.
        chunk: Frames a chunk; 0 or less: everything sees everything.
        left: Chunks of left context; negative: all of them.
        device: Where to make the mask.

    Returns:
        bool ``[T, T]``, queries first.
    """
    if chunk <= 0:
        return torch.ones(length, length, dtype=torch.bool, device=device)
    index = torch.arange(length, device=device) // chunk
    seen = index[None, :] <= index[:, None]
    if left >= 0:
        seen &= index[None, :] >= index[:, None] - left
    return seen


def attention_mask(
    length: int, chunk: int, left: int, lens: Tensor | None, device: torch.device
) -> Tensor | None:
    """Chunk and padding mask in one, ``[B or 1, 1, T, T]``; None when all may see all.

    A frame always sees itself, so that padded rows stay finite (their values mean nothing).
    """
    mask = None
    if chunk > 0:
        mask = chunk_mask(length, chunk, left, device)[None]
    if lens is not None and int(lens.min()) < length:
        real = padding_mask(lens.to(device), length)[:, None, :]
        mask = real if mask is None else mask & real
        mask = mask | torch.eye(length, dtype=torch.bool, device=device)
    return None if mask is None else mask[:, None]


def filled_mask(filled: Tensor, places: int, count: int, device: torch.device) -> Tensor | None:
    """Which keys a step may see: the cache's places in use, and the new ones.

    Args:
        filled: ``[B]`` places in use, at the end of the cache (on the CPU).
        places: C, places of the cache.
        count: M, new frames.
        device: Where to make the mask.

    Returns:
        bool ``[B, 1, 1, C + M]``; None when every place is in use.
    """
    if bool((filled >= places).all()):
        return None
    used = torch.arange(places + count) >= (places - filled)[:, None]
    return used[:, None, None].to(device)


def draw_chunk(
    max_len: int, generator: torch.Generator | None = None, max_chunk: int = 25
) -> tuple[int, int]:
    """Draw (chunk, left) for one training batch (paper, section 2.2: dynamic chunk training).

    Half of the time full context, else a chunk of 1 to ``max_chunk`` frames with anything from
    no left context to all of it.

    Args:
        max_len: Frames of the longest utterance of the batch, at the encoder's output rate.
        generator: Makes the draw reproducible.
        max_chunk: Largest chunk, in frames of 40 ms.

    Returns:
        (chunk, left) for an encoder's ``forward``; (-1, -1) is full context.
    """

    def draw(low: int, high: int) -> int:  # inclusive
        return int(torch.randint(low, high + 1, (1,), generator=generator))

    if draw(0, 1):
        return -1, -1
    chunk = draw(1, max(1, min(max_chunk, max_len)))
    return chunk, draw(0, (max_len - 1) // chunk if max_len > 0 else 0)


def valid_rows(lens: Tensor | None, batch: int, size: int, device: torch.device) -> Tensor:
    """[B, size] True where a row has content."""
    if lens is None:
        return torch.ones(batch, size, dtype=torch.bool, device=device)
    return torch.arange(size, device=device) < lens.to(device).unsqueeze(1)


def full_mask(valid: Tensor | None, chunks: Tensor | None = None) -> Tensor | None:
    """[B, 1, T, T]: everyone sees the valid ones, and itself so that no row is empty.

    Args:
        valid: [B, T], or None: all are.
        chunks: Chunk of each row [B, T], or None: none sees a later chunk.
    """
    if valid is None and chunks is None:
        return None
    seen = None if valid is None else valid[:, None, :]
    if chunks is not None:
        own = chunks[:, None, :] <= chunks[:, :, None]
        seen = own if seen is None else own & seen
    assert seen is not None
    eye = torch.eye(seen.shape[2], dtype=torch.bool, device=seen.device)
    return (seen | eye).unsqueeze(1)
