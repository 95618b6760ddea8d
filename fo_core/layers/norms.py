"""RMS norm whose weight is an offset from 1, as Gemma's checkpoints hold it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OffsetNorm(nn.Module):
    """``x / rms(x) * (1 + weight)``, in float32 at least."""

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
    return OffsetNorm(dim, eps) if offset else nn.RMSNorm(dim, eps)


def factor(norm: nn.Module) -> Tensor:
    """What a norm multiplies by, [D]."""
    weight: Tensor = norm.weight  # type: ignore[assignment]
    return 1.0 + weight if isinstance(norm, OffsetNorm) else weight
