"""A client of the Live protocol for tests: the stock one, that speaks and listens at once."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from event_log import EventLog

from fo_core.dialogue.settings import DuplexConfig
from fo_core.dialogue.states import StateRule

RATE = 24000
BLOCK = RATE // 50
RULE = StateRule(respond_threshold=0.0, dismiss_threshold=1.0, min_chunks=5)
EAGER = {"states": RULE, "duplex": DuplexConfig(vad="energy")}  # answers any sound
NOISE = 0.3 * np.random.default_rng(0).standard_normal(RATE).astype("f4")
SAID = "session.output_transcript.delta"
HEARD = "session.input_transcript.delta"
LONG = "abc abc abc. " * 12


class Talker(EventLog):
    """A client that speaks and listens at once, and keeps what comes."""

    def __init__(self, connection: Any) -> None:
        super().__init__()
        self.connection = connection
        self.wave = np.zeros(0, np.float32)
        self.times: list[float] = []

    def say(self, wave: np.ndarray) -> None:
        """Send float32 [S] at 24 kHz, in real time."""
        self.wave = np.concatenate([self.wave, wave])

    async def microphone(self) -> None:
        began, count = time.monotonic(), 0
        while True:
            await asyncio.sleep(max(0.0, began + count * 0.02 - time.monotonic()))
            block, self.wave = self.wave[:BLOCK], self.wave[BLOCK:]
            pcm = np.zeros(BLOCK, "<i2")
            pcm[: len(block)] = np.round(32767 * np.clip(block, -1, 1))
            audio = base64.b64encode(pcm.tobytes()).decode()
            await self.connection.session.input_audio.append(audio=audio)
            count += 1

    async def listen(self) -> None:
        async for event in self.connection:
            self.times.append(time.monotonic())
            self.keep(event.to_dict())

    def of(self, kind: str, after: int = 0) -> list[dict[str, Any]]:
        return [event for event in self.events[after:] if event["type"] == kind]

    def sound(self, after: int = 0) -> np.ndarray:
        """float32 [S] of the audio that came, silence too."""
        deltas = [e["delta"] for e in self.of("session.output_audio.delta", after)]
        pcm = b"".join(base64.b64decode(delta) for delta in deltas)
        return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768

    async def audible(self, after: int = 0) -> None:
        """Until a voice is heard."""
        async with asyncio.timeout(30):
            while not np.abs(self.sound(after)).max(initial=0) > 1e-3:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def talker(
    client: Any, session: dict[str, Any] | None = None, speak: bool = True
) -> AsyncIterator[Talker]:
    async with client.live.connect() as connection:
        found = Talker(connection)
        tasks = [asyncio.create_task(found.listen())]
        try:
            await connection.session.start(session={"model": "tiny", **(session or {})})
            await found.until("session.started")
            if speak:
                tasks.append(asyncio.create_task(found.microphone()))
            yield found
        finally:
            for task in tasks:
                task.cancel()
