"""Voices by mel statistics and pitch."""

import numpy as np
import pytest

from eval.metrics.voice import RATE, Voices, features, pitch


def hum(height: float, tilt: float, seed: int, seconds: float = 1.2) -> np.ndarray:
    """A wandering voice: harmonics under a spectral tilt, with pauses and other 'words'."""
    draw = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    sway = np.interp(time, np.linspace(0, seconds, 6), draw.uniform(0.95, 1.05, 6))
    phase = 2 * np.pi * np.cumsum(height * sway) / RATE
    wave = sum(np.sin(n * phase) / n**tilt for n in range(1, int(4000 / height)))
    loud = np.interp(time, np.linspace(0, seconds, 8), draw.uniform(0, 1, 8))
    return (0.1 * loud * wave + 1e-4 * draw.standard_normal(len(time))).astype(np.float32)


@pytest.mark.parametrize("height", [90.0, 140.0, 220.0, 330.0])
def test_pitch_of_a_voice(height):
    assert pitch(hum(height, 1.0, 3)) == pytest.approx(height, rel=0.05)


def test_silence_and_noise_have_no_pitch():
    assert pitch(np.zeros(8000, np.float32)) == 0 == pitch(np.zeros(0, np.float32))
    assert pitch(np.random.default_rng(0).standard_normal(16000)) == 0


def test_unheard_recordings_are_told_apart():
    kinds = {"low": (110.0, 1.0), "high": (210.0, 1.0), "dark": (115.0, 1.8)}
    known = [(name, features(hum(*kinds[name], seed))) for name in kinds for seed in range(8)]
    voices = Voices(np.stack([f for _, f in known]), [name for name, _ in known])
    right = [
        voices.nearest(features(hum(*kinds[name], seed))) == name
        for name in kinds
        for seed in range(20, 28)
    ]
    assert np.mean(right) > 0.9


def test_loudness_makes_no_difference():
    wave = hum(150.0, 1.2, 5)
    np.testing.assert_allclose(features(wave), features(0.1 * wave), atol=1e-3)
    assert np.isfinite(features(np.zeros(400, np.float32))).all()
