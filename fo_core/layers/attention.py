"""Self-attention of the speech encoders, whole or chunk by chunk with a bounded cache.

Two kinds: plain multi-head attention, and attention with a position label per *key* (the published
encoders' "rel-enc" without the relative shift): score = ((q + u) k' + (q + v) p') / sqrt(d), where
p is a projected sinusoid row of the key's label. Since

    (q + u) k + (q + v) p = (q + u) (k + p) + (v - u) p,

the label is added to the key once, when the key is made, together with one extra channel that
holds the last term. Cached keys carry their label with them; nothing is projected again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.layers import packed
from fo_core.layers.packed import PackedLinear, Weights


@dataclass
class AttentionState:
    """Keys and values of the left context; the newest last, unused places first."""

    keys: Tensor  # [B, heads, C, K]
    values: Tensor  # [B, heads, C, V]


def extend(
    state: AttentionState, keys: Tensor, values: Tensor, limit: int | None
) -> tuple[Tensor, Tensor, AttentionState]:
    """Put new keys and values behind the cached ones.

    Args:
        state: The left context.
        keys: New keys ``[B, heads, M, K]``.
        values: New values ``[B, heads, M, V]``.
        limit: Keep at most this many for the next call; None keeps all.

    Returns:
        keys and values to attend to, and the next state (views of them: no second copy).
    """
    keys = torch.cat([state.keys, keys], 2)
    values = torch.cat([state.values, values], 2)
    start = 0 if limit is None else max(0, keys.shape[2] - limit)
    return keys, values, AttentionState(keys[:, :, start:], values[:, :, start:])


class Attention(nn.Module):
    """Multi-head self-attention. Parameters: query, key, value, out.

    Args:
        dim: D.
        heads: Number of heads; must divide D.
        key_bias: Whether keys have a bias (Whisper's have none).
        dropout: On the attention weights.
    """

    def __init__(self, dim: int, heads: int, key_bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim, self.heads, self.dropout = dim, heads, dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=key_bias)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.joined: PackedLinear | None = None  # of query, key, value

    def pack(self, weights: Weights) -> None:
        """Join query, key and value in one packed matrix and pack the rest (inference only)."""
        if self.query.weight.device.type != "cpu" or self.query.weight.numel() < packed.SMALLEST:
            return
        if self.key.bias is None:
            self.key.bias = nn.Parameter(torch.zeros_like(self.query.bias), requires_grad=False)
        self.joined = PackedLinear(self.query, self.key, self.value, weights=weights)
        del self.query, self.key, self.value
        for name, child in list(self.named_children()):
            if type(child) is nn.Linear:
                setattr(self, name, PackedLinear(child, weights=weights))

    @property
    def key_width(self) -> int:
        """K, channels of a cached key."""
        return self.dim // self.heads

    def init_state(self, batch_size: int, frames: int) -> AttentionState:
        """An empty left context of ``frames`` places."""
        shape, new = (batch_size, self.heads, frames), self.out.weight.new_zeros
        return AttentionState(new(*shape, self.key_width), new(*shape, self.dim // self.heads))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[B, T, D]`` -> scaled queries, keys, values, each ``[B, heads, T, d]``."""

        def heads(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        if self.joined is not None:
            query, key, value = (heads(y) for y in self.joined(x).chunk(3, -1))
        else:
            query, key, value = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        return query * query.shape[-1] ** -0.5, key, value

    def merge(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Attend and project: ``[B, heads, M, K]``, ``[B, heads, T, ..]`` -> ``[B, M, D]``."""
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout, scale=1.0)
        return self.out(y.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Whole utterance: ``[B, T, D]``, mask broadcastable to ``[B, heads, T, T]`` -> same."""
        return self.merge(*self.split(x), mask)

    def step(
        self, x: Tensor, state: AttentionState, limit: int | None, mask: Tensor | None
    ) -> tuple[Tensor, AttentionState]:
        """One chunk ``[B, M, D]`` on its left context; mask ``[B, 1, 1, C + M]``: places in use."""
        q, k, v = self.split(x)
        k, v, state = extend(state, k, v, limit)
        return self.merge(q, k, v, mask), state


class LabelledAttention(Attention):
    """Attention with a position label per key (GOLDEN "rel-enc"; WeNet-style).

    Parameters: query, key, value, out, position (no bias), bias_u, bias_v ``[heads, D/heads]``.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__(dim, heads, dropout=dropout)
        self.position = nn.Linear(dim, dim, bias=False)
        self.bias_u = nn.Parameter(torch.empty(heads, dim // heads))
        self.bias_v = nn.Parameter(torch.empty(heads, dim // heads))
        nn.init.xavier_uniform_(self.bias_u)
        nn.init.xavier_uniform_(self.bias_v)

    @property
    def key_width(self) -> int:
        """K: the head's width and one channel more, rounded up to a multiple of 8."""
        return (super().key_width // 8 + 1) * 8

    def label_rows(self, table: Tensor) -> Tensor:
        """What labels add to keys: sinusoid rows ``[..., D]`` -> ``[..., heads, K]``."""
        p = self.position(table).unflatten(-1, (self.heads, -1))  # [..., heads, d]
        d = p.shape[-1]
        extra = ((self.bias_v - self.bias_u) * p).sum(-1, keepdim=True) / math.sqrt(d)
        return F.pad(torch.cat([p, extra], -1), (0, self.key_width - d - 1))

    def labelled(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values with the labels in the keys; rows ``[T or B, T, heads, K]``."""
        q, k, v = self.split(x)
        d = k.shape[-1]
        spare = self.key_width - d
        q = q + (self.bias_u * d**-0.5)[:, None, :]
        k = F.pad(k, (0, spare)) + rows.transpose(-3, -2)
        return F.pad(q, (0, spare), value=1.0), k, v

    def forward(  # type: ignore[override]
        self, x: Tensor, rows: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Whole utterance: ``[B, T, D]``, rows ``[T, heads, K]`` -> ``[B, T, D]``."""
        return self.merge(*self.labelled(x, rows), mask)

    def step(  # type: ignore[override]
        self,
        x: Tensor,
        rows: Tensor,
        state: AttentionState,
        limit: int | None,
        mask: Tensor | None,
    ) -> tuple[Tensor, AttentionState]:
        """One chunk ``[B, M, D]`` with the rows of its labels ``[B, M, heads, K]``."""
        q, k, v = self.labelled(x, rows)
        k, v, state = extend(state, k, v, limit)
        return self.merge(q, k, v, mask), state
