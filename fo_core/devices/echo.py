"""Echo cancelling: takes what the loudspeaker plays out of what the microphone hears (WebRTC)."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from fo_core.errors import EngineError
from fo_core.streaming import SAMPLE_RATE

FRAME = 160  # samples that the canceller takes at a time: 10 ms
MAX_BEHIND = 0.5  # seconds of played sound that may wait for the microphone


class EchoCanceller:
    """One microphone beside one loudspeaker.

    :meth:`played` and :meth:`clean` may be called from different threads.

    Args:
        rate: Samples a second of what is played.

    Raises:
        EngineError: pywebrtc-audio is not installed.
    """

    def __init__(self, rate: int) -> None:
        try:
            from pywebrtc_audio import EchoCanceller as WebRtc
        except ImportError as error:
            raise EngineError(
                "echo cancelling needs the package 'pywebrtc-audio'",
                possible="--headphones, which need none",
                do="pip install pywebrtc-audio (or the extra 'mic')",
            ) from error
        import soxr

        self._canceller = WebRtc(SAMPLE_RATE, 1)
        self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, "float32")
        self._far: deque[np.ndarray] = deque()  # played, at 16 kHz, not yet heard
        self._waiting = 0  # samples in it
        self._lock = threading.Lock()  # of both: two threads call
        self._near = np.zeros(0, np.float32)  # heard, less than a frame

    def played(self, block: np.ndarray) -> None:
        """The loudspeaker plays ``block`` [S] now."""
        far = self._resampler.resample_chunk(block.astype(np.float32))
        with self._lock:
            if far.size:
                self._far.append(far)
                self._waiting += far.size
            while self._waiting > MAX_BEHIND * SAMPLE_RATE:
                self._waiting -= self._far.popleft().size

    def clean(self, block: np.ndarray) -> np.ndarray:
        """What the microphone heard, [S] at 16 kHz, without the echo: whole frames of 10 ms.

        A rest of less than a frame waits for the next block.
        """
        near = np.concatenate([self._near, block.astype(np.float32)])
        size = near.size // FRAME * FRAME
        self._near = near[size:]
        frames = [
            self._canceller.process(near[start : start + FRAME], self._take(FRAME))
            for start in range(0, size, FRAME)
        ]
        return np.concatenate(frames) if frames else np.zeros(0, np.float32)

    def _take(self, size: int) -> np.ndarray:
        out = np.zeros(size, np.float32)
        filled = 0
        with self._lock:
            while filled < size and self._far:
                piece = self._far.popleft()
                part = piece[: size - filled]
                out[filled : filled + part.size] = part
                filled += part.size
                if part.size < piece.size:
                    self._far.appendleft(piece[part.size :])
            self._waiting -= filled
        return out
