"""RMS norms: of a weight that is narrower than the input, and of one that is an offset from 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WideNorm(nn.RMSNorm):
    """``nn.RMSNorm`` of an input that may be wider than the weight: it stays so."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class OffsetNorm(nn.Module):
    """``x / rms(x) * (1 + weight)``, in float32 at least, as Gemma's checkpoints have it."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        unit = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (unit * (1.0 + self.weight.to(wide.dtype))).to(x.dtype)


def make_norm(dim: int, eps: float, offset: bool) -> nn.Module:
    """An RMS norm over D whose weight is the factor, or (``offset``) the factor less 1."""
    return OffsetNorm(dim, eps) if offset else WideNorm(dim, eps)


def factor(norm: nn.Module) -> Tensor:
    """What a norm multiplies by, [D]."""
    weight: Tensor = norm.weight  # type: ignore[assignment]
    return 1.0 + weight if isinstance(norm, OffsetNorm) else weight
