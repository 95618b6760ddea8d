"""A codec's generator for talking on a CPU: the same layers, laid out for its kernels."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fo_core.layers.packed import TOLERANCE
from fo_core.layers.packed_conv import PackedConv1d
from fo_core.models.codec.generator import SLOPE, Generator, PairBlock, PlainBlock

USUAL_TOKENS = 50  # in one call


class ReadyBlock(nn.Module):
    """A residual block of either kind; activations between and sums are part of the convolutions.

    Args:
        block: Without weight norm.
        frames: Frames that are usual.
    """

    def __init__(self, block: PairBlock | PlainBlock, frames: int) -> None:
        super().__init__()
        self.reach = block.reach
        if isinstance(block, PairBlock):
            first = [PackedConv1d(cast(nn.Conv1d, conv), frames, SLOPE) for conv in block.convs1]
            last = block.convs2
        else:
            first, last = [], block.convs
        self.first = nn.ModuleList(first)
        self.last = nn.ModuleList(PackedConv1d(cast(nn.Conv1d, conv), frames) for conv in last)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T] -> [B, C, T]``."""
        for index, last in enumerate(self.last):
            y = F.leaky_relu(x, SLOPE)
            if len(self.first):
                y = self.first[index](y)
            x = last(y, add=x)
        return x


class ReadyGenerator(nn.Module):
    """A generator between float32 vectors and waves.

    Args:
        generator: Without weight norm.
        dtype: Of weights and frames.
        packed: Replace its layers by packed ones.
    """

    def __init__(self, generator: Generator, dtype: torch.dtype, packed: bool = True) -> None:
        super().__init__()
        self.generator, self.dtype = generator.to(dtype), dtype
        if packed:
            _pack(self.generator)

    def forward(
        self, vectors: Tensor, global_vector: Tensor, keep: tuple[int, int] | None = None
    ) -> Tensor:
        """As ``Generator.forward``."""
        return self.generator(vectors.to(self.dtype), global_vector.to(self.dtype), keep).float()


def _pack(generator: Generator) -> None:
    frames = USUAL_TOKENS  # at the input of each part
    generator.conv_pre = PackedConv1d(generator.conv_pre, frames)  # type: ignore[assignment]
    blocks = generator.blocks_per_stage
    for stage, rate in enumerate(generator.rates):
        up = cast(nn.ConvTranspose1d, generator.ups[stage])
        generator.ups[stage] = PackedConv1d(up, frames)
        frames *= rate
        for index in range(stage * blocks, (stage + 1) * blocks):
            block = cast("PairBlock | PlainBlock", generator.resblocks[index])
            generator.resblocks[index] = ReadyBlock(block, frames)
    generator.conv_post = PackedConv1d(generator.conv_post, frames)  # type: ignore[assignment]


@torch.no_grad()
def pack_generator(generator: Generator, dtype: torch.dtype) -> ReadyGenerator:
    """The packed generator, or the plain one in ``dtype`` where this CPU cannot do it right."""
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(1, 3, generator.conv_pre.in_channels, generator=draw)
    voice = torch.randn(1, 1, generator.global_dim, generator=draw)
    plain = ReadyGenerator(copy.deepcopy(generator), dtype, packed=False)
    try:
        ready = ReadyGenerator(copy.deepcopy(generator), dtype)
        expected, found = plain(vectors, voice), ready(vectors, voice)
        error = (found - expected).norm() / expected.norm().clamp_min(1e-12)
        if error < TOLERANCE["same" if dtype == torch.float32 else "bf16"]:
            return ready
    except (RuntimeError, AttributeError, NotImplementedError):
        pass
    return plain
