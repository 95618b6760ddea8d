"""Differentiable log-mel spectrogram for codecs; the input branch has its own features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mel_filters(rate: int, n_fft: int, mels: int, low: float, high: float) -> Tensor:
    """Triangular filters ``[n_fft // 2 + 1, mels]`` on the HTK mel scale, peak 1."""

    def to_mel(hz: float) -> float:
        return 2595.0 * math.log10(1.0 + hz / 700.0)

    points = torch.linspace(to_mel(low), to_mel(high), mels + 2, dtype=torch.float64)
    edges = 700.0 * (10.0 ** (points / 2595.0) - 1.0)
    bins = torch.linspace(0, rate / 2, n_fft // 2 + 1, dtype=torch.float64)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp(min=0).float()


class LogMel(nn.Module):
    """Log of the mel magnitudes of a wave.

    Args:
        rate: Sample rate, Hz.
        n_fft: Window and transform length, samples.
        hop: Samples between frames; frame ``i`` is centred on sample ``i * hop + hop / 2``.
        mels: Mel bands.
        low: Lowest frequency, Hz.
        high: Highest frequency, Hz; None is half the rate.
        floor: Magnitudes below this count as this.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        rate: int,
        n_fft: int,
        hop: int,
        mels: int,
        low: float = 0.0,
        high: float | None = None,
        floor: float = 1e-3,
    ) -> None:
        super().__init__()
        self.n_fft, self.hop, self.floor = n_fft, hop, floor
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        filters = mel_filters(rate, n_fft, mels, low, high or rate / 2)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Log-mel ``[B, S // hop, mels]`` of ``wave [B, S]`` (zeros beyond its ends)."""
        with torch.autocast(wave.device.type, enabled=False):
            pad = (self.n_fft - self.hop) // 2
            wave = F.pad(wave.float(), (pad, self.n_fft - self.hop - pad))
            spectrum = torch.stft(
                wave, self.n_fft, self.hop, window=self.window, center=False, return_complex=True
            )
            power = spectrum.real.square() + spectrum.imag.square()  # [B, n_fft // 2 + 1, frames]
            mel = (power + 1e-12).sqrt().transpose(1, 2) @ self.filters
            return mel.clamp(min=self.floor).log()
