"""What is heard in a room beside the near speaker: another voice, quieter and with echo; noise."""

from __future__ import annotations

import numpy as np

from fo_core.data.augment import AugmentConfig, coloured_noise, in_room

ROOM = AugmentConfig(room_t60=(0.25, 0.7), room_direct_db=(-6.0, 6.0))
PEAK = 0.99  # of a recording
Range = tuple[float, float]


def power_of(wave: np.ndarray) -> float:
    """Mean square of a wave [S]; a small number for an empty one."""
    return float((wave.astype(np.float64) ** 2).mean()) if len(wave) else 1e-6


def far_voice(
    speech: np.ndarray, power: float, level_db: float, draw: np.random.Generator, rate: int
) -> np.ndarray:
    """Speech as it is heard from across a room.

    Args:
        speech: float32 [S], close to its microphone.
        power: Mean square of the near user's speech.
        level_db: Loudness against it, dB; negative is quieter.
        draw: The room is drawn from it.
        rate: Sample rate, Hz.

    Returns:
        float32 [S].
    """
    wave = in_room(speech, ROOM, draw, rate)
    gain = np.sqrt(power * 10 ** (level_db / 10) / max(power_of(wave), 1e-12))
    return np.asarray(wave * gain, np.float32)


def with_noise(
    wave: np.ndarray, power: float, snr_db: Range, tilt: Range, draw: np.random.Generator
) -> np.ndarray:
    """A recording with the room's steady noise under it.

    Args:
        wave: float32 [S].
        power: Mean square of the near user's speech.
        snr_db: That over the noise, dB, drawn uniformly.
        tilt: The noise's colour, likewise: 0 white, 1 pink, 2 brown.
        draw: Everything is drawn from it.

    Returns:
        float32 [S].
    """
    noise = coloured_noise(draw, len(wave), draw.uniform(*tilt))
    return wave + noise * np.float32(np.sqrt(power / 10 ** (draw.uniform(*snr_db) / 10)))


def within_peak(wave: np.ndarray) -> np.ndarray:
    """A wave [S], made quieter if it would clip: float32 [S]."""
    peak = float(np.abs(wave).max(initial=0.0))
    return np.asarray(wave if peak <= PEAK else wave * np.float32(PEAK / peak), np.float32)
