"""Llama layers with a preallocated key-value cache, for the frozen LLM and the speech decoder.

Notable choices: parameter names are those of Hugging Face's Llama and Qwen2, so weights are shared
or loaded without a key map; the grouped keys are never repeated; a cache grows by pieces and is
cropped by its length alone; no mask is built for a single position or for full attention; the
first and the following steps run the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fo_core.layers.fused import Fused, fuse_linears, pack_linears, run_linears
from fo_core.layers.kv_cache import KVCache, LlamaConfig
from fo_core.layers.packed import Weights
from fo_core.layers.rope import Rope, rotate
from fo_core.layers.row import RowLayer, run_row

__all__ = ["KVCache", "LlamaConfig", "LlamaStack"]


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

    def row(self) -> RowLayer:
        """What a packed layer needs for one position."""
        attention, mlp = self.self_attn, self.mlp
        packed = (attention.joined, attention.output, mlp.joined, mlp.output)
        products = [fused.row for fused in packed if fused is not None and fused.row is not None]
        norms = self.input_layernorm.weight, self.post_attention_layernorm.weight
        return RowLayer(*norms, self.input_layernorm.eps or 0.0, *products)


def _run_layer(
    layer: LlamaLayer,
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    seen: Sight,
    before: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """One layer over [B, T, D], behind the keys and values ``before`` [B, Hkv, P, dh]."""
    query, keys, values = layer.project(x, cos, sin)
    if before is not None:
        keys = torch.cat((before[0], keys), dim=2)
        values = torch.cat((before[1], values), dim=2)
    return layer.finish(x, attend(query, keys, values, seen))


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
        self.rows: list[RowLayer] = []  # of the packed weights, for a step of one position
        self.recompute = False  # inner values are computed again in the backward pass

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
        self.fused, self.rows = True, []
        return self

    def unfuse(self) -> LlamaStack:
        """Every parameter with memory of its own again, each linear a product of its own."""
        self.fused, self.rows = False, []
        for layer in self.blocks:
            for part in (layer.self_attn, layer.mlp):
                part.joined = part.output = None
                for parameter in part.parameters():
                    parameter.data = parameter.data.clone()
        return self

    def pack(self, weights: Weights = "same") -> LlamaStack:
        """Add copies of the matrices in the CPU kernels' own layout, for small steps.

        The parameters stay as they are (fingerprint, training); memory grows by the copies.
        Nothing happens on another device.

        Args:
            weights: Precision of the copies: "same", "fp16", "bf16" or "int8".
        """
        rows = []
        for layer in self.blocks:
            attention, mlp = layer.self_attn, layer.mlp
            if attention.q_proj.weight.device.type != "cpu":
                return self
            qkv = (attention.q_proj, attention.k_proj, attention.v_proj)
            attention.joined = pack_linears(weights, *qkv)
            attention.output = pack_linears(weights, attention.o_proj)
            mlp.joined = pack_linears(weights, mlp.gate_proj, mlp.up_proj)
            mlp.output = pack_linears(weights, mlp.down_proj)
            if attention.q_proj.weight.dtype == torch.float32:
                rows.append(layer.row())
        self.rows = rows
        return self

    def _apply(self, fn, recurse=True):
        """After a cast or a move, products of the old weights are made anew (packed: dropped)."""
        super()._apply(fn, recurse)
        self.rows = []
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
        if cache is not None:
            cache.reserve(T)
            if self.rows and x.shape[:2] == (1, 1) and mask is None and not torch.is_grad_enabled():
                return self._row(x, positions, cache)
        cos, sin = self._angles(x, positions, start)
        seen = sight(mask, causal, T, start + T, self.group, x.device)
        again = self.recompute and cache is None and torch.is_grad_enabled()
        for index, layer in enumerate(self.blocks):
            before = (past[0][index], past[1][index]) if past is not None else None
            given = (layer, x, cos, sin, seen, before)
            if again:
                x = checkpoint(_run_layer, *given, use_reentrant=False)
            elif cache is None:
                x = _run_layer(*given)
            else:
                query, keys, values = layer.project(x, cos, sin)
                x = layer.finish(x, attend(query, *cache.put(index, keys, values), seen))
        if cache is not None:
            cache.length += T
        return x

    def _row(self, x: Tensor, positions: Tensor | int | None, cache: KVCache) -> Tensor:
        """:meth:`forward` for one position [1, 1, D] of one stream, packed."""
        length = cache.length
        position = length if positions is None else int(positions)
        turn = self.rope.row(position)
        y = run_row(self.rows, x[0], turn, cache.keys[:, 0], cache.values[:, 0], length)
        cache.length += 1
        return y.unsqueeze(0)

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
