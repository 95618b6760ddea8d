"""Losses of stage output-1: multi-scale mel, adversarial, feature matching, codebook, commitment.

The pair :func:`generator_losses` / :func:`discriminator_losses` serves the two objectives of codec
training for any codec type and any set of discriminators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fo_core.config import config
from fo_core.errors import ConfigError
from fo_core.models.codec.mel import LogMel
from fo_core.models.codec.token_codec import CodecOutput


@config
class CodecLossConfig:
    """Weights of the codec's losses; 0 leaves one out."""

    mel: float = 15.0  # L1 of log-mel spectrograms, mean over the scales, nat
    adversarial: float = 1.0  # fooling the discriminators
    features: float = 2.0  # L1 of the discriminators' inner features
    codebook: float = 1.0  # pulls codes to vectors (gradient codebooks only)
    commitment: float = 0.25  # pulls vectors to codes
    voice: float = 1.0  # 1 - cosine of the global vectors of a crop's halves (exchanged voices)
    kind: Literal["lsgan", "hinge"] = "lsgan"  # form of the adversarial loss
    windows: list[int] = field(default_factory=lambda: [512, 1024, 2048])  # STFT windows, samples
    mels: list[int] = field(default_factory=lambda: [40, 80, 120])  # mel bands of each window
    hop_ratio: int = 4  # STFT window over hop

    def __post_init__(self) -> None:
        if len(self.windows) != len(self.mels) or not self.windows:
            raise ConfigError(
                f"{len(self.windows)} windows but {len(self.mels)} mel counts", "one for each"
            )


class MultiScaleMel(nn.Module):
    """Mean over scales of the L1 distance of log-mel spectrograms."""

    def __init__(self, cfg: CodecLossConfig, rate: int = 24000) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            LogMel(rate, n_fft, n_fft // cfg.hop_ratio, mels)
            for n_fft, mels in zip(cfg.windows, cfg.mels, strict=True)
        )

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Distance ``[]`` in nat of ``output [B, S]`` from ``target [B, S]``."""
        total = output.new_zeros(())
        for scale in self.scales:
            with torch.no_grad():
                wanted = scale(target)
            total = total + F.l1_loss(scale(output), wanted)
        return total / len(self.scales)


def generator_adversarial(scores: Sequence[Tensor], kind: str) -> Tensor:
    """Mean loss ``[]`` of a generator whose waves got these discriminator scores."""
    if kind == "lsgan":
        losses = [(1 - score.float()).square().mean() for score in scores]
    else:
        losses = [-score.float().mean() for score in scores]
    return torch.stack(losses).mean()


def discriminator_adversarial(real: Sequence[Tensor], fake: Sequence[Tensor], kind: str) -> Tensor:
    """Mean loss ``[]`` of discriminators that gave these scores to real and made waves."""
    losses = []
    for r, f in zip(real, fake, strict=True):
        r, f = r.float(), f.float()
        if kind == "lsgan":
            losses.append((1 - r).square().mean() + f.square().mean())
        else:
            losses.append(F.relu(1 - r).mean() + F.relu(1 + f).mean())
    return torch.stack(losses).mean()


def feature_distance(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """L1 distance ``[]`` of inner features, each relative to the size of the real one."""
    losses = []
    for real_one, fake_one in zip(real, fake, strict=True):
        for r, f in zip(real_one, fake_one, strict=True):
            r = r.detach().float()
            losses.append(F.l1_loss(f.float(), r) / r.abs().mean().clamp(min=1e-3))
    return torch.stack(losses).mean()


class CodecLosses(nn.Module):
    """The losses of both objectives with their weights."""

    def __init__(self, cfg: CodecLossConfig, rate: int = 24000) -> None:
        super().__init__()
        self.cfg = cfg
        self.mel = MultiScaleMel(cfg, rate)

    def generator_losses(
        self,
        output: CodecOutput,
        wave: Tensor,
        discriminators: nn.Module | None,
        exchange: bool = False,
    ) -> dict[str, Tensor]:
        """Weighted losses of the codec; their sum is what to minimise.

        Args:
            output: The codec's training pass over ``wave``.
            wave: ``[B, S]`` at the codec's rate.
            discriminators: Called with a wave, gives ``(scores, features)``; None = none yet.
            exchange: The batch's halves are two parts of the same recordings.

        Returns:
            Scalars by name, each already multiplied by its weight.
        """
        cfg = self.cfg
        losses = {
            "mel": cfg.mel * self.mel(output.wave, wave),
            "codebook": cfg.codebook * output.codebook_loss,
            "commitment": cfg.commitment * output.commitment_loss,
        }
        if exchange and cfg.voice:
            one, other = output.voice.flatten(1).chunk(2)  # [B, G]
            apart = 1 - F.cosine_similarity(one, other.detach()).mean()
            losses["voice"] = cfg.voice * apart
        if discriminators is not None and (cfg.adversarial or cfg.features):
            with torch.no_grad():
                _, real = discriminators(wave)
            scores, fake = discriminators(output.wave)
            losses["adversarial"] = cfg.adversarial * generator_adversarial(scores, cfg.kind)
            losses["features"] = cfg.features * feature_distance(real, fake)
        return losses

    def discriminator_losses(
        self, output: CodecOutput, wave: Tensor, discriminators: nn.Module
    ) -> dict[str, Tensor]:
        """Loss of the discriminators on real and reconstructed waves; no gradient to the codec."""
        real, _ = discriminators(wave)
        fake, _ = discriminators(output.wave.detach())
        return {"discriminator": discriminator_adversarial(real, fake, self.cfg.kind)}
