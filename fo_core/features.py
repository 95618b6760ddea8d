"""Feature extractors: waves at 16 kHz to mel frames every 10 ms, whole or chunk by chunk.

All frame the same way: a chunk of 2,560 samples gives 16 frames, and frame ``i`` covers samples
``160 i - 240 .. 160 i + 159`` (what lies before the wave is zero), so only the last 240 samples are
kept between chunks and the whole wave is one step from a fresh state. No gradients, no randomness.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.errors import ConfigError
from fo_core.registry import did_you_mean
from fo_core.streaming import CHUNK_SAMPLES, SAMPLE_RATE

WINDOW, HOP = 400, 160  # samples: 25 ms every 10 ms
OVERLAP = WINDOW - HOP  # samples a chunk needs from the one before it


@dataclass
class FeatureState:
    """What an extractor keeps between chunks."""

    tail: Tensor  # [B, 240] last samples
    peak: Tensor  # [B] largest log-mel value so far (WhisperMel)


class _Framed(nn.Module):
    """Framing and streaming; a subclass turns frames of samples into features."""

    rate = SAMPLE_RATE
    start_peak = 0.0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("window", torch.empty(0), persistent=False)
        self.register_buffer("filters", torch.empty(0), persistent=False)
        self.window: Tensor
        self.filters: Tensor

    def init_state(self, batch_size: int) -> FeatureState:
        """The state before the first sample."""
        return FeatureState(
            self.window.new_zeros(batch_size, OVERLAP),
            self.window.new_full((batch_size,), self.start_peak),
        )

    @torch.no_grad()
    def step(self, wave: Tensor, state: FeatureState) -> tuple[Tensor, FeatureState]:
        """Extract the frames of one or more chunks.

        Args:
            wave: ``[B, 2560 n]`` in [-1, 1].
            state: From ``init_state`` or the step before.

        Returns:
            ``[B, 16 n, dim]`` and the next state.
        """
        assert wave.shape[1] % CHUNK_SAMPLES == 0, "a step takes whole chunks of 2560 samples"
        wave = torch.cat([state.tail, wave.to(self.window)], 1)
        feats, peak = self.extract(wave.unfold(1, WINDOW, HOP), state.peak)
        return feats, FeatureState(wave[:, wave.shape[1] - OVERLAP :], peak)

    def forward(self, wave: Tensor) -> Tensor:
        """``[B, S] -> [B, 16 ceil(S / 2560), dim]``: zero-padded to whole chunks, one step."""
        wave = F.pad(wave, (0, -wave.shape[1] % CHUNK_SAMPLES))
        return self.step(wave, self.init_state(wave.shape[0]))[0]

    def extract(self, frames: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
        """Frames ``[B, T, 400]`` and the peak so far ``[B]`` -> ``[B, T, dim]`` and the peak."""
        raise NotImplementedError


class KaldiFbank(_Framed):
    """Kaldi's mel filter bank, 80 bins of 20 to 8,000 Hz, as Freeze-Omni uses it.

    Samples times 32,768; no dither; per frame: mean removed, pre-emphasis 0.97, Povey window,
    power of a 512-point FFT, natural log floored at float32's epsilon.
    """

    def __init__(self, dim: int = 80) -> None:
        super().__init__(dim)
        self.window = torch.hann_window(WINDOW, periodic=False) ** 0.85  # Povey
        self.filters = _kaldi_filters(dim)

    def extract(self, frames: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        frames = frames * 32768.0
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        frames = (frames - 0.97 * before) * self.window
        power = torch.fft.rfft(frames, 512).abs().square()
        mel = power @ self.filters
        return mel.clamp_min(torch.finfo(torch.float32).eps).log(), peak


class WhisperMel(_Framed):
    """Whisper's log-mel features in a causal form.

    As Whisper: periodic Hann window of 400, power spectrum, Slaney mel filters up to 8 kHz, log10,
    ``(x + 4) / 4``, and a floor 8 below the largest value. Two differences: the largest value is
    the largest *so far* (from ``start_peak`` on, that of ordinary speech) instead of the whole
    recording's, and frames are centred 40 samples (2.5 ms) earlier.
    """

    start_peak = 1.0  # log10 of mel power; Whisper's own value for speech lies at 0.5 .. 1.5

    def __init__(self, dim: int = 80) -> None:
        super().__init__(dim)
        self.window = torch.hann_window(WINDOW)
        self.filters = slaney_filters(dim)

    def extract(self, frames: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        power = torch.fft.rfft(frames * self.window, WINDOW).abs().square()
        log = (power @ self.filters).clamp_min(1e-10).log10()
        largest = torch.cat([peak[:, None], log.amax(-1)], 1).cummax(1).values  # [B, 1 + T]
        log = torch.maximum(log, largest[:, 1:, None] - 8.0)
        return (log + 4.0) / 4.0, largest[:, -1]


EXTRACTORS: dict[str, type[KaldiFbank] | type[WhisperMel]] = {
    "kaldi-fbank": KaldiFbank,
    "whisper-mel": WhisperMel,
}


def make_extractor(name: str) -> KaldiFbank | WhisperMel:
    """The extractor that an encoder names in its attribute ``features``.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in EXTRACTORS:
        raise ConfigError(f"unknown features {name!r}", did_you_mean(name, list(EXTRACTORS)))
    return EXTRACTORS[name]()


