"""One-dimensional convolutions over many frames, laid out for the CPU's kernels, inference only.

The plain convolution lays out its weights anew at every call and reads its input channel by
channel. Here the weights are laid out once and frames stay together (strides of ``[B, T, C]`` under
the shape ``[B, C, T]``), which reaches nearly all of the arithmetic the CPU has.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PackedConv1d(nn.Module):
    """Stands in for an ``nn.Conv1d`` or ``nn.ConvTranspose1d`` with zero padding.

    Its weights are in no state dict and cannot be moved, cast or trained.

    Args:
        conv: The layer, in the dtype wanted; no weight norm.
        frames: Frames that are usual; only the speed depends on it.
        slope: Of a leaky relu on the output; 1 is none.
    """

    def __init__(
        self, conv: nn.Conv1d | nn.ConvTranspose1d, frames: int, slope: float = 1.0
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = conv.kernel_size, conv.stride
        self.transposed = isinstance(conv, nn.ConvTranspose1d)
        self.weight = conv.weight.new_empty(0)  # tells dtype and device
        weight = conv.weight.detach().unsqueeze(2)  # [out, in, 1, K]; transposed: [in, out, 1, K]
        bias = None if conv.bias is None else conv.bias.detach()
        pads, strides = [0, _int(conv.padding)], [1, _int(conv.stride)]
        dilations, usual = [1, _int(conv.dilation)], [1, conv.in_channels, 1, frames]
        after = ("leaky_relu", [slope], "") if slope != 1.0 else ("none", [], "")
        ops = torch.ops.mkldnn
        more: tuple
        if self.transposed:
            more = (pads, [0, 0], strides, dilations, conv.groups)
            packed = ops._reorder_convolution_transpose_weight(weight, *more, usual)
        else:
            more = (pads, strides, dilations, conv.groups)
            weight = weight.contiguous(memory_format=torch.channels_last)
            packed = ops._reorder_convolution_weight(weight, *more, usual)
        self._packed = (packed, bias, *more)
        self._after = after

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """``[B, C, T] -> [B, C', T']``, frames together in memory.

        Args:
            x: ``[B, C, T]``.
            add: ``[B, C', T']`` to be added (no transposed convolution, no slope).
        """
        x, ops = _frames_together(x), torch.ops.mkldnn
        if add is not None:
            sum_of = ops._convolution_pointwise.binary
            other = _frames_together(add)
            return sum_of(x, other, *self._packed, "add", None, None, [], None).squeeze(2)
        run = (
            ops._convolution_transpose_pointwise if self.transposed else ops._convolution_pointwise
        )
        return run(x, *self._packed, *self._after).squeeze(2)

    def _apply(self, fn, recurse=True):
        moved = fn(self.weight)
        if moved.dtype != self.weight.dtype or moved.device != self.weight.device:
            raise RuntimeError("a convolution packed for inference cannot be moved or cast")
        return self


def _int(value: int | str | tuple[int, ...]) -> int:
    assert not isinstance(value, str), "padding by name is not packed"
    return value if isinstance(value, int) else value[0]


def _frames_together(x: Tensor) -> Tensor:
    """``[B, C, T] -> [B, C, 1, T]`` with the strides of ``[B, T, C]``."""
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
