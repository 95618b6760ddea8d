"""Sounds that are not speech, made by numpy: each is a short formula and a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_prep.sources.domain import NOISES
from fo_core.data.augment import coloured_noise
from fo_core.errors import DataError

Generator = np.random.Generator


def _coloured(draw: Generator, size: int, tilt: float) -> np.ndarray:
    """Noise of peak 1, power falling with frequency ** tilt: float32 [size]."""
    wave = coloured_noise(draw, size, tilt)
    return wave / (np.abs(wave).max() + 1e-9)


def cough(draw: Generator, rate: int) -> np.ndarray:
    """One to three bursts of pinkish noise with a fast rise and a slow fall."""
    bursts = []
    for _ in range(int(draw.integers(1, 4))):
        size = int(rate * draw.uniform(0.12, 0.25))
        time = np.arange(size) / rate
        shape = np.minimum(time / 0.01, 1) * np.exp(-time / draw.uniform(0.04, 0.08))
        bursts += [
            _coloured(draw, size, 0.7) * shape,
            np.zeros(int(rate * draw.uniform(0.05, 0.2))),
        ]
    return np.concatenate(bursts[:-1])


def knock(draw: Generator, rate: int) -> np.ndarray:
    """Two to five damped low sines: knuckles on wood."""
    pitch, gap = draw.uniform(120, 300), draw.uniform(0.12, 0.25)
    size, count = int(rate * 0.09), int(draw.integers(2, 6))
    time = np.arange(size) / rate
    hit = np.sin(2 * np.pi * pitch * time) * np.exp(-time / 0.018)
    hit = hit + 0.3 * _coloured(draw, size, 0.0) * np.exp(-time / 0.004)
    wave = np.zeros(int(rate * gap) * (count - 1) + size)
    for i in range(count):
        at = int(rate * gap) * i
        wave[at : at + size] += hit * draw.uniform(0.7, 1.0)
    return wave


def hum(draw: Generator, rate: int) -> np.ndarray:
    """A held low tone with harmonics and a slow vibrato: a machine or a hummed note."""
    time = np.arange(int(rate * draw.uniform(0.4, 1.0))) / rate
    pitch = draw.uniform(90, 220) * (1 + 0.01 * np.sin(2 * np.pi * 5 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wave = sum(np.sin(k * phase) / k**2 for k in range(1, 6))
    fade = np.minimum(1, np.minimum(time, time[-1] - time) / 0.05)
    return np.asarray(wave * fade)


def hiss(draw: Generator, rate: int) -> np.ndarray:
    """A swell of white to pink noise: breath, a passing car, a tap."""
    size = int(rate * draw.uniform(0.3, 1.0))
    return _coloured(draw, size, draw.uniform(0, 1)) * np.hanning(size)


def click(draw: Generator, rate: int) -> np.ndarray:
    """One to four very short bursts: a switch, keys, a mouse."""
    count, gap = int(draw.integers(1, 5)), draw.uniform(0.08, 0.2)
    size = int(rate * 0.02)
    wave = np.zeros(int(rate * gap) * (count - 1) + size)
    decay = np.exp(-np.arange(size) / (rate * 0.002))
    for i in range(count):
        at = int(rate * gap) * i
        wave[at : at + size] += draw.standard_normal(size) * decay
    return wave


_MAKERS: dict[str, Callable[[Generator, int], np.ndarray]] = {
    "cough": cough,
    "knock": knock,
    "hum": hum,
    "hiss": hiss,
    "click": click,
}


def make(name: str, seed: int, rate: int) -> np.ndarray:
    """One sound: float32 [S], peak 0.3 of full scale.

    Args:
        name: One of ``domain.NOISES``.
        seed: The same seed gives the same sound.
        rate: Sample rate in Hz.

    Raises:
        DataError: There is no such sound.
    """
    if name not in _MAKERS:
        raise DataError(f"unknown noise {name!r}", possible=", ".join(NOISES))
    wave = _MAKERS[name](np.random.default_rng(seed), rate)
    return (0.3 * wave / (np.abs(wave).max() + 1e-9)).astype(np.float32)
