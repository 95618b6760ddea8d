"""Llama-like layers with a preallocated key-value cache, for the frozen LLM and the speech decoder.

Notable choices: parameter names are those of Hugging Face's models, so weights are shared or loaded
without a key map; what sets other families apart (norms of heads, windows, layers without rotary
positions, capped scores) are fields of the config; the grouped keys are never repeated; a cache
grows by pieces and is cropped by its length alone; no mask is built for a single position or for
full attention; the first and the following steps run the same code.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fo_core.layers.attention_mask import AttentionMask, attend, make_mask
from fo_core.layers.fused import Fused, fuse_linears, pack_linears, run_linears
from fo_core.layers.kv_cache import KVCache, LayerKind, LlamaConfig
from fo_core.layers.norms import make_norm
from fo_core.layers.packed import Weights
from fo_core.layers.packed_rows import RowLayer, row_of, run_packed
from fo_core.layers.rope import Rope, rotate

__all__ = ["KVCache", "LlamaConfig", "LlamaStack"]

Rotation = tuple[Tensor, Tensor] | None  # cosines and sines of the positions; None: not rotated


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
        if config.qk_norm:
            self.q_norm = make_norm(config.head_dim, config.rms_eps, config.norm_offset)
            self.k_norm = make_norm(config.head_dim, config.rms_eps, config.norm_offset)
        self.joined: Fused | None = None  # of q, k, v
        self.output: Fused | None = None  # of o

    def project(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries [B, H, T, dh], rotated keys and values [B, Hkv, T, dh] of x [B, T, D]."""
        B, T, _ = x.shape
        c = self.config
        heads = run_linears(x, self.joined, self.q_proj, self.k_proj, self.v_proj)
        heads = heads.view(B, T, c.heads + 2 * c.kv_heads, c.head_dim).transpose(1, 2)
        seeking, values = heads[:, : c.heads + c.kv_heads], heads[:, c.heads + c.kv_heads :]
        if c.qk_norm:
            normed = self.q_norm(seeking[:, : c.heads]), self.k_norm(seeking[:, c.heads :])
            seeking = torch.cat(normed, dim=1)
        if rotation is not None:
            seeking = rotate(seeking, *rotation)
        return seeking[:, : c.heads], seeking[:, c.heads :], values

    def merge(self, out: Tensor) -> Tensor:
        """Heads [B, H, T, dh] → [B, T, D]."""
        B, H, T, dh = out.shape
        out = out.transpose(1, 2).reshape(B, T, H * dh)
        return run_linears(out, self.output, self.o_proj)


class GatedFeedForward(nn.Module):
    """down(act(gate(x)) * up(x))."""

    def __init__(self, dim: int, ffn: int, activation: str = "silu") -> None:
        super().__init__()
        self.activation = activation
        self.gate_proj = nn.Linear(dim, ffn, bias=False)
        self.up_proj = nn.Linear(dim, ffn, bias=False)
        self.down_proj = nn.Linear(ffn, dim, bias=False)
        self.joined: Fused | None = None  # of gate, up
        self.output: Fused | None = None  # of down

    def activate(self, gate: Tensor) -> Tensor:
        """The gate's activation: "silu" or "gelu_tanh"."""
        return F.silu(gate) if self.activation == "silu" else F.gelu(gate, approximate="tanh")

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        gate, up = run_linears(x, self.joined, self.gate_proj, self.up_proj).chunk(2, dim=-1)
        return run_linears(self.activate(gate) * up, self.output, self.down_proj)


class LlamaLayer(nn.Module):
    """Pre-norm attention and gated feed-forward, each added to the residual stream.

    With ``post_norms`` the norm after attention is Gemma's: ``post_attention_layernorm`` norms what
    is added, and the feed-forward has a norm before and behind it.
    """

    def __init__(self, config: LlamaConfig, kind: LayerKind) -> None:
        super().__init__()
        self.config, self.kind = config, kind
        self.self_attn = Attention(config)
        self.mlp = GatedFeedForward(config.dim, config.ffn, config.activation)
        norm = config.dim, config.rms_eps, config.norm_offset
        self.input_layernorm = make_norm(*norm)
        self.post_attention_layernorm = make_norm(*norm)
        if config.post_norms:
            self.pre_feedforward_layernorm = make_norm(*norm)
            self.post_feedforward_layernorm = make_norm(*norm)

    @property
    def products(self) -> tuple[tuple[nn.Linear, ...], ...]:
        """The linears that are one product each once they are packed, in the order of their use."""
        attention, mlp = self.self_attn, self.mlp
        qkv = attention.q_proj, attention.k_proj, attention.v_proj
        return qkv, (attention.o_proj,), (mlp.gate_proj, mlp.up_proj), (mlp.down_proj,)

    def project(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the residual stream x [B, T, D]."""
        return self.self_attn.project(self.input_layernorm(x), rotation)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, seen: AttentionMask) -> Tensor:
        """Attended values [B, H, T, dh]."""
        return attend(query, keys, values, seen, self.config.scale, self.config.softcap)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Residual stream [B, T, D] after the attended values [B, H, T, dh] were read."""
        if self.config.post_norms:
            x = x + self.post_attention_layernorm(self.self_attn.merge(attended))
            return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))
        x = x + self.self_attn.merge(attended)
        return x + self.mlp(self.post_attention_layernorm(x))


