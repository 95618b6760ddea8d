"""Whose voice it is: mean and spread of a mel spectrogram, and pitch, compared with known voices.

A small classifier, learnt from recordings with their speakers: linear discriminants over 82 numbers
of an utterance. It tells apart a handful of voices; it is no speaker verification.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

RATE = 16000
WINDOW, HOP, BANDS = 512, 160, 40
FLOOR = 35.0  # dB under the loudest frame: below is silence
LOWEST, HIGHEST = 60.0, 400.0  # pitch, Hz
VOICED = 0.5  # autocorrelation from which a frame has a pitch
OCTAVE = 0.85  # of the highest peak: an earlier one as high is the pitch, the highest its multiple
SHRINK = 0.2  # of the covariance to its diagonal: there are few recordings for 82 numbers


def _frames(wave: np.ndarray, size: int) -> np.ndarray:
    padded = np.pad(np.asarray(wave, dtype=np.float64), (0, max(0, size - len(wave))))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::HOP]


@functools.cache
def _bands() -> np.ndarray:
    """Mel filters ``[WINDOW / 2 + 1, BANDS]``."""
    from fo_core.features import slaney_filters

    return slaney_filters(BANDS, WINDOW).double().numpy()


def pitch(wave: np.ndarray) -> float:
    """Median pitch of a wave [S] at 16 kHz in Hz; 0 where nothing is voiced."""
    size = 1024
    frames = _frames(wave, size)
    frames = frames - frames.mean(1, keepdims=True)
    power = (frames**2).sum(1)
    frames = frames[power > power.max() * 10 ** (-FLOOR / 10)] * np.hanning(size)
    if not len(frames) or not power.max():
        return 0.0
    spectrum = np.abs(np.fft.rfft(frames, 2 * size)) ** 2
    lags = np.fft.irfft(spectrum)[:, :size]
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(size), 2 * size)) ** 2)[:size]
    lags = lags / lags[:, :1] / (window / window[0])
    first, last = int(RATE / HIGHEST), int(RATE / LOWEST)
    near = lags[:, first - 1 : last + 2]
    strength = near[:, 1:-1].max(1)
    peak = (near[:, 1:-1] >= near[:, :-2]) & (near[:, 1:-1] >= near[:, 2:])
    peak &= near[:, 1:-1] >= OCTAVE * strength[:, None]
    voiced = (peak.argmax(1) + first)[(strength > VOICED) & peak.any(1)]  # the shortest good lag
    return float(RATE / np.median(voiced)) if len(voiced) else 0.0


def features(wave: np.ndarray) -> np.ndarray:
    """What tells a voice, ``[82]``: mel means and spreads in nat, log pitch, whether there is one.

    The wave is float [S] at 16 kHz; its loudness makes no difference.
    """
    power = np.abs(np.fft.rfft(_frames(wave, WINDOW) * np.hanning(WINDOW), axis=1)) ** 2
    loud = power.sum(1)
    power = power[loud >= loud.max() * 10 ** (-FLOOR / 10)]
    mel = np.log(power @ _bands() + 1e-6 * max(1e-12, float(power.mean())))
    mean = mel.mean(0)
    high = pitch(wave)
    rest = [np.log(high) if high else np.log(LOWEST), float(high > 0)]
    return np.concatenate([mean - mean.mean(), mel.std(0), rest])


class Voices:
    """Known voices.

    Args:
        found: Features of recordings, ``[N, 82]``.
        speakers: Who speaks each.
    """

    def __init__(self, found: np.ndarray, speakers: Sequence[str]) -> None:
        self.names = sorted(set(speakers))
        index = np.array([self.names.index(name) for name in speakers])
        self._scale = found.std(0) + 1e-3
        scaled = found / self._scale
        self._means = np.stack([scaled[index == i].mean(0) for i in range(len(self.names))])
        inside = scaled - self._means[index]
        shared = inside.T @ inside / max(1, len(found) - len(self.names))
        diagonal = np.diag(np.diag(shared) + 1e-2)
        self._inverse = np.linalg.inv((1 - SHRINK) * shared + SHRINK * diagonal)

    def nearest(self, one: np.ndarray) -> str:
        """The speaker whose recordings are most like these features ``[82]``."""
        apart = one / self._scale - self._means
        return self.names[int(np.einsum("vf,fg,vg->v", apart, self._inverse, apart).argmin())]
