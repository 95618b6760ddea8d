"""TiCodec, the paper's speech codec: 40 Hz tokens of one voice-independent codebook, 24 kHz out.

A convolutional encoder strides 24 kHz down to 40 Hz; a branch after half of its stages is averaged
over time and quantised to global codes (the voice); a HiFi-GAN generator turns codes back into a
wave. Layout and constants are those of the published checkpoints (facts 600 samples a token, code
width 512, global width 128, encoder widths 32 … 512).
"""

from __future__ import annotations

import math
from dataclasses import field
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from fo_core.config import config
from fo_core.errors import ConfigError
from fo_core.models.codec.generator import Generator, conv, make_block
from fo_core.models.codec.quantizer import Quantizer, QuantizerConfig
from fo_core.models.codec.token_codec import TOKEN_SAMPLES, TokenCodec

CODE_DIM = 512  # width of a frame vector, fixed by the encoder's widths
GLOBAL_DIM = 128  # width of the encoder after half of its stages, and of the global vector


def _codes() -> QuantizerConfig:
    return QuantizerConfig(dim=CODE_DIM, codes=1024, revive_after=200)


def _global_codes() -> QuantizerConfig:
    return QuantizerConfig(dim=GLOBAL_DIM, codes=1024, groups=8, revive_after=0)


@config
class TiCodecConfig:
    """Sizes of the published codec."""

    type: Literal["ticodec"] = "ticodec"  # tells codec types apart
    resblock: Literal["1", "2"] = "1"  # "1": three dilated pairs; "2": two dilated convolutions
    rates: list[int] = field(default_factory=lambda: [8, 5, 5, 3])  # upsampling; product 600
    kernels: list[int] = field(default_factory=lambda: [16, 11, 11, 5])  # of the upsampling
    width: int = 512  # generator's width before the first stage; halves at each stage
    block_kernels: list[int] = field(default_factory=lambda: [3, 7, 11])  # one block for each
    block_dilations: list[list[int]] = field(
        default_factory=lambda: [[1, 3, 5], [1, 3, 5], [1, 3, 5]]
    )
    voice: Literal["project", "stage128"] = "project"  # the global vector is projected into every
    # stage, or (published) added as it is to the stage that has exactly 128 channels
    global_hidden: int = 128  # width inside the global token encoder
    global_kernel: int = 3  # kernel of its three convolutions
    quantizer: QuantizerConfig = field(default_factory=_codes)
    global_quantizer: QuantizerConfig = field(default_factory=_global_codes)

    def __post_init__(self) -> None:
        if len(self.rates) != 4 or math.prod(self.rates) != TOKEN_SAMPLES:
            raise ConfigError(f"rates {self.rates}", possible="four factors with product 600")
        if len(self.kernels) != 4 or any(
            k < u or (k - u) % 2 for k, u in zip(self.kernels, self.rates, strict=True)
        ):
            raise ConfigError(
                f"kernels {self.kernels} do not fit rates {self.rates}",
                possible="each at least its rate, and both odd or both even",
            )
        if self.width % 16:
            raise ConfigError(f"width {self.width}", possible="a multiple of 16")
        if len(self.block_kernels) != len(self.block_dilations):
            raise ConfigError(
                f"{len(self.block_kernels)} block_kernels, {len(self.block_dilations)} dilations",
                possible="one list of dilations for each kernel",
            )
        if self.quantizer.dim != CODE_DIM or self.global_quantizer.dim != GLOBAL_DIM:
            raise ConfigError(
                f"quantizer dims {self.quantizer.dim} and {self.global_quantizer.dim}",
                possible=f"{CODE_DIM} and {GLOBAL_DIM}",
            )


class GlobalEncoder(nn.Module):
    """Time-invariant vector of a stretch of speech."""

    def __init__(self, hidden: int, kernel: int) -> None:
        super().__init__()
        pad = kernel // 2
        widths = [GLOBAL_DIM, hidden, hidden, GLOBAL_DIM]
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers.append(nn.Conv1d(before, after, kernel, padding=pad, bias=False))
            layers.append(nn.LeakyReLU(0.1))
        self.conv = nn.Sequential(*layers)
        self.fn = nn.Sequential(
            nn.Linear(GLOBAL_DIM, GLOBAL_DIM), nn.LeakyReLU(0.1), nn.BatchNorm1d(GLOBAL_DIM)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Vector ``[B, 128]`` of ``x [B, 128, T]``."""
        return self.fn(self.conv(x).mean(-1))


class Encoder(nn.Module):
    """Wave to 40 Hz vectors and one global vector.

    Args:
        cfg: Sizes; the widths are fixed to 32, 64, 128, 256, 512.
    """

    def __init__(self, cfg: TiCodecConfig) -> None:
        super().__init__()
        self.blocks_per_stage = len(cfg.block_kernels)
        self.conv_pre = conv(1, 32, 7)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        self.normalize = nn.ModuleList()
        kinds = list(zip(cfg.block_kernels, cfg.block_dilations, strict=True))[::-1]
        width = 32
        for rate, kernel in zip(cfg.rates[::-1], cfg.kernels[::-1], strict=True):
            stride = nn.Conv1d(width, 2 * width, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(weight_norm(stride))
            width *= 2
            for block_kernel, dilations in kinds:
                self.resblocks.append(make_block(cfg.resblock, width, block_kernel, dilations))
                self.normalize.append(nn.GroupNorm(width // 16, width, eps=1e-6))
        self.conv_post = nn.Conv1d(width, CODE_DIM, 3, padding=1)
        self.global_encoder = GlobalEncoder(cfg.global_hidden, cfg.global_kernel)

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Frame vectors ``[B, T, 512]`` and global vector ``[B, 1, 128]`` of ``wave [B, S]``."""
        x = self.conv_pre(wave.unsqueeze(1))
        voice = x
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, 0.1))
            total: Tensor | None = None
            for i in range(self.blocks_per_stage):
                index = stage * self.blocks_per_stage + i
                y = self.resblocks[index](x)
                total = self.normalize[index](y if total is None else total + y)
            assert total is not None
            x = total / self.blocks_per_stage
            if stage + 1 == len(self.ups) // 2:
                voice = self.global_encoder(x)
        x = self.conv_post(F.leaky_relu(x, 0.01))
        return x.transpose(1, 2), voice.unsqueeze(1)


class TiCodec(TokenCodec):
    """The published codec."""

    token_parts = (
        "encoder.conv_*",
        "encoder.ups.*",
        "encoder.resblocks.*",
        "encoder.normalize.*",
        "quantizer.*",
    )

    def __init__(self, cfg: TiCodecConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.encoder = Encoder(cfg)
        self.quantizer = Quantizer(cfg.quantizer)
        self.global_quantizer = Quantizer(cfg.global_quantizer)
        self.generator = Generator(
            CODE_DIM,
            GLOBAL_DIM,
            cfg.width,
            cfg.rates,
            cfg.kernels,
            cfg.resblock,
            cfg.block_kernels,
            cfg.block_dilations,
            project=cfg.voice == "project",
        )

    def features(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors before quantising; see :class:`TokenCodec`."""
        return self.encoder(F.pad(wave, (0, max(0, TOKEN_SAMPLES - wave.shape[1]))))

    def synthesize(
        self, vectors: Tensor, global_vector: Tensor, keep: tuple[int, int] | None = None
    ) -> Tensor:
        """Wave of vectors; only what ``keep`` needs is computed."""
        return self.generator(vectors, global_vector, keep)
