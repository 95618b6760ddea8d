"""Several linears of one input as one product, beside the linears themselves.

The linears keep their names, values and gradients; the product is what inference runs. It is either
one matrix whose rows the linears become views of, or a copy in the layout of the CPU's kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.layers.packed import PackedLinear, Weights

Product = Callable[[Tensor], Tensor]  # [..., in] → [..., out]


@dataclass
class Fused:
    """One product that stands for one or several linears reading the same input."""

    product: Product
    differentiable: bool  # gradients pass to the input (never to the weights)
    row: Product | None = None  # [M, in] → [M, out] without any check, where packed
    kernel: str = ""  # what runs it, where packed

    def fits(self, x: Tensor, linear: nn.Linear | nn.Embedding) -> bool:
        """Whether no gradient is asked for that the product does not give."""
        if not torch.is_grad_enabled():
            return True
        return not linear.weight.requires_grad and (self.differentiable or not x.requires_grad)


def fuse_linears(*linears: nn.Linear) -> Fused:
    """Join linears in one matrix, of which their weights become views (no second copy stays)."""
    weight = torch.cat([m.weight.detach() for m in linears])
    bias = None
    if linears[0].bias is not None:
        bias = torch.cat([m.bias.detach() for m in linears])
    return join_views(weight, bias, *linears)


def join_views(weight: Tensor, bias: Tensor | None, *linears: nn.Linear) -> Fused:
    """Make a joined matrix [sum of rows, in] and its bias the weights of linears, as views."""
    row = 0
    for linear in linears:
        rows = linear.out_features
        _set(linear.weight, weight[row : row + rows], linear, "weight")
        if bias is not None:
            _set(linear.bias, bias[row : row + rows], linear, "bias")
        row += rows
    return Fused(partial(F.linear, weight=weight, bias=bias), differentiable=True)


def _set(parameter: Tensor, values: Tensor, linear: nn.Linear, name: str) -> None:
    if parameter.shape != values.shape:
        raise ValueError(f"{name} has shape {list(values.shape)}, not {list(parameter.shape)}")
    if parameter.device == values.device:
        parameter.data = values
    else:  # a parameter without memory (meta) can't be given any
        setattr(linear, name, nn.Parameter(values, parameter.requires_grad))


def pack_linears(weights: Weights, *linears: nn.Linear) -> Fused:
    """Join linears in a copy laid out for the CPU's kernels; their own weights stay."""
    packed = PackedLinear(*linears, weights=weights)
    return Fused(packed.forward, differentiable=False, row=packed.product, kernel=packed.kernel)


def run_linears(x: Tensor, fused: Fused | None, *linears: nn.Linear) -> Tensor:
    """Outputs of several linears side by side [.., sum of rows]; one product where fused."""
    if fused is not None and fused.fits(x, linears[0]):
        return fused.product(x)
    if len(linears) == 1:
        return linears[0](x)
    return torch.cat([linear(x) for linear in linears], dim=-1)
