"""Light codec for small budgets: mel in, ConvNeXt, one codebook at 40 Hz, inverse STFT out.

Not the published TiCodec (models/codec.py is), but the same contract: 24 kHz, 600 samples a token,
a quantiser of 1024 codes, and global codes that carry what does not change over time. It trains in
minutes of one CPU core because every layer runs at 40 Hz or at the frame rate of the inverse STFT.

The decoder looks at most ``IstftCodecConfig.reach`` tokens to either side, so decoding in chunks
with that much context equals decoding the whole.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fo_core.config import config
from fo_core.errors import ConfigError
from fo_core.models.codec.convnext import ConvNextBlock
from fo_core.models.codec.mel import LogMel
from fo_core.models.codec.quantizer import Quantizer, QuantizerConfig
from fo_core.models.codec.token_codec import SAMPLE_RATE, TOKEN_SAMPLES, TokenCodec

LOG_SCALE = 3.0  # of the head's log-magnitudes: they span 10 nat, so plain outputs learn slowly


def _codes() -> QuantizerConfig:
    return QuantizerConfig(dim=32, codes=1024, distance="cosine", update="ema")


def _global_codes() -> QuantizerConfig:
    return QuantizerConfig(dim=64, codes=256, groups=8, distance="l2", update="ema", decay=0.99)


@config
class IstftCodecConfig:
    """Sizes of the light codec."""

    type: Literal["istft"] = "istft"  # tells codec types apart
    mels: int = 80  # mel bands of the encoder's input
    mel_hop: int = 300  # samples between input frames; divides 600
    encoder_dim: int = 256  # width of the encoder, 40 Hz
    encoder_blocks: int = 3  # ConvNeXt blocks of the encoder
    token_dim: int = 384  # width of the decoder at 40 Hz
    token_blocks: int = 3  # ConvNeXt blocks there, kernel 5
    frame_dim: int = 256  # width of the decoder at the frame rate
    frame_blocks: int = 4  # ConvNeXt blocks there, kernel 7
    hop: int = 150  # samples a frame of the inverse STFT; divides 600
    n_fft: int = 600  # window of the inverse STFT, samples; a multiple of hop
    expand: int = 3  # width of the pointwise networks over their block's
    quantizer: QuantizerConfig = field(default_factory=_codes)
    global_quantizer: QuantizerConfig = field(default_factory=_global_codes)

    def __post_init__(self) -> None:
        for name in ("mel_hop", "hop"):
            if TOKEN_SAMPLES % getattr(self, name):
                raise ConfigError(
                    f"{name} {getattr(self, name)} does not divide {TOKEN_SAMPLES} (a token)",
                    possible="50, 60, 75, 100, 120, 150, 200, 300, 600",
                )
        if self.n_fft % self.hop or self.n_fft < 2 * self.hop or self.n_fft % 2:
            raise ConfigError(f"n_fft {self.n_fft} does not fit hop {self.hop}", "an even multiple")

    @property
    def reach(self) -> int:
        """Tokens to either side that a decoded sample can depend on, rounded up."""
        frames = 3 * self.frame_blocks + self.n_fft // self.hop
        return 2 * self.token_blocks - (-frames * self.hop // TOKEN_SAMPLES)


class IstftHead(nn.Module):
    """Frames to samples: log-magnitude and phase of each bin, inverse STFT, overlap-add.

    Args:
        dim: Width of a frame.
        n_fft: Window length, samples.
        hop: Samples between frames.
    """

    window: Tensor
    gain: Tensor

    def __init__(self, dim: int, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.out = nn.Linear(dim, n_fft + 2)
        nn.init.normal_(self.out.weight, std=0.02)
        # Speech-like from the start: the mean log-magnitude falls from the low to the high bins.
        tilt = torch.linspace(-1.0, -6.0, n_fft // 2 + 1) / LOG_SCALE
        self.out.bias.data[: n_fft // 2 + 1] = tilt
        window = torch.hann_window(n_fft)
        # Sum of squared windows: periodic with the hop away from the ends. Used everywhere, so
        # that a chunk's border never changes the level of what lies inside.
        gain = (window**2).reshape(-1, hop).sum(0)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("gain", gain, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Samples ``[B, F * hop]`` of frames ``x [B, F, dim]``; frame i is centred on its hop."""
        B, frames, _ = x.shape
        y = self.out(x)
        with torch.autocast(x.device.type, enabled=False):
            magnitude, phase = y.float().chunk(2, dim=-1)  # [B, F, n_fft // 2 + 1] each
            spectrum = torch.polar((LOG_SCALE * magnitude).clamp(max=6.0).exp(), phase)
            pieces = torch.fft.irfft(spectrum, n=self.n_fft) * self.window
            parts = self.n_fft // self.hop
            pieces = pieces.reshape(B, frames, parts, self.hop)
            wave = pieces.new_zeros(B, frames + parts - 1, self.hop)
            for part in range(parts):  # overlap-add by whole hops
                wave[:, part : part + frames] += pieces[:, :, part]
            wave = (wave / self.gain).flatten(1)
            start = (self.n_fft - self.hop) // 2
            return wave[:, start : start + frames * self.hop]