def _run_layer(
    layer: LlamaLayer,
    x: Tensor,
    rotation: Rotation,
    seen: AttentionMask,
    before: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """One layer over [B, T, D], behind the keys and values ``before`` [B, Hkv, P, dh]."""
    query, keys, values = layer.project(x, rotation)
    if before is not None:
        keys = torch.cat((before[0], keys), dim=2)
        values = torch.cat((before[1], values), dim=2)
    return layer.finish(x, layer.attend(query, keys, values, seen))


class LlamaStack(nn.Module):
    """L Llama-like layers without a final norm.

    Args:
        config: Shape.
        rope: Rotary positions that replace those of ``config.rope_theta``.
        local_rope: Those of the layers of kind "local".
    """

    def __init__(
        self, config: LlamaConfig, rope: Rope | None = None, local_rope: Rope | None = None
    ) -> None:
        super().__init__()
        assert config.heads % config.kv_heads == 0, "heads are a multiple of kv_heads"
        self.config = config
        self.layers = nn.ModuleList(
            LlamaLayer(config, config.kind(index)) for index in range(config.layers)
        )
        self.rope = rope or Rope(config.head_dim, config.rope_theta)
        if local_rope is not None:
            self.local_rope = local_rope
        self.group = config.heads // config.kv_heads  # G, queries that share a key head
        self.fused = False
        self.rows: list[RowLayer] = []  # of the packed weights, for steps behind a cache
        self.wide = False  # packed: activations and caches are float32, whatever the weights are
        self.static: Any = None  # StaticSteps, for short steps of few sequences
        self.recompute = False  # inner values are computed again in the backward pass

    @property
    def blocks(self) -> list[LlamaLayer]:
        """The layers, with their type."""
        return cast("list[LlamaLayer]", list(self.layers))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the layers compute in, and of what they keep."""
        return torch.float32 if self.wide else self.blocks[0].self_attn.k_proj.weight.dtype

    def init_cache(self, batch_size: int, capacity: int = 256) -> KVCache:
        """An empty cache on this stack's device, in the dtype that it computes in."""
        device = self.blocks[0].self_attn.k_proj.weight.device
        return KVCache.empty(self.config, batch_size, capacity, self.dtype, device)

    def enter(self, x: Tensor) -> Tensor:
        """Input vectors in the dtype that the layers compute in.

        Packed products take float32 and give float32; where a gradient to the vectors is asked for
        the plain ones run, in the dtype of the weights.
        """
        if self.wide and not (torch.is_grad_enabled() and x.requires_grad):
            return x.float()
        return x.to(self.blocks[0].self_attn.k_proj.weight.dtype)

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
        self.fused, self.rows, self.wide = True, [], False
        return self

    def unfuse(self) -> LlamaStack:
        """Every parameter with memory of its own again, each linear a product of its own."""
        self.fused, self.rows, self.wide = False, [], False
        for layer in self.blocks:
            for part in (layer.self_attn, layer.mlp):
                part.joined = part.output = None
                for parameter in part.parameters():
                    parameter.data = parameter.data.clone()
        return self

    def pack(self, weights: Weights = "same") -> LlamaStack:
        """Add copies of the matrices in the CPU kernels' own layout, for small steps.

        The parameters stay as they are (fingerprint, training); memory grows by the copies. From
        then on all but the products is float32, also where the weights are bfloat16. Nothing
        happens on another device.

        Args:
            weights: Precision of the copies: "same", "fp16", "bf16" or "int8".
        """
        if self.blocks and self.blocks[0].self_attn.q_proj.weight.device.type != "cpu":
            return self
        # whether run_packed can do what these layers do
        fits = not self.config.softcap and 2 * len(self.rope.inv_freq) == self.config.head_dim
        rows = []
        for layer in self.blocks:
            attention, mlp = layer.self_attn, layer.mlp
            packed = [pack_linears(weights, *linears) for linears in layer.products]
            attention.joined, attention.output, mlp.joined, mlp.output = packed
            if fits:
                rows.append(row_of(layer))
        self.rows, self.wide = rows, True
        return self

    def _apply(self, fn, recurse=True):
        """After a cast or a move, products of the old weights are made anew (packed: dropped)."""
        self.static = None
        before = [p.data_ptr() for p in self.parameters()] if self.fused else []
        super()._apply(fn, recurse)
        if self.fused and before == [p.data_ptr() for p in self.parameters()]:
            return self  # they are where they were
        self.rows, self.wide = [], False
        for layer in self.blocks:
            for part in (layer.self_attn, layer.mlp):
                part.joined = part.output = None
        return self.fuse() if self.fused else self

    def _plain(self, x: Tensor, positions: object, mask: object, causal: bool) -> bool:
        """Whether it is what :func:`run_packed` does: one sequence, consecutive positions."""
        if not self.rows or torch.is_grad_enabled() or len(x) > 1 or mask is not None:
            return False
        return (causal or x.shape[1] == 1) and not isinstance(positions, Tensor)

    def angles(self, kind: LayerKind, positions: Tensor | range, dtype: torch.dtype) -> Rotation:
        """Cosines and sines for a kind of layer: [T, dh/2], or [B, 1, T, dh/2] of [B, T]."""
        if kind.rope == "none":
            return None
        rope = self.rope if kind.rope == "main" else self.local_rope
        if isinstance(positions, range):
            return rope.span(positions.start, len(positions), dtype)
        cos, sin = rope.angles(positions, dtype)
        return (cos, sin) if positions.dim() == 1 else (cos.unsqueeze(1), sin.unsqueeze(1))

    def _views(
        self,
        x: Tensor,
        positions: Tensor | int | None,
        mask: Tensor | None,
        causal: bool,
        start: int,
        cache: KVCache | None = None,
    ) -> dict[LayerKind, tuple[Rotation, AttentionMask]]:
        """For each kind of layer: the rotation of the new positions, and what these see."""
        T, device = x.shape[1], x.device
        places = range(start, start + T) if positions is None else positions
        if isinstance(places, int):
            places = range(places, places + T)
        first = places.start if isinstance(places, range) else places
        kept = cache.note(first, T) if cache is not None else None  # [B, K]
        if mask is not None and kept is not None:
            counted = kept[:, start:], kept
        elif mask is not None and isinstance(places, Tensor) and self.config.windowed:
            before = torch.arange(start, device=device).expand(*places.shape[:-1], -1)
            counted = places, torch.cat((before, places), dim=-1)
        else:
            counted = None
        return {
            kind: (
                self.angles(kind, places, x.dtype),
                make_mask(
                    mask, causal, T, start + T, self.group, device, kind.window, counted
                ),
            )
            for kind in dict.fromkeys(layer.kind for layer in self.blocks)
        }  # fmt: skip

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
        T, x = x.shape[1], self.enter(x)
        past = None if past is None else (past[0].to(x.dtype), past[1].to(x.dtype))
        start = cache.length if cache is not None else past[0].shape[3] if past is not None else 0
        if cache is not None:
            if self.static is not None and mask is None and causal:
                short = self.static.alone(x, positions, cache)
                if short is not None:
                    return short
            if self._plain(x, positions, mask, causal):
                position = start if positions is None else cast(int, positions)
                return run_packed(self, x[0], [cache], [T], [position]).unsqueeze(0)
            cache.reserve(T)
        views = self._views(x, positions, mask, causal, start, cache)
        again = self.recompute and cache is None and torch.is_grad_enabled()
        for index, layer in enumerate(self.blocks):
            rotation, seen = views[layer.kind]
            before = (past[0][index], past[1][index]) if past is not None else None
            if again:
                x = checkpoint(_run_layer, layer, x, rotation, seen, before, use_reentrant=False)
            elif cache is None:
                x = _run_layer(layer, x, rotation, seen, before)
            else:
                query, keys, values = layer.project(x, rotation)
                keys, values = cache.put(index, keys, values)
                x = layer.finish(x, layer.attend(query, keys, values, seen))
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
        x = self.enter(x)
        past = None if past is None else (past[0].to(x.dtype), past[1].to(x.dtype))
        start = past[0].shape[3] if past is not None else 0
        views = self._views(x, positions, mask, causal, start)
        all_keys, all_values = [], []
        for index, layer in enumerate(self.blocks):
            rotation, seen = views[layer.kind]
            query, keys, values = layer.project(x, rotation)
            all_keys.append(keys)
            all_values.append(values)
            if index + 1 == self.config.layers:
                break
            if past is not None:
                keys = torch.cat((past[0][index], keys), dim=2)
                values = torch.cat((past[1][index], values), dim=2)
            x = layer.finish(x, layer.attend(query, keys, values, seen))
        return torch.stack(all_keys), torch.stack(all_values)
