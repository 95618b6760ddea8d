"""Convolutions of the listening side: 4x subsampling of features, and a causal 1-d convolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        return super().forward(x), x[:, :, x.shape[2] - state.shape[2] :]

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T] -> [B, C', ceil(T / stride)]``: one step from a fresh state."""
        return self.step(x, self.init_state(x.shape[0]))[0]
