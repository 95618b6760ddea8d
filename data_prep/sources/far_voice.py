"""A voice that is not the user's: somebody speaks elsewhere in the room, quieter and with echo."""

from __future__ import annotations

import numpy as np

from fo_core.data.augment import AugmentConfig, in_room

ROOM = AugmentConfig(room_t60=(0.25, 0.7), room_direct_db=(-6.0, 6.0))


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
