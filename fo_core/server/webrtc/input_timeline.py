"""A caller's frames on their way to the model, with every gap filled.

Packets get lost, and a sender may leave out silence. The model hears one unbroken stream, so time
that is missing is filled with what was there before it, fading, and then with silence.
"""

from __future__ import annotations

import numpy as np

FADE_SECONDS = 0.04  # over which the filling of a gap falls silent
MAX_GAP_SECONDS = 2.0  # a longer one is filled no further


class InputTimeline:
    """Makes an unbroken stream of frames that have times.

    Args:
        rate: Of the samples, and of the times.
    """

    def __init__(self, rate: int = 48000) -> None:
        self._rate = rate
        self._next: int | None = None  # time of the sample that is to come
        self._last = np.zeros(0, np.float32)

    def frame(self, time: int, wave: np.ndarray) -> np.ndarray:
        """What is to be heard now.

        Args:
            time: Of the frame's first sample.
            wave: float32 [S].

        Returns:
            float32 [gap + S]; empty where that time is past.
        """
        gap = 0 if self._next is None else time - self._next
        if gap < 0 and -gap < self._rate:
            wave, time, gap = wave[-gap:], time - gap, 0
        if gap < 0:  # the sender's clock began anew
            gap = 0
        gap = min(gap, int(MAX_GAP_SECONDS * self._rate))
        self._next = time + len(wave)
        filled = self._filling(gap)
        if len(wave):
            self._last = wave
        return np.concatenate([filled, wave])

    def silence(self, samples: int) -> np.ndarray:
        """The sender is silent: float32 [samples]; its next frame follows without a gap."""
        self._next, self._last = None, np.zeros(0, np.float32)
        return np.zeros(samples, np.float32)

    def _filling(self, gap: int) -> np.ndarray:
        """The last frame, backwards and forwards in turn, so that it goes on where it ended."""
        out = np.zeros(gap, np.float32)
        length = min(gap, int(FADE_SECONDS * self._rate))
        if length and len(self._last):
            mirrored = np.concatenate([self._last[::-1], self._last])
            repeats = -(-length // len(mirrored))
            out[:length] = np.tile(mirrored, repeats)[:length]
            out[:length] *= np.linspace(1, 0, length, dtype=np.float32)
        return out
