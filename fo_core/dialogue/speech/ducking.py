"""A low voice: the gain of a reply that goes on while a voice over it is judged."""

from __future__ import annotations

import numpy as np

DUCK_GAIN = 0.2  # of a bot that speaks on in a low voice: -14 dB
DUCK_SECONDS = 0.01  # in which its voice is lowered and raised


class Ducking:
    """Lowers and raises a voice in ramps, so that nothing clicks.

    Args:
        rate: Samples a second.

    Attributes:
        low: Whether the voice is to be low from the next sample on.
    """

    def __init__(self, rate: int) -> None:
        self.low = False
        self._gain, self._step = 1.0, 1.0 / (DUCK_SECONDS * rate)

    def apply(self, audio: np.ndarray) -> np.ndarray:
        """The next samples, float32 [S], in the voice of now."""
        to = DUCK_GAIN if self.low else 1.0
        if not audio.size or self._gain == to == 1.0:
            return audio
        step = np.sign(to - self._gain) * self._step
        low, high = sorted((self._gain, to))
        gains = np.clip(self._gain + step * np.arange(1, audio.size + 1), low, high)
        self._gain = float(gains[-1])
        return (audio * gains).astype(np.float32)

    def reset(self) -> None:
        """Another reply begins, in full voice."""
        self.low, self._gain = False, 1.0
