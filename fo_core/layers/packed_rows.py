"""New positions through packed Llama layers: the step that decoding on a CPU repeats, in few calls.

A token of a small model is over in a few milliseconds, so what each call costs besides its work
counts. This path does what ``LlamaStack.forward`` does for new positions behind caches in about
half of the calls: norms of four, rotation by tables of full width, attention of one position by two
batched products, no masks there, sums in place. Everything but the products is float32.

The positions may belong to several sequences of different ages: the weights are then read once for
all, and only the attention goes sequence by sequence. What comes out for one does not depend, to
the bit, on the others: every other operation goes row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fo_core.layers.attention_mask import AttentionMask, attend, make_mask
from fo_core.layers.kv_cache import KVCache
from fo_core.layers.norms import factor

Product = Callable[[Tensor], Tensor]  # [N, in] → [N, out]


@dataclass
class RowLayer:
    """A layer's weights as this path reads them."""

    norm_in: Tensor  # [D] before attention
    norm_ffn: Tensor  # [D] before the feed-forward
    eps: Tensor  # [] of the norms
    qkv: Product  # queries, keys, values side by side
    out: Product  # of the heads
    gate_up: Product  # gate and up side by side
    down: Product  # back to D
    activate: Product  # the gate
    scale: float = 1.0  # of the attention's scores
    window: int = 0  # newest positions that it sees; 0 = all
    rope: str = "main"  # which of the rotations its heads get
    norm_q: Tensor | None = None  # [dh] on each query head
    norm_k: Tensor | None = None  # [dh] on each key head
    norm_attended: Tensor | None = None  # [D] of what attention adds
    norm_fed: Tensor | None = None  # [D] of what the feed-forward adds


def row_of(layer: Any) -> RowLayer:
    """What this path needs of a packed ``LlamaLayer``."""
    c, attention, mlp = layer.config, layer.self_attn, layer.mlp
    before = layer.pre_feedforward_layernorm if c.post_norms else layer.post_attention_layernorm
    row = RowLayer(
        norm_in=factor(layer.input_layernorm).float(), norm_ffn=factor(before).float(),
        eps=torch.tensor(c.rms_eps), qkv=attention.joined.row, out=attention.output.row,
        gate_up=mlp.joined.row, down=mlp.output.row, activate=mlp.activate,
        scale=c.scale or c.head_dim**-0.5, window=layer.kind.window, rope=layer.kind.rope,
    )  # fmt: skip
    if c.qk_norm:
        row.norm_q = factor(attention.q_norm).float()
        row.norm_k = factor(attention.k_norm).float()
    if c.post_norms:
        row.norm_attended = factor(layer.post_attention_layernorm).float()
        row.norm_fed = factor(layer.post_feedforward_layernorm).float()
    return row


def inverse_rms(x: Tensor, eps: Tensor) -> Tensor:
    """``(mean(x^2) + eps)^-0.5`` over the last axis, [..., 1]; ``eps`` has no dimensions."""
    size = torch.linalg.vector_norm(x, 2, -1, True)
    return torch.addcmul(eps, size, size, value=1 / x.shape[-1]).rsqrt_()


def normed(x: Tensor, weight: Tensor, eps: Tensor) -> Tensor:
    """RMS norm over the last axis of x [..., D]."""
    return (x * weight).mul_(inverse_rms(x, eps))


