"""A microphone for stock clients: recorded sentences in real time, silence between them."""

import asyncio
import time
import wave
from collections.abc import Awaitable, Callable, Sequence

RATE = 24000
SECONDS = 0.04  # of a block
BYTES = int(2 * RATE * SECONDS)


class Microphone:
    """Sends blocks of 40 ms int16 at 24 kHz for as long as :meth:`run` runs.

    Args:
        recordings: Files of sentences, which :meth:`speak` says one after the other.
        send: Takes a block.
    """

    def __init__(self, recordings: Sequence[str], send: Callable[[bytes], Awaitable[None]]) -> None:
        self._send, self._left = send, b""
        self._sentences = []
        for path in recordings:
            with wave.open(path) as file:
                assert (file.getframerate(), file.getsampwidth()) == (RATE, 2)
                self._sentences.append(file.readframes(file.getnframes()))

    def speak(self) -> None:
        """Say the next sentence."""
        self._left += self._sentences.pop(0)

    async def run(self) -> None:
        due = time.monotonic()
        while True:
            block, self._left = self._left[:BYTES], self._left[BYTES:]
            await self._send(block.ljust(BYTES, b"\0"))
            due += SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
