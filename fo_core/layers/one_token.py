"""One row through Llama layers: the step that decoding on a CPU repeats, in few calls.

A token of a small model is over in a few milliseconds, so what each call costs besides its work
counts. This path does what ``LlamaStack.forward`` does for one position of one stream in about half
of the calls: products of a two-dimensional row, norms from one dot product, rotation by tables of
full width, attention by two batched products, no masks, sums in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Product = Callable[[Tensor], Tensor]  # [1, in] → [1, out]


@dataclass
class RowLayer:
    """A layer's weights as the row path reads them."""

    norm_in: Tensor  # [D] before attention
    norm_ffn: Tensor  # [D] before the feed-forward
    eps: float  # of both norms
    qkv: Product  # queries, keys, values side by side
    out: Product  # of the heads
    gate_up: Product  # gate and up side by side
    down: Product  # back to D
    activation: str = "silu"  # of the gate, or "gelu_tanh"
    scale: float = 1.0  # of the attention's scores
    window: int = 0  # newest positions that it sees; 0 = all
    rope: str = "main"  # which of the rotations its heads get
    norm_q: Tensor | None = None  # [dh] on each query head
    norm_k: Tensor | None = None  # [dh] on each key head
    norm_attended: Tensor | None = None  # [D] of what attention adds
    norm_fed: Tensor | None = None  # [D] of what the feed-forward adds


def normed(row: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMS norm of one row [1, D]."""
    flat = row.view(-1)
    mean = float(flat.dot(flat)) / flat.numel()
    return (row * weight).mul_((mean + eps) ** -0.5)


def quick_norm(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """``norm(x)``, quick for one row in inference (the rounding may differ)."""
    single = x.numel() == norm.weight.numel() and x.device.type == "cpu"
    if single and x.dtype == torch.float32 and not torch.is_grad_enabled():
        return normed(x.reshape(1, -1), norm.weight, norm.eps or 0.0).view(x.shape)
    return norm(x)


def decode_one_token(
    layers: Sequence[RowLayer],
    x: Tensor,
    rotations: Mapping[str, tuple[Tensor, Tensor] | None],
    keys: Tensor,
    values: Tensor,
    length: int,
) -> Tensor:
    """One position through all layers.

    Args:
        layers: In order.
        x: Input vector [1, D], float32 on the CPU; left as it is.
        rotations: Cosines and signed sines [dh] of the position, of a head's full width, by the
            name in :attr:`RowLayer.rope`; None does not rotate.
        keys: The cache [L, Hkv, Tmax, dh]; the new ones are written at ``length``.
        values: The same of the values.
        length: Positions in use.

    Returns:
        [1, D], not normed.
    """
    _, kv_heads, _, dh = keys.shape
    new_keys, new_values = keys.select(2, length).unbind(0), values.select(2, length).unbind(0)
    seen = {
        window: _newest(keys, values, length + 1, window)
        for window in {layer.window for layer in layers}
    }
    x, empty = x.clone(), x.new_empty(1)
    for index, layer in enumerate(layers):
        heads = layer.qkv(normed(x, layer.norm_in, layer.eps)).view(-1, dh)  # [H + 2 Hkv, dh]
        rotated = heads[:-kv_heads]
        if layer.norm_q is not None and layer.norm_k is not None:
            scales = rotated.square().mean(1, keepdim=True).add_(layer.eps).rsqrt_()
            rotated = rotated * scales
            rotated[:-kv_heads] *= layer.norm_q
            rotated[-kv_heads:] *= layer.norm_k
        rotation = rotations[layer.rope]
        if rotation is not None:
            swapped = rotated.view(-1, 2, dh // 2).flip(1).view(-1, dh)
            rotated = (rotated * rotation[0]).addcmul_(swapped, rotation[1])
        new_keys[index].copy_(rotated[-kv_heads:])
        new_values[index].copy_(heads[-kv_heads:])
        query = rotated[:-kv_heads].view(kv_heads, -1, dh)  # [Hkv, G, dh]
        seen_keys, seen_values = seen[layer.window]
        scores = torch.baddbmm(empty, query, seen_keys[index], beta=0, alpha=layer.scale)
        heard = torch.bmm(scores.softmax(-1), seen_values[index])  # [Hkv, G, dh]
        added = layer.out(heard.view(1, -1))
        x += added if layer.norm_attended is None else normed(added, layer.norm_attended, layer.eps)
        gate, up = layer.gate_up(normed(x, layer.norm_ffn, layer.eps)).chunk(2, 1)
        opened = F.silu(gate) if layer.activation == "silu" else F.gelu(gate, approximate="tanh")
        added = layer.down(opened.mul_(up))
        x += added if layer.norm_fed is None else normed(added, layer.norm_fed, layer.eps)
    return x


def _newest(
    keys: Tensor, values: Tensor, end: int, window: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """A layer's keys [Hkv, dh, K] and values [Hkv, K, dh] up to ``end``, those in the window."""
    count = min(end, window) if window else end
    near_keys = keys.narrow(2, end - count, count).transpose(2, 3).unbind(0)
    return near_keys, values.narrow(2, end - count, count).unbind(0)
