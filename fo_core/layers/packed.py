"""Linear layers with weights laid out for the CPU's kernels, for inference only.

A streaming model multiplies one to four rows at a time, where the plain product is far from what
the memory could deliver. oneDNN's blocked layout takes a half to a third of the time for two to
four rows in float32 without changing the result; half-precision and int8 weights are a half and a
quarter of the bytes to read.

fp16 keeps the weights in half precision (FBGEMM, on x86) and computes in float32: 11 bits of every
weight survive, eight times as exact as bfloat16, and one to four rows run as fast as the memory.
For weights that are bfloat16 "same" is laid out in a fifth of the time and reads long inputs
quicker, but rounds the input to bfloat16, too, and pads a few rows to four.

int8 keeps the weights in 8 bits with one scale a row. The activations are *not* rounded to 8 bits:
each becomes a 16-bit integer whose two bytes are two rows of the same integer product, so that the
error is that of the weights alone (about 0.8 % of a random layer's output).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Weights = Literal["same", "fp16", "bf16", "int8"]  # "same": the dtype that the linear has

SMALLEST = 1 << 14  # elements; smaller linears gain nothing
ROWS = 4  # oneDNN is slower at 1 to 3 rows than at 4 (bfloat16: at 2, 3): such inputs are padded
TOLERANCE = {
    "same": 1e-2,
    "fp16": 2e-3,
    "bf16": 3e-2,
    "int8": 5e-2,
}  # relative error at which packing is broken

PLAIN = "ATen"  # no packed product: the plain one of torch
KERNELS = {
    "same": "oneDNN",
    "fp16": "FBGEMM fp16",
    "bf16": "oneDNN bf16",
    "int8": "oneDNN int8",
}  # what runs a product

Product = Callable[[Tensor], Tensor]  # [M, in] → [M, out]


def _onednn(weight: Tensor, bias: Tensor | None) -> Product:
    """Blocked weight in its own dtype; the input is cast to it and the output back."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
    linear = torch.ops.mkldnn._linear_pointwise.default
    dtype = weight.dtype

    def padded(x: Tensor) -> Tensor:
        rows = x.shape[0]
        y = x.to(dtype)
        if rows == 1:
            y = y.expand(ROWS, -1).contiguous()
        elif rows < ROWS:
            y = F.pad(y, (0, 0, 0, ROWS - rows))
        return linear(y, packed, bias, "none", [], "")[:rows].to(x.dtype)

    def product(x: Tensor) -> Tensor:
        if x.shape[0] > 1:
            return padded(x)
        return linear(x.to(dtype), packed, bias, "none", [], "").to(x.dtype)

    if dtype != torch.bfloat16:
        return padded
    probe = torch.randn(1, weight.shape[1], generator=torch.Generator().manual_seed(1))
    return product if torch.equal(product(probe), padded(probe)) else padded


def _fp16(weight: Tensor, bias: Tensor | None) -> Product:
    """Half-precision weight, float32 input and sum."""
    bias = None if bias is None else bias.float()
    packed = torch.ops.quantized.linear_prepack_fp16(weight.float(), bias)
    linear = torch.ops.quantized.linear_dynamic_fp16.default
    if weight.dtype == torch.float32:
        return lambda x: linear(x, packed)
    return lambda x: linear(x.float(), packed).to(x.dtype)


def _int8(weight: Tensor, bias: Tensor | None) -> Product:
    """8-bit weight [out, in], 16-bit input."""
    size = weight.shape[1]
    scale = weight.float().abs().amax(dim=1).clamp_min(1e-12) / 127  # [out]
    rounded = (weight.float() / scale.unsqueeze(1)).round().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(rounded, None)
    zero = torch.zeros(weight.shape[0], dtype=torch.int64)
    middle = torch.tensor(128 * 256 + 128.5)  # both bytes have their zero at 128; .5 rounds
    linear = torch.ops.onednn.qlinear_pointwise.default
    bias = None if bias is None else bias.float()

    def product(x: Tensor) -> Tensor:
        rows = x.shape[0]
        y = x.float().contiguous()  # its bytes are looked at below
        unit = torch.linalg.vector_norm(y, float("inf"), dim=1, keepdim=True).add_(1e-12)
        unit = unit.mul_(1 / 32600)  # [M, 1] value of one step
        steps = torch.addcdiv(middle, y, unit).to(torch.uint16)
        low_high = steps.view(torch.uint8).view(rows, size, 2).permute(2, 0, 1)
        wide = low_high.reshape(2 * rows, size)
        out = linear(
            wide, 1.0, 128, packed, scale, zero, None, 1.0, 0, torch.float32, "none", [], ""
        )  # fmt: skip
        out = torch.add(out[:rows], out[rows:], alpha=256).mul_(unit)
        return (out if bias is None else out.add_(bias)).to(x.dtype)

    return product


