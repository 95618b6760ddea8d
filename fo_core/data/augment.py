"""Training-time changes of a recording that leave its words and its length as they are."""

from __future__ import annotations

import numpy as np

from fo_core.config import config


@config
class AugmentConfig:
    """Shares and ranges; everything is drawn anew each epoch from (seed, epoch, item)."""

    gain_db: tuple[float, float] = (-6.0, 6.0)  # loudness change, dB
    noise_share: float = 0.3  # share of the recordings that get noise
    snr_db: tuple[float, float] = (10.0, 40.0)  # loudness of the wave over the noise, dB
    noise_tilt: tuple[float, float] = (0.0, 2.0)  # power falls with frequency ** tilt
    tilt_share: float = 0.3  # share of the recordings that get another microphone's tone
    tilt_db: tuple[float, float] = (-6.0, 6.0)  # its gain at half the sample rate, dB


def coloured_noise(draw: np.random.Generator, size: int, tilt: float) -> np.ndarray:
    """Noise of RMS 1: float32 [size], power falling with frequency ** tilt."""
    spectrum = np.fft.rfft(draw.standard_normal(size))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-tilt / 2)
    noise = np.fft.irfft(spectrum, size)
    return (noise / (np.sqrt((noise**2).mean()) + 1e-9)).astype(np.float32)


def augment(wave: np.ndarray, cfg: AugmentConfig, draw: np.random.Generator) -> np.ndarray:
    """A changed copy of a wave: float32 [S], same length, peak at most 1."""
    if not len(wave):
        return wave
    changed: np.ndarray = wave * np.float32(10 ** (draw.uniform(*cfg.gain_db) / 20))
    if draw.random() < cfg.tilt_share:
        spectrum = np.fft.rfft(changed)
        slope = np.linspace(0, draw.uniform(*cfg.tilt_db), len(spectrum))
        changed = np.fft.irfft(spectrum * 10 ** (slope / 20), len(wave))
    if draw.random() < cfg.noise_share:
        rms = np.sqrt((changed.astype(np.float64) ** 2).mean())
        level = rms / 10 ** (draw.uniform(*cfg.snr_db) / 20)
        changed = changed + level * coloured_noise(draw, len(wave), draw.uniform(*cfg.noise_tilt))
    peak = float(np.abs(changed).max())
    return (changed / max(1.0, peak)).astype(np.float32)
