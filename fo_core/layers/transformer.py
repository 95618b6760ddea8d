"""Llama layers with a preallocated key-value cache, for the frozen LLM and the speech decoder.

Notable choices: parameter names are those of Hugging Face's Llama and Qwen2, so weights are shared
or loaded without a key map; the grouped keys are never repeated; a cache grows by doubling and is
cropped by its length alone; no mask is built for a single position or for full attention; the
first and the following steps run the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.layers.fused import Fused, fuse_linears, pack_linears, run_linears
from fo_core.layers.packed import Weights
from fo_core.layers.rope import Rope, rotate


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
            torch.zeros(shape, dtype=dtype, device=device),
            torch.zeros(shape, dtype=dtype, device=device),
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


@dataclass(frozen=True)
class Sight:
    """What queries see, made once for all layers."""

    mask: Tensor | None  # bool or float, broadcastable to [B, 1, T, K] or, grouped, [B, 1, G·T, K]
    causal: bool  # plain causal attention of T queries over T keys
    grouped: bool  # queries that share keys are laid side by side: G·T queries per key head


def sight(mask: Tensor | None, causal: bool, T: int, K: int, group: int, device: object) -> Sight:
    """Masks for T queries over K keys, the last T of them the queries' own positions.

    A mask given says everything; ``causal`` counts only without one. Nothing is built for a single
    query, for full attention, and for causal attention from the start.
    """
    if mask is None and causal and T > 1:
        if K == T:
            return Sight(None, causal=True, grouped=False)
        mask = torch.ones(T, K, dtype=torch.bool, device=cast("torch.device", device)).tril(K - T)
    if mask is not None and group > 1 and T > 1 and mask.shape[-2] > 1:
        if T > 256:  # repeating the heads costs less than a mask of G·T rows
            return Sight(mask, causal=False, grouped=False)
        rows = mask.expand(*mask.shape[:-2], T, K).unsqueeze(-3)  # [.., 1, T, K]
        mask = rows.expand(*rows.shape[:-3], group, T, K).flatten(-3, -2)  # [.., G·T, K]
    return Sight(mask, causal=False, grouped=group > 1)


def attend(query: Tensor, keys: Tensor, values: Tensor, seen: Sight) -> Tensor:
    """Grouped-query attention: query [B, H, T, dh] over keys and values [B, Hkv, K, dh]."""
    if not seen.grouped:
        return F.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=seen.mask,
            is_causal=seen.causal,
            enable_gqa=query.shape[1] != keys.shape[1],
        )
    B, H, T, dh = query.shape
    query = query.reshape(B, keys.shape[1], -1, dh)  # [B, Hkv, G·T, dh]
    out = F.scaled_dot_product_attention(query, keys, values, attn_mask=seen.mask)
    return out.view(B, H, T, dh)


class Attention(nn.Module):
    """Self-attention with rotary positions and grouped keys."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        inner, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.dim, inner, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.dim, kv, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.dim, kv, bias=config.qkv_bias)
        self.o_proj = nn.Linear(inner, config.dim, bias=False)
        self.joined: Fused | None = None  # of q, k, v
        self.output: Fused | None = None  # of o

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turned queries [B, H, T, dh], turned keys and values [B, Hkv, T, dh] of x [B, T, D]."""
        B, T, _ = x.shape
        c = self.config
        heads = run_linears(x, self.joined, self.q_proj, self.k_proj, self.v_proj)
        heads = heads.view(B, T, c.heads + 2 * c.kv_heads, c.head_dim).transpose(1, 2)
        turned = rotate(heads[:, : c.heads + c.kv_heads], cos, sin)
        return turned[:, : c.heads], turned[:, c.heads :], heads[:, c.heads + c.kv_heads :]

    def merge(self, out: Tensor) -> Tensor:
        """Heads [B, H, T, dh] → [B, T, D]."""
        B, H, T, dh = out.shape
        out = out.transpose(1, 2).reshape(B, T, H * dh)
        return run_linears(out, self.output, self.o_proj)


class GatedFeedForward(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, dim: int, ffn: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, ffn, bias=False)
        self.up_proj = nn.Linear(dim, ffn, bias=False)
        self.down_proj = nn.Linear(ffn, dim, bias=False)
        self.joined: Fused | None = None  # of gate, up
        self.output: Fused | None = None  # of down

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        gate, up = run_linears(x, self.joined, self.gate_proj, self.up_proj).chunk(2, dim=-1)
        return run_linears(F.silu(gate) * up, self.output, self.down_proj)


class LlamaLayer(nn.Module):
    """Pre-norm attention and gated feed-forward, each added to the residual stream."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = GatedFeedForward(config.dim, config.ffn)
        self.input_layernorm = nn.RMSNorm(config.dim, config.rms_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.dim, config.rms_eps)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the residual stream x [B, T, D]."""
        return self.self_attn.project(self.input_layernorm(x), cos, sin)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Residual stream [B, T, D] after the attended values [B, H, T, dh] were read."""
        x = x + self.self_attn.merge(attended)
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaStack(nn.Module):
    """L Llama layers without a final norm.

    Args:
        config: Shape.
        rope: Rotary positions that replace those of ``config.rope_theta``.
    """

    def __init__(self, config: LlamaConfig, rope: Rope | None = None) -> None:
        super().__init__()
        assert config.heads % config.kv_heads == 0, "heads are a multiple of kv_heads"
        self.config = config
        self.layers = nn.ModuleList(LlamaLayer(config) for _ in range(config.layers))
        self.rope = rope or Rope(config.head_dim, config.rope_theta)
        self.group = config.heads // config.kv_heads  # G, queries that share a key head
        self.fused = False

    @property
    def blocks(self) -> list[LlamaLayer]:
        """The layers, with their type."""
        return cast("list[LlamaLayer]", list(self.layers))

    def init_cache(self, batch_size: int, capacity: int = 256) -> KVCache:
        """An empty cache in this stack's dtype and device."""
        weight = self.blocks[0].self_attn.k_proj.weight
        return KVCache.empty(self.config, batch_size, capacity, weight.dtype, weight.device)

    def fuse(self) -> LlamaStack:
        """Read q, k, v and gate, up in one product each; the parameters become views.

        Values, names and the state dict stay as they are. For inference: a step under autograd
        with trainable weights ignores the fusion.
        """
        for layer in self.blocks:
            attention, mlp = layer.self_attn, layer.mlp
            attention.joined = fuse_linears(attention.q_proj, attention.k_proj, attention.v_proj)
            mlp.joined = fuse_linears(mlp.gate_proj, mlp.up_proj)
            attention.output = mlp.output = None
        self.fused = True
        return self

    def pack(self, weights: Weights = "same") -> LlamaStack:
        """Add copies of the matrices in the CPU kernels' own layout, for small steps.

        The parameters stay as they are (fingerprint, training); memory grows by the copies.
        Nothing happens on another device.

        Args:
            weights: Precision of the copies: "same", "bf16" or "int8".
        """
        for layer in self.blocks:
            attention, mlp = layer.self_attn, layer.mlp
            if attention.q_proj.weight.device.type != "cpu":
                return self
            qkv = (attention.q_proj, attention.k_proj, attention.v_proj)
            attention.joined = pack_linears(weights, *qkv)
            attention.output = pack_linears(weights, attention.o_proj)
            mlp.joined = pack_linears(weights, mlp.gate_proj, mlp.up_proj)
            mlp.output = pack_linears(weights, mlp.down_proj)
        return self

    def _apply(self, fn, recurse=True):
        """After a cast or a move, products of the old weights are made anew (packed: dropped)."""
        super()._apply(fn, recurse)
        for layer in self.blocks:
            for part in (layer.self_attn, layer.mlp):
                part.joined = part.output = None
        return self.fuse() if self.fused else self

    def _angles(
        self, x: Tensor, positions: Tensor | int | None, start: int
    ) -> tuple[Tensor, Tensor]:
        """Cosines and sines, [T, dh/2] or [B, 1, T, dh/2]."""
        if positions is None or isinstance(positions, int):
            return self.rope.span(start if positions is None else positions, x.shape[1], x.dtype)
        cos, sin = self.rope.angles(positions, x.dtype)
        return (cos, sin) if positions.dim() == 1 else (cos.unsqueeze(1), sin.unsqueeze(1))

    def forward(
        self,
        x: Tensor,
        positions: Tensor | int | None = None,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        past: tuple[Tensor, Tensor] | None = None,
        causal: bool = True,
    ) -> Tensor:
        """Run all layers.

        Args:
            x: Input vectors [B, T, D].
            positions: [T], [B, T], the first position (int), or None: behind the cache.
            mask: None, bool (True = visible) or float (added), broadcastable to [B, 1, T, K] with
                K = cache (or past) + T. A mask given says everything; ``causal`` is then not used.
            cache: Read and appended to, in place (no autograd through it).
            past: Keys and values [L, B, Hkv, P, dh] that come first; differentiable.
            causal: False lets all positions of x see each other.

        Returns:
            [B, T, D], not normed.
        """
        T = x.shape[1]
        start = cache.length if cache is not None else past[0].shape[3] if past is not None else 0
        cos, sin = self._angles(x, positions, start)
        seen = sight(mask, causal, T, start + T, self.group, x.device)
        if cache is not None:
            cache.reserve(T)
        for index, layer in enumerate(self.blocks):
            query, keys, values = layer.project(x, cos, sin)
            if cache is not None:
                keys, values = cache.put(index, keys, values)
            elif past is not None:
                keys = torch.cat((past[0][index], keys), dim=2)
                values = torch.cat((past[1][index], values), dim=2)
            x = layer.finish(x, attend(query, keys, values, seen))
        if cache is not None:
            cache.length += T
        return x

    def keys_values(
        self,
        x: Tensor,
        positions: Tensor | int | None = None,
        mask: Tensor | None = None,
        past: tuple[Tensor, Tensor] | None = None,
        causal: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Only the keys and values [L, B, Hkv, T, dh] that x [B, T, D] leaves, differentiable.

        The output is not wanted, so the last layer stops at its keys and values. Arguments as in
        :meth:`forward`; the result excludes ``past``.
        """
        T, start = x.shape[1], past[0].shape[3] if past is not None else 0
        cos, sin = self._angles(x, positions, start)
        seen = sight(mask, causal, T, start + T, self.group, x.device)
        all_keys, all_values = [], []
        for index, layer in enumerate(self.blocks):
            query, keys, values = layer.project(x, cos, sin)
            all_keys.append(keys)
            all_values.append(values)
            if index + 1 == self.config.layers:
                break
            if past is not None:
                keys = torch.cat((past[0][index], keys), dim=2)
                values = torch.cat((past[1][index], values), dim=2)
            x = layer.finish(x, attend(query, keys, values, seen))
        return torch.stack(all_keys), torch.stack(all_values)
