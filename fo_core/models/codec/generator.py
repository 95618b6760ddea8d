"""HiFi-GAN generator with a global (voice) vector: 40 Hz code vectors to a 24 kHz wave."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

SLOPE = 0.1  # leaky relu before every convolution


def conv(before: int, after: int, kernel: int, dilation: int = 1) -> nn.Conv1d:
    """Length-preserving convolution with weight norm (over all but axis 0)."""
    pad = (kernel - 1) * dilation // 2
    layer = nn.Conv1d(before, after, kernel, dilation=dilation, padding=pad)
    nn.init.normal_(layer.weight, std=0.01)
    return weight_norm(layer)


class PairBlock(nn.Module):
    """Residual block "1": pairs of a dilated and a plain convolution.

    Args:
        width: Channels.
        kernel: Odd kernel of all its convolutions.
        dilations: One pair for each.
    """

    def __init__(self, width: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(conv(width, width, kernel, d) for d in dilations)
        self.convs2 = nn.ModuleList(conv(width, width, kernel) for _ in dilations)
        self.reach = sum((kernel - 1) // 2 * (d + 1) for d in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, T]`` to ``[B, C, T]``."""
        for first, second in zip(self.convs1, self.convs2, strict=True):
            y = first(F.leaky_relu(x, SLOPE))
            x = x + second(F.leaky_relu(y, SLOPE))
        return x


class PlainBlock(nn.Module):
    """Residual block "2": dilated convolutions, each with its own skip.

    Args:
        width: Channels.
        kernel: Odd kernel of all its convolutions.
        dilations: The first two are used.
    """

    def __init__(self, width: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv(width, width, kernel, d) for d in dilations[:2])
        self.reach = sum((kernel - 1) // 2 * d for d in dilations[:2])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, T]`` to ``[B, C, T]``."""
        for layer in self.convs:
            x = x + layer(F.leaky_relu(x, SLOPE))
        return x


def make_block(kind: str, width: int, kernel: int, dilations: Sequence[int]) -> nn.Module:
    """Residual block of kind "1" or "2"."""
    return (PairBlock if kind == "1" else PlainBlock)(width, kernel, dilations)


class Generator(nn.Module):
    """Upsampling stages of a transposed convolution and the mean of several residual blocks.

    Args:
        dim: Width of a code vector.
        global_dim: Width of the global vector.
        width: Channels before the first stage; each stage halves them.
        rates: Upsampling factors.
        kernels: Kernels of the transposed convolutions.
        block: Kind of residual block, "1" or "2".
        block_kernels: One block for each.
        block_dilations: Dilations of each block.
        project: Add the global vector to every stage through a projection; False adds it as it is
            to stages with exactly ``global_dim`` channels (the published layout).
    """

    def __init__(
        self,
        dim: int,
        global_dim: int,
        width: int,
        rates: Sequence[int],
        kernels: Sequence[int],
        block: str,
        block_kernels: Sequence[int],
        block_dilations: Sequence[Sequence[int]],
        project: bool,
    ) -> None:
        super().__init__()
        self.rates, self.global_dim = list(rates), global_dim
        self.blocks_per_stage = len(block_kernels)
        self.conv_pre = conv(dim, width, 7)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        self.voice = nn.ModuleList()
        for rate, kernel in zip(rates, kernels, strict=True):
            up = nn.ConvTranspose1d(width, width // 2, kernel, rate, padding=(kernel - rate) // 2)
            nn.init.normal_(up.weight, std=0.01)
            self.ups.append(weight_norm(up, dim=0))
            width //= 2
            for block_kernel, dilations in zip(block_kernels, block_dilations, strict=True):
                self.resblocks.append(make_block(block, width, block_kernel, dilations))
            if project:
                self.voice.append(nn.Linear(global_dim, width))
        self.conv_post = conv(width, 1, 7)

    def add_voice(self, x: Tensor, global_vector: Tensor, stage: int) -> Tensor:
        """Add the global vector ``[B, 1, G]`` to a stage's output ``x [B, C, T]``."""
        if len(self.voice):
            return x + self.voice[stage](global_vector).transpose(1, 2)
        if x.shape[1] == self.global_dim:
            return x + global_vector.transpose(1, 2)
        return x

    def margins(self) -> list[int]:
        """Frames at each stage's output rate, to either side, that later samples depend on."""
        reach = 3  # conv_post
        margins = [0] * len(self.rates)
        for stage in reversed(range(len(self.rates))):
            margins[stage] = reach
            blocks = self.resblocks[stage * self.blocks_per_stage :][: self.blocks_per_stage]
            reach += max(int(block.reach) for block in blocks)  # type: ignore[arg-type]
            kernel = self.ups[stage].kernel_size[0]  # type: ignore[index]
            reach = (reach + int(kernel)) // self.rates[stage] + 1
        return margins

    def forward(
        self, vectors: Tensor, global_vector: Tensor, keep: tuple[int, int] | None = None
    ) -> Tensor:
        """Wave of code vectors.

        Args:
            vectors: ``[B, T, dim]``.
            global_vector: ``[B, 1, global_dim]``.
            keep: Tokens whose samples are wanted; frames that no wanted sample depends on are cut
                away after each stage, which changes no wanted sample. None keeps all.

        Returns:
            ``[B, S]``, 600 samples for each wanted token.
        """
        B, T, _ = vectors.shape
        lo, hi = keep or (0, T)
        margins = self.margins()
        x = self.conv_pre(vectors.transpose(1, 2))  # [B, width, T]
        start, rate = 0, 1  # first frame that x holds, frames a token
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, SLOPE))
            start, rate = start * self.rates[stage], rate * self.rates[stage]
            total: Tensor | None = None
            for block in self.resblocks[stage * self.blocks_per_stage :][: self.blocks_per_stage]:
                y = block(x)
                total = y if total is None else total + y
            assert total is not None
            x = self.add_voice(total / self.blocks_per_stage, global_vector, stage)
            if keep:
                first = max(lo * rate - margins[stage], start)
                last = min(hi * rate + margins[stage], start + x.shape[2])
                x, start = x[:, :, first - start : last - start], first
        wave = torch.tanh(self.conv_post(F.leaky_relu(x, SLOPE)))
        return wave[:, 0, lo * rate - start : hi * rate - start]
