"""Rotary positions in the half-split form of the Llama family (RoFormer, arXiv 2104.09864)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rope(nn.Module):
    """Cosines and sines of positions, read from a table where the positions are in order.

    Notable choices: the table holds no state of a session, it only grows; angles are computed in
    float32 whatever the dtype of the model; positions may be negative (they are then computed, not
    looked up).

    Args:
        dim: Width of what is rotated of a head, even.
        theta: Base of the wave lengths.
        inv_freq: Frequencies [dh/2] that replace those of ``theta`` (scaled rotary positions).
        scale: Factor on both tables (scaled rotary positions).
        table: Positions that are computed in advance.
    """

    def __init__(
        self,
        dim: int,
        theta: float = 10000.0,
        inv_freq: Tensor | None = None,
        scale: float = 1.0,
        table: int = 512,
    ) -> None:
        super().__init__()
        assert dim % 2 == 0, "rotary positions need an even head width"
        if inv_freq is None:
            inv_freq = 1.0 / theta ** (torch.arange(0, dim, 2).float() / dim)
        self.scale = scale
        self.inv_freq: Tensor
        self.register_buffer("inv_freq", inv_freq.detach().clone().float(), persistent=False)
        self._start = table  # rows computed when the table is first used
        self._table: tuple[Tensor, Tensor] | None = None  # cos and sin [positions, dh/2]

    def _apply(self, fn, recurse=True):
        """Frequencies stay float32 when the model is cast; the table follows device and dtype."""
        kept = self.inv_freq
        super()._apply(fn, recurse)
        self.inv_freq = kept.to(self.inv_freq.device)
        self._table = None
        return self

    def angles(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines [..., dh/2] of integer positions [...]."""
        angle = positions.float().unsqueeze(-1) * self.inv_freq
        return (angle.cos() * self.scale).to(dtype), (angle.sin() * self.scale).to(dtype)

    def span(self, start: int, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines [count, dh/2] of the positions start, start + 1, ... (two views)."""
        device = self.inv_freq.device
        if start < 0:
            return self.angles(torch.arange(start, start + count, device=device), dtype)
        table = self._table
        if table is None or table[0].shape[0] < start + count or table[0].dtype != dtype:
            rows = max(self._start, 1 << (start + count - 1).bit_length())
            with torch.inference_mode(False), torch.no_grad():
                table = self.angles(torch.arange(rows, device=device), dtype)
            self._table = table
        return table[0][start : start + count], table[1][start : start + count]

    def wide(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines [count, dh] in float32: rotated = x cos + swapped sin.

        ``swapped`` is x with its halves exchanged.
        """
        cos, sin = self.span(start, count, torch.float32)
        return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + r/2) of the first r of x [..., dh] by angles of cos, sin [..., r/2].

    r is dh, or less in a model whose heads are rotated in part.
    """
    width = 2 * cos.shape[-1]
    if width < x.shape[-1]:
        return torch.cat((rotate(x[..., :width], cos, sin), x[..., width:]), dim=-1)
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
