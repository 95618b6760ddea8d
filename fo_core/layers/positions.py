"""Sinusoidal positions, and their projections for all layers of an encoder, made only once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fo_core.layers.attention import LabelledAttention

BLOCK = 32  # labels projected at a time
KEPT = 1024  # labels whose projections are kept (41 s); later ones are projected when they come


def sinusoids(labels: Tensor, dim: int) -> Tensor:
    """Sine and cosine interleaved: integer labels ``[...] -> float32 [..., dim]``."""
    even = torch.arange(0, dim, 2, dtype=torch.float32, device=labels.device)
    angles = labels[..., None].float() * torch.exp(even * -(math.log(10000.0) / dim))
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)[..., :dim]


class LabelTable:
    """What position labels add to the keys of every layer, looked up instead of projected.

    Depends on weights only, never on a stream. It grows in blocks as streams get longer and is
    thrown away when a weight changes, moves or becomes trainable work (gradients on).

    Args:
        dim: Width of the sinusoid rows.
        attentions: The layers' attentions.
    """

    def __init__(self, dim: int, attentions: Sequence[LabelledAttention]) -> None:
        self.dim, self.attentions = dim, attentions
        self._key: tuple = ()
        self._table: Tensor | None = None  # [labels, layers, heads, K]

    def project(self, labels: Tensor) -> Tensor:
        """Labels ``[...]`` -> ``[..., layers, heads, K]``, without the table."""
        weight = self.attentions[0].position.weight
        rows = sinusoids(labels.to(weight.device), self.dim).to(weight.dtype)
        return torch.stack([a.label_rows(rows) for a in self.attentions], -3)

    def rows(self, labels: Tensor) -> Tensor:
        """Labels on the CPU ``[B, M]`` -> ``[B, M, layers, heads, K]`` on the weights' device."""
        highest = int(labels.max())
        if torch.is_grad_enabled() or highest >= KEPT:
            return self.project(labels)
        key = tuple(
            (0 if p.is_inference() else p._version, p.data_ptr(), p.dtype)
            for a in self.attentions
            for p in (a.position.weight, a.bias_u, a.bias_v)
        )
        table = self._table if key == self._key else None
        start = 0 if table is None else table.shape[0]
        if highest >= start:
            stop = (highest // BLOCK + 1) * BLOCK
            more = self.project(torch.arange(start, stop))
            table = more if table is None else torch.cat([table, more])
            self._key, self._table = key, table
        assert table is not None
        return table[labels.to(table.device)]