def quick_norm(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """``norm(x)``, quick in inference on a CPU (the rounding may differ)."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled():
        return normed(x, norm.weight, torch.tensor(norm.eps or 0.0))
    return norm(x)


class _Reader:
    """Puts the keys and values of a sequence's new positions into its cache, and attends.

    Args:
        cache: Its cache of one row, with room for them.
        first: Its first row.
        count: T, its new positions.
        layers: All.
    """

    def __init__(self, cache: KVCache, first: int, count: int, layers: Sequence[RowLayer]) -> None:
        keys, values = cache.keys[:, 0], cache.values[:, 0]  # [L, Hkv, Tmax, dh]
        start, end = cache.length, cache.length + count
        self.rows, self.count, self.kv_heads = slice(first, first + count), count, keys.shape[1]
        self._empty = keys.new_empty(1)
        self._masks: dict[int, AttentionMask] = {}  # by window, where there are several positions
        if count == 1:
            self._new = keys.select(2, start).unbind(0), values.select(2, start).unbind(0)
            self._seen = {w: _newest(keys, values, end, w) for w in {x.window for x in layers}}
        else:
            self._new = keys[:, :, start:end].unbind(0), values[:, :, start:end].unbind(0)
            self._all = keys[:, None, :, :end].unbind(0), values[:, None, :, :end].unbind(0)

    def attend(self, index: int, layer: RowLayer, turned: Tensor, values: Tensor) -> Tensor:
        """Rotated queries and keys [T, H + Hkv, dh], values [T, Hkv, dh] → [T, H dh]."""
        new_keys, new_values = self._new[0][index], self._new[1][index]
        if self.count == 1:
            query, keys = turned[0, : -self.kv_heads], turned[0, -self.kv_heads :]
            new_keys.copy_(keys)
            new_values.copy_(values[0])
            query = query.view(self.kv_heads, -1, query.shape[-1])  # [Hkv, G, dh]
            seen = self._seen[layer.window]
            scores = torch.baddbmm(self._empty, query, seen[0][index], beta=0, alpha=layer.scale)
            return torch.bmm(scores.softmax(-1), seen[1][index]).view(1, -1)
        new_keys.copy_(turned[:, -self.kv_heads :].transpose(0, 1))
        new_values.copy_(values.transpose(0, 1))
        query = turned[:, : -self.kv_heads].transpose(0, 1).unsqueeze(0)  # [1, H, T, dh]
        all_keys, all_values = self._all[0][index], self._all[1][index]
        mask = self._mask(layer.window, all_keys.shape[2], query.shape[1] // self.kv_heads)
        out = attend(query, all_keys, all_values, mask, layer.scale)
        return out[0].transpose(0, 1).reshape(self.count, -1)

    def _mask(self, window: int, length: int, group: int) -> AttentionMask:
        if window not in self._masks:
            self._masks[window] = make_mask(
                None, True, self.count, length, group, self._empty.device, window
            )
        return self._masks[window]


def run_packed(
    stack: Any,
    x: Tensor,
    caches: Sequence[KVCache],
    counts: Sequence[int],
    starts: Sequence[int],
) -> Tensor:
    """New positions of one or several sequences through all layers.

    Args:
        stack: A packed ``LlamaStack`` (with ``rows``).
        x: Their vectors [N, D], float32 on the CPU, one sequence behind the other; left as it is.
        caches: Of each sequence, one row each; extended in place.
        counts: New positions of each; N together.
        starts: The first rotary position of each.

    Returns:
        [N, D], not normed.
    """
    layers, kv_heads, dh = stack.rows, stack.config.kv_heads, stack.config.head_dim
    spans = list(zip(starts, counts, strict=True))
    for cache, (start, count) in zip(caches, spans, strict=True):
        cache.reserve(count)
        cache.note(start, count)
    rotations = {"main": _rotations(stack.rope, spans), "none": None}
    if hasattr(stack, "local_rope"):
        rotations["local"] = _rotations(stack.local_rope, spans)
    readers, first = [], 0
    for cache, count in zip(caches, counts, strict=True):
        readers.append(_Reader(cache, first, count, layers))
        first += count
    x = x.clone()
    for index, layer in enumerate(layers):
        heads = layer.qkv(normed(x, layer.norm_in, layer.eps)).view(first, -1, dh)
        turned, values = heads[:, :-kv_heads], heads[:, -kv_heads:]
        if layer.norm_q is not None and layer.norm_k is not None:
            turned = turned * inverse_rms(turned, layer.eps)
            turned[:, :-kv_heads] *= layer.norm_q
            turned[:, -kv_heads:] *= layer.norm_k
        rotation = rotations[layer.rope]
        if rotation is not None:
            swapped = turned.unflatten(-1, (2, -1)).flip(2).flatten(2)
            turned = (turned * rotation[0]).addcmul_(swapped, rotation[1])
        if len(readers) == 1:
            heard = readers[0].attend(index, layer, turned, values)
        else:
            heard = torch.cat(
                [one.attend(index, layer, turned[one.rows], values[one.rows]) for one in readers]
            )
        added = layer.out(heard)
        x += added if layer.norm_attended is None else normed(added, layer.norm_attended, layer.eps)
        gate, up = layer.gate_up(normed(x, layer.norm_ffn, layer.eps)).chunk(2, 1)
        added = layer.down(layer.activate(gate).mul_(up))
        x += added if layer.norm_fed is None else normed(added, layer.norm_fed, layer.eps)
    for cache, count in zip(caches, counts, strict=True):
        cache.length += count
    return x


def _rotations(rope: Any, spans: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines [N, 1, dh] of the positions of spans (first, count)."""
    found = [rope.wide(start, count) for start, count in spans]
    cos, sin = found[0] if len(found) == 1 else map(torch.cat, zip(*found, strict=True))
    return cos.unsqueeze(1), sin.unsqueeze(1)


def _newest(
    keys: Tensor, values: Tensor, end: int, window: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Each layer's keys [Hkv, dh, K] and values [Hkv, K, dh] up to ``end``, those in the window."""
    count = min(end, window) if window else end
    near_keys = keys.narrow(2, end - count, count).transpose(2, 3).unbind(0)
    return near_keys, values.narrow(2, end - count, count).unbind(0)
