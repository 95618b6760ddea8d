"""The shape of a stack of Llama layers, and the preallocated cache of its keys and values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


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
        """Make room for ``count`` more positions, by doubling when full."""
        need = self.length + count
        if need <= self.capacity:
            return
        extra = max(need, 2 * self.capacity) - self.capacity
        self.keys = F.pad(self.keys, (0, 0, 0, extra))
        self.values = F.pad(self.values, (0, 0, 0, extra))

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
        layers, _, heads, _, dim = self.keys.shape
        shape = (layers, batch, heads, max(capacity, self.length), dim)
        out = KVCache(self.keys.new_zeros(shape), self.values.new_zeros(shape), self.length)
        out.keys[:, :, :, : self.length] = self.keys[:, :, :, : self.length]
        out.values[:, :, :, : self.length] = self.values[:, :, :, : self.length]
        return out

    def select(self, rows: Tensor, capacity: int = 0) -> KVCache:
        """A copy of some rows [B'] of the batch, with room for ``capacity`` positions."""
        extra = max(0, capacity - self.length)
        used = slice(0, self.length)
        return KVCache(
            F.pad(self.keys[:, rows, :, used], (0, 0, 0, extra)),
            F.pad(self.values[:, rows, :, used], (0, 0, 0, extra)),
            self.length,
        )

    def fork(self, room: int = 64) -> KVCache:
        """A copy of the used part with ``room`` free positions, for a speculative branch."""
        used = slice(0, self.length)
        return KVCache(
            F.pad(self.keys[:, :, :, used], (0, 0, 0, room)),
            F.pad(self.values[:, :, :, used], (0, 0, 0, room)),
            self.length,
        )