class IstftCodec(TokenCodec):
    """Codec with an inverse-STFT head."""

    token_parts = ("encoder_in.*", "encoder.[0-9]*", "encoder_norm.*", "to_code.*", "quantizer.*")

    def __init__(self, cfg: IstftCodecConfig) -> None:
        super().__init__()
        self.cfg = cfg
        enc, tok, frm, grow = cfg.encoder_dim, cfg.token_dim, cfg.frame_dim, cfg.expand
        stack = TOKEN_SAMPLES // cfg.mel_hop
        self.mel = LogMel(SAMPLE_RATE, 1024, cfg.mel_hop, cfg.mels)
        self.encoder_in = nn.Linear(stack * cfg.mels, enc)
        self.encoder = nn.ModuleList(
            ConvNextBlock(enc, 5, grow * enc) for _ in range(cfg.encoder_blocks)
        )
        self.encoder_norm = nn.LayerNorm(enc)
        self.to_code = nn.Linear(enc, cfg.quantizer.dim)
        self.to_global = nn.Sequential(
            nn.Linear(enc, enc), nn.GELU(), nn.Linear(enc, cfg.global_quantizer.dim)
        )
        self.quantizer = Quantizer(cfg.quantizer)
        self.global_quantizer = Quantizer(cfg.global_quantizer)
        self.from_code = nn.Linear(cfg.quantizer.dim, tok)
        self.from_global = nn.Linear(cfg.global_quantizer.dim, tok)
        self.token_blocks = nn.ModuleList(
            ConvNextBlock(tok, 5, grow * tok) for _ in range(cfg.token_blocks)
        )
        self.upsample = nn.Linear(tok, TOKEN_SAMPLES // cfg.hop * frm)
        self.frame_blocks = nn.ModuleList(
            ConvNextBlock(frm, 7, grow * frm) for _ in range(cfg.frame_blocks)
        )
        self.decoder_norm = nn.LayerNorm(frm)
        self.head = IstftHead(frm, cfg.n_fft, cfg.hop)

    def features(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors before quantising; see :class:`TokenCodec`."""
        B, S = wave.shape
        T = max(1, S // TOKEN_SAMPLES)
        wave = F.pad(wave, (0, max(0, TOKEN_SAMPLES - S)))[:, : T * TOKEN_SAMPLES]
        mel = self.mel(wave) / 3.0 + 1.0  # about -1.3 .. 2
        x = self.encoder_in(mel.reshape(B, T, -1))
        for block in self.encoder:
            x = block(x)
        x = self.encoder_norm(x)
        return self.to_code(x), self.to_global(x.mean(1, keepdim=True))

    def synthesize(
        self, vectors: Tensor, global_vector: Tensor, keep: tuple[int, int] | None = None
    ) -> Tensor:
        """Wave of vectors, cut to what is kept."""
        B, T, _ = vectors.shape
        x = self.from_code(vectors) + self.from_global(global_vector)
        for block in self.token_blocks:
            x = block(x)
        x = self.upsample(x).reshape(B, T * (TOKEN_SAMPLES // self.cfg.hop), -1)
        for block in self.frame_blocks:
            x = block(x)
        wave = self.head(self.decoder_norm(x))
        first, last = keep or (0, T)
        return wave[:, first * TOKEN_SAMPLES : last * TOKEN_SAMPLES]
