"""The shape of a stack of Llama layers, and the preallocated cache of its keys and values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

GROWTH = 1024  # positions that a full cache grows by at most: what it does not use is bounded


@dataclass(frozen=True)
class LlamaConfig:
    """Shape of a stack of Llama layers."""

    dim: int  # D, width of the residual stream
    heads: int  # attention heads
    kv_heads: int  # heads of keys and values; heads is a multiple of it
    head_dim: int  # dh, width of a head
    ffn: int  # inner width of the gated feed-forward
    layers: int  # L
    rms_eps: float = 1e-6  # epsilon of the norms
    rope_theta: float = 10000.0  # base of the rotary wave lengths
    qkv_bias: bool = False  # biases on queries, keys and values (Qwen2)


@dataclass
class KVCache:
    """Keys and values of all layers; what lies beyond ``length`` is scratch."""

    keys: Tensor  # [L, B, Hkv, Tmax, dh]
    values: Tensor  # [L, B, Hkv, Tmax, dh]
    length: int = 0  # positions in use

    @classmethod
    def empty(
        cls,
        config: LlamaConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> KVCache:
        """A cache without content and with room for ``capacity`` positions."""
        shape = (config.layers, batch, config.kv_heads, max(capacity, 1), config.head_dim)
        return cls(
            torch.empty(shape, dtype=dtype, device=device),
            torch.empty(shape, dtype=dtype, device=device),
        )

    @property
    def capacity(self) -> int:
        """Positions that fit without growing."""
        return self.keys.shape[3]

    def reserve(self, count: int) -> None:
        """Make room for ``count`` more positions; a full cache doubles, up to ``GROWTH`` more."""
        need = self.length + count
        if need <= self.capacity:
            return
        wider = self._copy(max(need, self.capacity + min(self.capacity, GROWTH)))
        self.keys, self.values = wider.keys, wider.values

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write [B, Hkv, T, dh] behind ``length`` (room is reserved); views of all [.., K, dh]."""
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Add the keys and values [L, B, Hkv, T, dh] of all layers."""
        count = keys.shape[3]
        self.reserve(count)
        self.keys[:, :, :, self.length : self.length + count] = keys
        self.values[:, :, :, self.length : self.length + count] = values
        self.length += count

    def crop(self, length: int) -> None:
        """Forget everything from position ``length`` on; nothing is copied."""
        assert 0 <= length <= self.length, "a cache is cropped to a part of itself"
        self.length = length

    def expand(self, batch: int, capacity: int) -> KVCache:
        """A copy of a one-row cache for ``batch`` rows, with room for ``capacity`` positions."""
        keys, values = (part.expand(-1, batch, -1, -1, -1) for part in (self.keys, self.values))
        return KVCache(keys, values, self.length)._copy(capacity)

    def select(self, rows: Tensor, capacity: int = 0) -> KVCache:
        """A copy of some rows [B'] of the batch, with room for ``capacity`` positions."""
        used = slice(0, self.length)
        keys, values = self.keys[:, rows, :, used], self.values[:, rows, :, used]
        return KVCache(keys, values, self.length)._copy(capacity)

    def fork(self, room: int = 64) -> KVCache:
        """A copy of the used part with ``room`` free positions, for a speculative branch."""
        return self._copy(self.length + room)

    def _copy(self, capacity: int) -> KVCache:
        """A copy with room for ``capacity`` positions; memory is touched for the used ones only."""
        layers, batch, heads, _, dim = self.keys.shape
        shape = (layers, batch, heads, max(capacity, self.length), dim)
        out = KVCache(self.keys.new_empty(shape), self.values.new_empty(shape), self.length)
        out.keys[:, :, :, : self.length] = self.keys[:, :, :, : self.length]
        out.values[:, :, :, : self.length] = self.values[:, :, :, : self.length]
        return out
