"""Several sequences of different ages and lengths through one stack of Llama layers.

What is read from memory, the weights, is read once for all of them: their new vectors are laid one
behind the other for every product, and only the attention goes sequence by sequence, each over its
own cache. Nothing is padded and no cache is copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fo_core.layers.attention_mask import make_mask
from fo_core.layers.packed_rows import run_packed
from fo_core.layers.transformer import KVCache, LlamaStack


def run_ragged(
    stack: LlamaStack, rows: Sequence[Tensor], caches: Sequence[KVCache], shifts: Sequence[int]
) -> list[Tensor]:
    """One causal step of several sequences.

    Args:
        stack: The layers that all of them run through.
        rows: New vectors of each sequence [1, T_i, D].
        caches: Its cache of one row; extended in place.
        shifts: Its first new position is ``cache.length - shift``.

    Returns:
        [1, T_i, D] each, not normed: what ``stack`` gives for it alone (to the bit where it is
        packed, else but for rounding).
    """
    counts = [row.shape[1] for row in rows]
    static = stack.static if len(set(counts)) == 1 else None
    if static is not None and all(static.takes(cache, counts[0]) for cache in caches):
        return static.run(rows, caches, shifts)
    x = stack.enter(torch.cat(list(rows), dim=1))  # [1, N, D]
    starts = [cache.length - shift for cache, shift in zip(caches, shifts, strict=True)]
    if stack.rows and not torch.is_grad_enabled():
        return list(run_packed(stack, x[0], caches, counts, starts).unsqueeze(0).split(counts, 1))
    for cache, count, start in zip(caches, counts, starts, strict=True):
        cache.reserve(count)
        cache.note(start, count)
    views = {}
    for kind in dict.fromkeys(layer.kind for layer in stack.blocks):
        spans = [
            stack.angles(kind, range(start, start + count), x.dtype)
            for start, count in zip(starts, counts, strict=True)
        ]
        rotations = [rotation for rotation in spans if rotation is not None]
        rotation = None
        if rotations:
            cos, sin = (torch.cat(list(part)) for part in zip(*rotations, strict=True))  # [N, dh/2]
            rotation = cos, sin
        views[kind] = (
            rotation,
            [
                make_mask(
                    None, True, count, cache.length + count, stack.group, x.device, kind.window
                )
                for cache, count in zip(caches, counts, strict=True)
            ],
        )  # fmt: skip
    for index, layer in enumerate(stack.blocks):
        rotation, seen = views[layer.kind]
        query, keys, values = layer.project(x, rotation)  # [1, heads, N, dh]
        parts = zip(
            query.split(counts, dim=2),
            keys.split(counts, dim=2),
            values.split(counts, dim=2),
            caches,
            seen,
            strict=True,
        )
        attended = [
            layer.attend(q, *cache.put(index, k, v), sees) for q, k, v, cache, sees in parts
        ]
        x = layer.finish(x, torch.cat(attended, dim=2))
    for cache, count in zip(caches, counts, strict=True):
        cache.length += count
    return list(x.split(counts, dim=1))