class PackedLinear(nn.Module):
    """Stands in for an ``nn.Linear``, or for several that read the same input.

    Its weights are in no state dict and cannot be moved, cast or trained: save a model first, then
    pack it.

    Args:
        linears: One linear, or several whose outputs are wanted side by side.
        weights: Precision of the packed weights.
    """

    def __init__(self, *linears: nn.Linear, weights: Weights = "same") -> None:
        super().__init__()
        weight, bias = _joined([m.weight for m in linears]), None
        if linears[0].bias is not None:
            bias = _joined([m.bias for m in linears])
        self.out_features, self.in_features = weight.shape
        self.weights = weights
        self.weight = weight.new_empty(0)  # tells dtype and device
        # [M, in] → [M, out], without any check; and what runs it: of KERNELS, or PLAIN.
        self.product, self.kernel = _make(weight, bias, weights)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError("a linear packed for inference has no gradient")
        return self.product(x.reshape(-1, self.in_features)).view(*x.shape[:-1], -1)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.kernel}"

    def _apply(self, fn, recurse=True):
        moved = fn(self.weight)
        if moved.dtype != self.weight.dtype or moved.device != self.weight.device:
            raise RuntimeError("a linear packed for inference cannot be moved or cast")
        return self


def _joined(parts: list[Tensor]) -> Tensor:
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).detach()


def _make(weight: Tensor, bias: Tensor | None, weights: Weights) -> tuple[Product, str]:
    """The packed product and its kernel; where this CPU cannot do it right, the next best.

    x86 without VNNI adds pairs of int8 products in 16 bits, which overflow where large inputs meet
    large weights; without AVX-512 it has no bfloat16. Half precision takes their place.
    """
    size = weight.shape[1]
    probe = torch.randn(3, size, generator=torch.Generator().manual_seed(0))
    probe[2] = 1.0  # every byte of an int8 product at its largest: what overflows, does here
    probe = probe.to(weight.dtype)
    expected = F.linear(probe, weight, bias).float()
    scale = expected[:2].norm(dim=1).mean().clamp_min(1e-12)  # of an ordinary output
    order: tuple[Weights, ...] = (weights, "fp16", "same") if weights != "same" else ("same",)
    for kind in dict.fromkeys(order):
        try:
            if kind in ("int8", "fp16"):
                product = (_int8 if kind == "int8" else _fp16)(weight, bias)
            else:
                to = torch.bfloat16 if kind == "bf16" else weight.dtype
                product = _onednn(weight.to(to), None if bias is None else bias.to(to))
            error = (product(probe).float() - expected).norm(dim=1)
            allowed = TOLERANCE[kind] * torch.maximum(expected.norm(dim=1), scale)
            if bool((error < allowed).all()):
                return product, KERNELS[kind]
        except (RuntimeError, AttributeError, NotImplementedError):
            pass
    return (lambda x: F.linear(x.to(weight.dtype), weight, bias).to(x.dtype)), PLAIN


@torch.no_grad()
def pack_linears(
    module: nn.Module,
    weights: Weights = "same",
    skip: Callable[[str], bool] | None = None,
) -> nn.Module:
    """Speed up the linears of a model, in place.

    A module with a method ``pack(weights)`` does it itself (Llama stacks: they join q, k, v and
    keep their parameters). Every other plain ``nn.Linear`` on the CPU is replaced, and then is in
    no state dict: do this last, after loading, saving and fingerprinting. Small ones stay.

    Args:
        module: Model in eval mode.
        weights: "same" keeps the dtype (float32: results within 1e-5), "fp16", "bf16" or
            "int8".
        skip: Called with a module's dotted name; True leaves that one as it is.

    Returns:
        ``module``.
    """
    if callable(own := getattr(module, "pack", None)):
        own(weights)
        return module
    _pack_children(module, "", weights, skip or (lambda name: False))
    return module


def _pack_children(
    module: nn.Module, prefix: str, weights: Weights, skip: Callable[[str], bool]
) -> None:
    for name, child in list(module.named_children()):
        path = prefix + name
        if skip(path):
            continue
        if callable(own := getattr(child, "pack", None)):
            own(weights)
        elif type(child) is not nn.Linear:
            _pack_children(child, path + ".", weights, skip)
        elif child.weight.device.type == "cpu" and child.weight.numel() >= SMALLEST:
            setattr(module, name, PackedLinear(child, weights=weights))
