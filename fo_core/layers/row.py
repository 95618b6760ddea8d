"""One row through Llama layers: the step that decoding on a CPU repeats, in few calls.

A token of a small model is over in a few milliseconds, so what each call costs besides its work
counts. This path does what ``LlamaStack.forward`` does for one position of one stream in about half
of the calls: products of a two-dimensional row, norms from one dot product, rotation by tables of
full width, attention by two batched products, no masks, sums in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def run_row(
    layers: Sequence[RowLayer],
    x: Tensor,
    turn: tuple[Tensor, Tensor],
    keys: Tensor,
    values: Tensor,
    length: int,
) -> Tensor:
    """One position through all layers.

    Args:
        layers: In order.
        x: Input vector [1, D], float32 on the CPU; left as it is.
        turn: Cosines and signed sines [dh] of the position, of a head's full width.
        keys: The cache [L, Hkv, Tmax, dh]; the new ones are written at ``length``.
        values: The same of the values.
        length: Positions in use.

    Returns:
        [1, D], not normed.
    """
    cos, sin = turn
    _, kv_heads, _, dh = keys.shape
    new_keys, new_values = keys.select(2, length).unbind(0), values.select(2, length).unbind(0)
    seen_keys = keys.narrow(2, 0, length + 1).transpose(2, 3).unbind(0)  # [Hkv, dh, K] a layer
    seen_values = values.narrow(2, 0, length + 1).unbind(0)  # [Hkv, K, dh] a layer
    x, empty = x.clone(), x.new_empty(1)
    for index, layer in enumerate(layers):
        heads = layer.qkv(normed(x, layer.norm_in, layer.eps)).view(-1, dh)  # [H + 2 Hkv, dh]
        turned = heads[:-kv_heads]
        swapped = turned.view(-1, 2, dh // 2).flip(1).view(-1, dh)
        turned = (turned * cos).addcmul_(swapped, sin)
        new_keys[index].copy_(turned[-kv_heads:])
        new_values[index].copy_(heads[-kv_heads:])
        query = turned[:-kv_heads].view(kv_heads, -1, dh)  # [Hkv, G, dh]
        scores = torch.baddbmm(empty, query, seen_keys[index], beta=0, alpha=dh**-0.5)
        heard = torch.bmm(scores.softmax(-1), seen_values[index])  # [Hkv, G, dh]
        x += layer.out(heard.view(1, -1))
        gate, up = layer.gate_up(normed(x, layer.norm_ffn, layer.eps)).chunk(2, 1)
        x += layer.down(F.silu(gate).mul_(up))
    return x
