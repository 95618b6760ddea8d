"""One client of the server, whatever protocol it speaks.

What it says becomes commands of its ``Talk``, what happens there becomes events. A protocol says
how: which message is what command, and what is told of which event. Its audio is in the events, or
has tracks of its own.
"""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.sessions.talk import Overflow, Reason, Talk
from fo_core.errors import FoError
from fo_core.server.messages import Refused, new_id, read_message
from fo_core.server.responses import Event
from fo_core.server.settings import SessionSettings
from fo_core.server.translate import Translator, error
from fo_core.server.webrtc.media import TRACK_RATE, Ended, Media
from fo_core.server.wire import Resampler
from fo_core.streaming import SAMPLE_RATE

Send = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class ConnectionContext:
    """What a connection gives the client of its protocol.

    Args:
        talk: The user's talk; closed by the owner of the connection.
        settings: In force at first.
        send: Takes one message; its order is the order of calls.
        seconds: Longest session, for ``expires_at``.
        states: Send the dialogue states too (an extension).
        limits: Gives the client's ``rate_limits``.
        saw: Told of each event that is sent, as the Realtime protocol writes it.
        media: Takes the audio of replies; None: it is sent as events, and the client's comes so.
    """

    talk: Talk
    settings: SessionSettings
    send: Send
    seconds: float
    states: bool
    limits: Callable[[], list[Event]]
    saw: Callable[[Event], None]
    media: Media | None


class Client:
    """Base of the protocols.

    Args:
        context: Of its connection.

    Attributes:
        ended: The client asked for the end, and was told of it.
    """

    def __init__(self, context: ConnectionContext) -> None:
        self.talk = context.talk
        self.settings = copy.copy(context.settings)  # those of a key are of many sessions
        self.id = new_id("sess")
        self.ended = False
        self._send, self._saw = context.send, context.saw
        self._expires_at = int(time.time() + context.seconds)
        self._media = media = context.media
        audio, states = media is None, context.states
        self._out = Translator(lambda: self.settings, states, context.limits, audio=audio)
        rate = self.settings.audio_in.rate if media is None else TRACK_RATE
        self._resampler = Resampler(rate, SAMPLE_RATE)
        self._lock = asyncio.Lock()  # one client event, or one of the talk's, at a time

    # --- what a protocol says ---

    async def hello(self) -> None:
        """The first events of a connection, and the talk's first settings."""
        raise NotImplementedError

    def _obey(self, data: dict[str, Any]) -> Iterable[Event]:
        """Do what a message says.

        Raises:
            Refused: It cannot be done.
        """
        raise NotImplementedError

    def _told(self, event: ev.DuplexEvent) -> Iterable[Event]:
        """What is told of something that happened in the talk."""
        raise NotImplementedError

    def _shown(self, event: Event) -> Event | None:
        """An event as it is sent; None: it is not."""
        raise NotImplementedError

    # --- the same for all ---

    def parts(self) -> list[Coroutine[Any, Any, Ended]]:
        """What has to run beside :meth:`run` for as long as the session lasts."""
        return [] if self._media is None else self._media.parts(self)

    async def run(self) -> Reason:
        """Send what happens until the talk ends; returns why it did."""
        async for event in self.talk:
            if isinstance(event, ev.Closed):
                return event.reason
            if self._media is not None:
                self._media.follow(event)
            if isinstance(event, ev.AudioDelta):
                self.settings.heard = True
            async with self._lock:
                await self._emit(self._told(event))
        return "client"

    async def report(self) -> None:
        """Send what became of the audio buffer, where the protocol tells it."""

    def hear(self, wave: np.ndarray) -> None:
        """Sound of the client's track: float32 [S] at 48 kHz.

        Raises:
            Overflow: There is no room for it.
        """
        self._push(self._resampler, wave)

    async def receive(self, message: str | bytes) -> None:
        """Obey one message; whatever is wrong with it becomes an error event."""
        event_id = None
        async with self._lock:
            try:
                data = read_message(message)
                event_id = data.get("event_id")
                await self._emit(self._obey(data))
            except Refused as refused:
                await self._emit([error(str(refused), refused.code, refused.param, event_id)])
            except FoError as wrong:
                code = "overflow" if isinstance(wrong, Overflow) else "invalid_value"
                await self._emit([error(str(wrong), code, None, event_id)])

    async def say_error(self, message: str, code: str) -> None:
        """Tell the client what is wrong with the connection itself."""
        await self._emit([error(message, code)])

    async def say_end(self, message: str, code: str, why: Reason) -> None:
        """Tell the client that the server ends the session."""
        await self.say_error(message, code)

    async def hang_up(self) -> None:
        """Tell the client that the application ended the session by another request."""

    @property
    def replying(self) -> bool:
        """Whether a response is being made, or an event is being sent."""
        return self._out.reply is not None or self._lock.locked()

    def interrupt(self) -> None:
        """Cut the response off that is being made."""
        self.talk.send(do.Interrupt())

    async def _emit(self, events: Iterable[Event]) -> None:
        for event in events:
            self._saw(event)
            told = self._shown(event)
            if told is not None:
                await self._send(json.dumps(told))

    def _push(self, resampler: Resampler, wave: np.ndarray) -> None:
        """Resample and push; what is refused leaves nothing behind, in the resampler neither.

        Without turn detection an utterance may come at once: it is taken whatever its length.
        """
        manual = self.settings.turn.detect == "manual"
        samples = len(wave) * SAMPLE_RATE // resampler.rates[0]
        self.talk.check_room(0 if manual else samples)
        self.talk.push(resampler.step(wave), checked=True)

    def _push_rest(self) -> None:
        rest = self._resampler.flush()
        if len(rest):
            self.talk.push(rest, checked=True)
