"""The audio of one WebRTC session, beside its events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol

import numpy as np

from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.recent import Recent
from fo_core.dialogue.sessions.pool import Overflow, Talk
from fo_core.server.webrtc.input_timeline import InputTimeline
from fo_core.server.webrtc.playout import Playout

TRACK_RATE = 48000  # Hz, of Opus
SILENT_SECONDS = 0.5  # without a frame, then the caller is taken to be silent
KEPT_RESPONSES = 64  # whose audio may still be played
Ended = tuple[int, str]  # close code and reason
Frame = tuple[int, np.ndarray]  # time of the first sample, float32 [S]; both at TRACK_RATE

TOLD = {  # what became of the audio buffer -> event
    "started": "output_audio_buffer.started",
    "stopped": "output_audio_buffer.stopped",
    "cleared": "output_audio_buffer.cleared",
}


class Hearer(Protocol):
    """What is told of the audio."""

    async def report(self) -> None:
        """Send what became of the audio buffer."""

    async def say_error(self, message: str, code: str) -> None:
        """Send an error."""

    def hear(self, wave: np.ndarray) -> None:
        """Take sound at 48 kHz."""


class Media:
    """Sound of the caller to the model, replies to the caller's track.

    Args:
        talk: Told how much of a reply was sent.
        frames: Gives the caller's next frame; None: there are no more. None: it sends no sound.

    Attributes:
        heard: Told the turn and how many samples of its reply were sent, every 100 ms.
        playout: What is to be sent.
        responses: Id of the response of a turn.
    """

    def __init__(self, talk: Talk, frames: Callable[[], Awaitable[Frame | None]] | None) -> None:
        self.playout = Playout(self._played)
        self.heard: Callable[[int, int], None] = lambda turn, position: None
        self._talk = talk
        self.responses: Recent[int, str] = Recent(KEPT_RESPONSES)
        self._frames = frames

    def _played(self, turn: int, position: int) -> None:
        self._talk.send(do.Played(position, turn))
        self.heard(turn, position)

    def parts(self, client: Hearer) -> list[Coroutine[Any, Any, Ended]]:
        """What has to run for as long as the session lasts."""
        return [self._report(client), *([self._listen(client)] if self._frames else [])]

    def follow(self, event: ev.DuplexEvent) -> None:
        """Something happened in the talk."""
        if isinstance(event, ev.AudioDelta):
            self.playout.add(event.turn, event.position, event.audio)
        elif isinstance(event, ev.ReplyDone):
            self.playout.made(event.turn)
        elif isinstance(event, ev.Interrupted):
            self.playout.cut(event.turn)
        elif isinstance(event, ev.Yielded):
            self.playout.give_way(event.turn, event.by)
        elif isinstance(event, ev.Resumed):
            self.playout.go_on(event.turn)

    def changes(self) -> Iterator[dict[str, Any]]:
        """Events that say what became of the audio buffer."""
        for change, turn in self.playout.changes():
            id = self.responses.get(turn, "")  # noqa: A001 the protocol's word
            yield {"type": TOLD[change], "response_id": id}

    def cut(self) -> bool:
        """Stop what is being played; whether anything was."""
        turn = self.playout.turn
        if turn is not None:
            self.playout.cut(turn)
        return turn is not None

    async def _report(self, client: Hearer) -> Ended:
        while True:
            await self.playout.changed.wait()
            await client.report()

    async def _listen(self, client: Hearer) -> Ended:
        assert self._frames is not None
        timeline, full = InputTimeline(TRACK_RATE), False
        frame = asyncio.ensure_future(self._frames())
        try:
            while True:
                await asyncio.wait([frame], timeout=SILENT_SECONDS)
                if frame.done():
                    found = frame.result()
                    if found is None:
                        return 1000, "the caller hung up"
                    wave = timeline.frame(*found)
                    frame = asyncio.ensure_future(self._frames())
                else:
                    wave = timeline.silence(int(SILENT_SECONDS * TRACK_RATE))
                try:
                    client.hear(wave)
                    full = False
                except Overflow as wrong:
                    if not full:  # told once, not fifty times a second
                        full = True
                        await client.say_error(str(wrong), "overflow")
        finally:
            frame.cancel()
