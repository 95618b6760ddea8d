"""When the next frame of a stream is due."""

from __future__ import annotations

import asyncio
import time

LATE_SECONDS = 0.2  # behind its time by more, the clock is set anew instead of catching up


class Pacer:
    """The clock of a stream that is sent in real time.

    Args:
        seconds: Of a frame.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._due = seconds, 0.0

    async def wait(self) -> None:
        """Until the time of the next frame has come."""
        now = time.monotonic()
        if now - self._due > LATE_SECONDS:
            self._due = now
        await asyncio.sleep(max(0.0, self._due - now))
        self._due += self._seconds
