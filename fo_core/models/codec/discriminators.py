"""Discriminators for codec training: multi-period, multi-scale and multi-resolution, of any size.

Each maps a wave to a score map and the features of its layers; :class:`Discriminators` runs a
chosen set of them. Multi-period and multi-scale are the paper's pair (stage output-1); the
spectrogram ones are cheap and sharpen the light codec.
"""

from __future__ import annotations

from dataclasses import field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from fo_core.config import config
from fo_core.errors import ConfigError

SLOPE = 0.1


@config
class DiscriminatorsConfig:
    """Which discriminators, and how wide."""

    periods: list[int] = field(default_factory=lambda: [2, 3, 5, 7, 11])  # samples; [] = none
    period_width: int = 32  # channels of their first layer; grows by 4 up to 32 times
    scales: int = 3  # waveform discriminators, each on half the rate of the one before; 0 = none
    scale_width: int = 128  # channels of their first layer; grows to 8 times
    windows: list[int] = field(default_factory=list)  # STFT windows, samples; [] = none
    window_width: int = 32  # channels of every layer of the spectrogram discriminators

    def __post_init__(self) -> None:
        if not (self.periods or self.scales or self.windows):
            raise ConfigError("no discriminators", possible="periods, scales or windows")
        if any(p < 1 for p in self.periods) or any(w < 16 or w % 4 for w in self.windows):
            raise ConfigError(
                f"periods {self.periods}, windows {self.windows}",
                possible="periods from 1, windows multiples of 4 from 16",
            )


def _run(layers: nn.ModuleList, last: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Score map ``[B, M]`` and the features of each layer."""
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE)
        features.append(x)
    return last(x).flatten(1), features


class PeriodDiscriminator(nn.Module):
    """Looks at every ``period``-th sample: the wave folded to ``[S / period, period]``.

    Args:
        period: Samples.
        width: Channels of the first layer.
    """

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, width, 4 * width, 16 * width, 32 * width, 32 * width]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(widths[i], widths[i + 1], (5, 1), (3 if i < 4 else 1, 1), (2, 0)))
            for i in range(5)
        )
        self.last = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores ``[B, M]`` and features of ``wave [B, S]``."""
        B, S = wave.shape
        wave = F.pad(wave, (0, -S % self.period))
        return _run(self.layers, self.last, wave.view(B, 1, -1, self.period))


class ScaleDiscriminator(nn.Module):
    """Grouped one-dimensional convolutions with strides 2, 2, 4, 4 over the wave.

    Args:
        width: Channels of the first layer, a multiple of 16.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        shapes = [  # in, out, kernel, stride, groups
            (1, w, 15, 1, 1),
            (w, w, 41, 2, 4),
            (w, 2 * w, 41, 2, 16),
            (2 * w, 4 * w, 41, 4, 16),
            (4 * w, 8 * w, 41, 4, 16),
            (8 * w, 8 * w, 41, 1, 16),
            (8 * w, 8 * w, 5, 1, 1),
        ]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv1d(i, o, k, s, padding=k // 2, groups=g)) for i, o, k, s, g in shapes
        )
        self.last = weight_norm(nn.Conv1d(8 * w, 1, 3, padding=1))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores ``[B, M]`` and features of ``wave [B, S]``."""
        return _run(self.layers, self.last, wave.unsqueeze(1))


class SpectrogramDiscriminator(nn.Module):
    """Two-dimensional convolutions over the magnitudes of a short-time Fourier transform.

    Args:
        window: STFT window, samples; the hop is a quarter of it.
        width: Channels of every layer.
    """

    window: Tensor

    def __init__(self, window: int, width: int) -> None:
        super().__init__()
        self.n_fft = window
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        widths = [1, width, width, width, width]
        self.layers = nn.ModuleList(
            weight_norm(
                nn.Conv2d(widths[i], widths[i + 1], (3, 9), (1, 2 if i else 1), padding=(1, 4))
            )
            for i in range(4)
        )
        self.last = weight_norm(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores ``[B, M]`` and features of ``wave [B, S]``."""
        with torch.autocast(wave.device.type, enabled=False):
            spectrum = torch.stft(
                wave.float(), self.n_fft, self.n_fft // 4, window=self.window, return_complex=True
            )
            power = spectrum.real.square() + spectrum.imag.square()
            magnitude = (power + 1e-8).sqrt().transpose(1, 2).unsqueeze(1)  # [B, 1, frames, bins]
            magnitude = magnitude.clamp(min=1e-3).log() / 4.0 + 0.5
        return _run(self.layers, self.last, magnitude)


class Discriminators(nn.Module):
    """A set of discriminators."""

    def __init__(self, cfg: DiscriminatorsConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.periods = nn.ModuleList(
            PeriodDiscriminator(period, cfg.period_width) for period in cfg.periods
        )
        self.scales = nn.ModuleList(ScaleDiscriminator(cfg.scale_width) for _ in range(cfg.scales))
        self.spectrograms = nn.ModuleList(
            SpectrogramDiscriminator(window, cfg.window_width) for window in cfg.windows
        )

    def forward(self, wave: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Judge a batch of waves.

        Args:
            wave: ``[B, S]``.

        Returns:
            For each discriminator its scores ``[B, M]`` (1 = real) and its layers' features.
        """
        scores, features = [], []
        for judge in [*self.periods, *self.spectrograms]:
            score, inner = judge(wave)
            scores.append(score)
            features.append(inner)
        for judge in self.scales:
            score, inner = judge(wave)
            scores.append(score)
            features.append(inner)
            wave = F.avg_pool1d(wave.unsqueeze(1), 4, 2, padding=2).squeeze(1)
        return scores, features
