"""Sinusoidal positions, and their projections for all layers of an encoder, made only once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fo_core.layers.attention import LabelledAttention

BLOCK = 32  # labels projected at a time: eight chunks' (1.3 s), for less than twice the cost of one
KEPT = 32  # blocks whose projections are kept, those used last (41 s of one stream)


def sinusoids(labels: Tensor, dim: int) -> Tensor:
    """Sine and cosine interleaved: integer labels ``[...] -> float32 [..., dim]``."""
    even = torch.arange(0, dim, 2, dtype=torch.float32, device=labels.device)
    angles = labels[..., None].float() * torch.exp(even * -(math.log(10000.0) / dim))
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)[..., :dim]


class LabelTable:
    """What position labels add to the keys of every layer, looked up instead of projected.

    Depends on weights only, never on a stream. Blocks of labels are projected when one of them is
    first wanted, and the least used are dropped, so that a chunk costs the same however long the
    talk. All are thrown away when a weight changes or moves; with gradients on, none is used.

    Args:
        dim: Width of the sinusoid rows.
        attentions: The layers' attentions.
    """

    def __init__(self, dim: int, attentions: Sequence[LabelledAttention]) -> None:
        self.dim, self.attentions = dim, attentions
        self._key: tuple = ()
        self._blocks: dict[int, Tensor] = {}  # number → [BLOCK, layers, heads, K], newest use last

    def project(self, labels: Tensor) -> Tensor:
        """Labels ``[...]`` -> ``[..., layers, heads, K]``, without the table."""
        weight = self.attentions[0].position.weight
        rows = sinusoids(labels.to(weight.device), self.dim).to(weight.dtype)
        return torch.stack([a.label_rows(rows) for a in self.attentions], -3)

    def rows(self, labels: Tensor) -> Tensor:
        """Labels on the CPU ``[B, M]`` -> ``[B, M, layers, heads, K]`` on the weights' device."""
        numbers = sorted(set((labels // BLOCK).flatten().tolist()))
        if torch.is_grad_enabled() or len(numbers) > KEPT:
            return self.project(labels)
        key = tuple(
            (0 if p.is_inference() else p._version, p.data_ptr(), p.dtype)
            for a in self.attentions
            for p in (a.position.weight, a.bias_u, a.bias_v)
        )
        blocks = self._blocks if key == self._key else {}
        found = []
        for number in numbers:
            block = blocks.get(number)
            if block is None:
                block = self.project(torch.arange(number * BLOCK, (number + 1) * BLOCK))
            found.append(block)
        # Other threads may read the old dict meanwhile: make a new one.
        kept = {n: b for n, b in blocks.items() if n not in numbers}
        kept = dict([*kept.items(), *zip(numbers, found, strict=True)][-KEPT:])
        self._key, self._blocks = key, kept
        table = found[0] if len(found) == 1 else torch.cat(found)
        place = torch.searchsorted(torch.tensor(numbers), labels // BLOCK)
        return table[(place * BLOCK + labels % BLOCK).to(table.device)]