def feature_lens(samples: Tensor) -> Tensor:
    """Frames that carry a wave of so many samples: whole chunks, ``[B] -> [B]``."""
    return (samples + CHUNK_SAMPLES - 1) // CHUNK_SAMPLES * (CHUNK_SAMPLES // HOP)


class GlobalCmvn(nn.Module):
    """Global mean and variance normalisation: ``(x - mean) * istd``. Buffers: mean, istd."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("istd", torch.ones(dim))
        self.mean: Tensor
        self.istd: Tensor

    def set_statistics(self, total: Tensor, squares: Tensor, frames: float) -> None:
        """From sums over frames: ``istd = 1 / sqrt(max(E[x^2] - mean^2, 1e-20))``, in double."""
        mean = total.double() / frames
        variance = (squares.double() / frames - mean.square()).clamp_min(1e-20)
        self.mean.copy_(mean)
        self.istd.copy_(variance.rsqrt())

    def measure(self, batches: Iterable[Tensor]) -> None:
        """Measure on features ``[..., dim]`` (real frames only)."""
        total = squares = torch.zeros_like(self.mean, dtype=torch.float64)
        frames = 0
        for batch in batches:
            rows = batch.reshape(-1, batch.shape[-1]).to(total)
            total, squares = total + rows.sum(0), squares + rows.square().sum(0)
            frames += rows.shape[0]
        self.set_statistics(total, squares, max(frames, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., dim] -> [..., dim]``."""
        return (x - self.mean) * self.istd


def _kaldi_filters(bins: int) -> Tensor:
    """Kaldi's mel banks, ``[257, bins]``: triangles on the mel axis, 20 Hz to Nyquist.

    In float32 and in this order of operations on purpose: quiet bins beside loud ones amplify the
    rounding of the slopes to 1e-3 of a log value, and models were trained on these.
    """
    low, high = (1127.0 * math.log(1.0 + hertz / 700.0) for hertz in (20.0, SAMPLE_RATE / 2))
    step = (high - low) / (bins + 1)
    index = torch.arange(bins)[:, None]
    left, centre, right = low + index * step, low + (index + 1.0) * step, low + (index + 2.0) * step
    at = 1127.0 * (1.0 + SAMPLE_RATE / 512 * torch.arange(256) / 700.0).log()
    up, down = (at - left) / (centre - left), (right - at) / (right - centre)
    filters = torch.minimum(up, down).clamp_min(0)
    return F.pad(filters, (0, 1)).T  # Kaldi leaves out the Nyquist bin


def slaney_filters(bins: int, size: int = WINDOW, high: float = SAMPLE_RATE / 2) -> Tensor:
    """Slaney's mel filters with equal areas, ``[size / 2 + 1, bins]``, as librosa and Whisper."""
    knee, step = 1000.0, 200.0 / 3  # linear below 1 kHz, logarithmic above
    log_step = math.log(6.4) / 27.0

    def to_mel(hertz: float) -> float:
        return hertz / step if hertz < knee else knee / step + math.log(hertz / knee) / log_step

    mels = torch.linspace(0, to_mel(high), bins + 2, dtype=torch.float64)
    above = knee * torch.exp(log_step * (mels - knee / step))
    points = torch.where(mels < knee / step, mels * step, above)
    at = torch.fft.rfftfreq(size, 1 / SAMPLE_RATE, dtype=torch.float64)
    left, centre, right = points[:-2], points[1:-1], points[2:]
    up, down = (at[:, None] - left) / (centre - left), (right - at[:, None]) / (right - centre)
    return (torch.minimum(up, down).clamp_min(0) * (2.0 / (right - left))).float()
