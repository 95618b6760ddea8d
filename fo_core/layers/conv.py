"""Convolutions of the input branch: 4x subsampling of features, and a causal 1-d convolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.layers.packed import SMALLEST, PackedLinear, Weights


class ConvSubsampling(nn.Module):
    """Two 3x3 stride-2 convolutions over (time, frequency), then a linear: 10 ms -> 40 ms frames.

    No padding: ``T + 3`` frames give ``T / 4``, so a chunk of 16 frames with the 3 before it is
    computed exactly as inside the whole utterance, without a state.

    Args:
        mel: Feature bins.
        dim: D, channels of the convolutions and width of the output.
    """

    def __init__(self, mel: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, dim, 3, 2)
        self.conv2 = nn.Conv2d(dim, dim, 3, 2)
        self.out = nn.Linear(dim * (((mel - 1) // 2 - 1) // 2), dim)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T + 3, mel] -> [B, T / 4, D]``."""
        x = F.relu(self.conv2(F.relu(self.conv1(x[:, None]))))  # [B, D, T/4, F]
        return self.out(x.transpose(1, 2).flatten(2))  # channel-major


class CausalConv1d(nn.Conv1d):
    """A convolution whose outputs see only the past; its state: the last ``kernel - 1`` inputs."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride)

    def init_state(self, batch_size: int) -> Tensor:
        """Zeros ``[B, C, kernel - 1]``: what a fresh start pads with."""
        return self.weight.new_zeros(batch_size, self.in_channels, self.kernel_size[0] - 1)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, C, T]``, T a multiple of the stride -> (``[B, C', T / stride]``, next state)."""
        x = torch.cat([state, x], 2)
        return self.convolve(x), x[:, :, x.shape[2] - state.shape[2] :]

    def convolve(self, x: Tensor) -> Tensor:
        """The plain convolution: ``[B, C, (T - 1) * stride + kernel] -> [B, C', T]``."""
        return super().forward(x)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T] -> [B, C', ceil(T / stride)]``: one step from a fresh state."""
        return self.step(x, self.init_state(x.shape[0]))[0]


class PackedConv2d(nn.Module):
    """Stands in for an ``nn.Conv2d`` without padding: patches times a packed matrix."""

    def __init__(self, conv: nn.Conv2d, weights: Weights) -> None:
        super().__init__()
        self.kernel_size, self.stride = conv.kernel_size, conv.stride
        self.product = PackedLinear(_as_linear(conv), weights=weights)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T, F] -> [B, C', T', F']``."""
        height, width = (
            (size - kernel) // stride + 1
            for size, kernel, stride in zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        patches = F.unfold(x, self.kernel_size, stride=self.stride).transpose(1, 2).contiguous()
        return self.product(patches).transpose(1, 2).unflatten(2, (height, width))


class PackedCausalConv1d(CausalConv1d):
    """Stands in for a ``CausalConv1d``: patches times a packed matrix."""

    def __init__(self, conv: CausalConv1d, weights: Weights) -> None:
        nn.Module.__init__(self)
        self.in_channels, self.kernel_size, self.stride = (
            conv.in_channels,
            conv.kernel_size,
            conv.stride,
        )
        self.product = PackedLinear(_as_linear(conv), weights=weights)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """Tells dtype and device."""
        return self.product.weight

    def convolve(self, x: Tensor) -> Tensor:
        """As ``CausalConv1d.convolve``."""
        patches = x.unfold(2, self.kernel_size[0], self.stride[0]).transpose(1, 2).flatten(2)
        return self.product(patches).transpose(1, 2)


def _as_linear(conv: nn.Conv1d | nn.Conv2d) -> nn.Linear:
    weight = conv.weight.detach().flatten(1)
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    assert conv.bias is not None
    linear.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)
    return linear


@torch.no_grad()
def pack_convolutions(module: nn.Module, weights: Weights = "same") -> nn.Module:
    """Replace the large convolutions of an encoder or adapter for CPU inference, in place.

    The companion of ``packed.pack_linears``, which does the linears: for a chunk, the plain
    convolution spends most of its time on laying out its weights anew at every call.
    """
    for owner in list(module.modules()):
        for name, conv in list(owner.named_children()):
            if not isinstance(conv, nn.Conv1d | nn.Conv2d) or conv.weight.numel() < SMALLEST:
                continue
            if conv.weight.device.type != "cpu":
                continue
            if type(conv) is nn.Conv2d:
                setattr(owner, name, PackedConv2d(conv, weights))
            elif type(conv) is CausalConv1d:
                setattr(owner, name, PackedCausalConv1d(conv, weights))
    return module
