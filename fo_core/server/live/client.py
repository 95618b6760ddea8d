"""One client of the Live protocol: a continuous duplex session, as OpenAI's package knows it.

There are no turns, items or responses in this protocol: audio goes in, audio comes out in real
time, transcripts say what was heard and spoken when. The server itself plays, so a reply that gives
way stands still and one that is interrupted is silent at once; over WebSocket the audio is an
unbroken stream, silence too, over WebRTC it has tracks of its own.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import numpy as np

from fo_core.dialogue import events as ev
from fo_core.dialogue.recent import Recent
from fo_core.dialogue.sessions.talk import Overflow, Reason
from fo_core.server.client import Client, ConnectionContext
from fo_core.server.live.captions import Captions
from fo_core.server.live.messages import read_event
from fo_core.server.live.session import LiveSession, check_delegation
from fo_core.server.messages import Refused, new_id
from fo_core.server.responses import Event
from fo_core.server.settings import short
from fo_core.server.webrtc.media import SILENT_SECONDS, Ended
from fo_core.server.webrtc.pacing import Pacer
from fo_core.server.wire import MAX_AUDIO, SPEECH_RATE, Resampler, from_base64, to_base64
from fo_core.streaming import SAMPLE_RATE

FRAME_SECONDS = 0.04  # of audio an event
LOOK = 0.1  # seconds between two looks whether the client is silent
USAGE_SECONDS = 30.0  # between two words about the usage, beside those after replies
MAX_APPENDED = 4000  # characters of instructions; the protocol's limit is 500 tokens
KEPT_TURNS = 64  # whose transcript may still come
REASONS = {"idle": "expired", "too_long": "expired"}  # of any other: connection_lost
NO_ID = ("session.output_audio.delta",)  # events without an id of their own


class Live(Client):
    """One connection.

    Args:
        context: Of the connection; its media are always there: they play.
        session: As it was asked for.
        event_id: Of the client's ``session.start``.
        idle_seconds: Without a message, then a session over WebSocket ends.
        positions: Of the LLM's cache before the oldest turns are forgotten.
        id: Of the session; None: a new one.
    """

    def __init__(
        self,
        context: ConnectionContext,
        session: LiveSession,
        event_id: str | None,
        idle_seconds: float,
        positions: int,
        id: str | None = None,  # noqa: A002 the protocol's word
    ) -> None:
        super().__init__(context)
        assert context.media is not None, "the server plays"
        self.id = id or new_live_id()
        self._player, self._session = context.media, session
        session.settings = self.settings  # those of the talk, from now on
        self._start_id, self._idle_seconds = event_id, idle_seconds
        if not session.tracks:
            self._resampler = Resampler(self.settings.audio_in.rate, SAMPLE_RATE)
        self._begun = self._spoke = self._sent = time.monotonic()
        self._came = 0.0  # seconds of the client's audio, and of silence in place of it
        self._muted = self._over = False
        self._spans: Recent[int, tuple[int, int]] = Recent(KEPT_TURNS)  # turn -> ms, ms
        self._transcribed, self._read, self._room = 0, 0, positions
        self._captions, self._news = Captions(self._now), asyncio.Event()
        self._player.heard = self._heard

    # --- what the base asks for ---

    async def hello(self) -> None:
        """``session.started``, what is not as asked, and the talk's first settings."""
        if self.settings.first is not None:
            self.talk.send(self.settings.changes(self.settings.first))
        for command in self._session.commands():
            self.talk.send(command)
        self._begun = self._spoke = self._sent = time.monotonic()
        await self._emit([self._snapshot("session.started", self._start_id), *self._notes()])

    def parts(self) -> list[Coroutine[Any, Any, Ended]]:
        """What has to run beside the talk."""
        own = [] if self._session.tracks else [self._play(), self._fill()]
        return [*super().parts(), *own, self._tell_captions(), self._tell_usage()]

    async def report(self) -> None:
        """The protocol does not tell what becomes of the audio buffer."""
        self._player.playout.changes()

    def hear(self, wave: np.ndarray) -> None:
        """Sound of the client; silence in its place where the input is muted.

        Raises:
            Overflow: There is no room for it.
        """
        self._push(self._resampler, np.zeros_like(wave) if self._muted else wave)
        self._came += len(wave) / self._resampler.rates[0]

    async def receive(self, message: str | bytes) -> None:
        """Obey one message; whatever is wrong with it becomes an error event."""
        self._sent = time.monotonic()
        await super().receive(message)

    async def say_end(self, message: str, code: str, why: Reason) -> None:
        """Tell the client that the server ends the session."""
        await self.say_error(message, code)
        await self._emit([self._closed(REASONS.get(why, "connection_lost"))])

    async def hang_up(self) -> None:
        """Tell the client that the application ended the session by another request."""
        async with self._lock:
            await self._emit([self._closed("close_requested")])

    def _obey(self, data: dict[str, Any]) -> Iterable[Event]:
        self._session.permissions.check(data["type"])
        event = read_event(data)
        return self._handlers[event.type](self, event, data)

    def _told(self, event: ev.DuplexEvent) -> Iterable[Event]:
        if isinstance(event, ev.ReplyDone):
            read = event.usage
            self._read = read.input_text + read.input_audio + read.output_text
        yield from self._out.translate(event)
        self._captions.follow(event)
        yield from self._captions.take()
        if isinstance(event, ev.TurnEnded) and event.how not in (*ev.DISMISSED, "text"):
            self._spans[event.turn] = _ms(event.start), _ms(event.end)
        elif isinstance(event, ev.Transcript) and event.text and event.turn in self._spans:
            start, end = self._spans[event.turn]
            text = event.text if not self._transcribed else " " + event.text
            self._transcribed += 1
            span = {"start_ms": start, "end_ms": max(start, end)}
            yield {"type": "session.input_transcript.delta", "delta": text, **span}
        elif isinstance(event, ev.ContextDropped):
            self._read = event.after
            what = f"the context was full: the oldest {event.turns} turns are forgotten"
            yield _info("context_dropped", what)

    def _shown(self, event: Event) -> Event | None:
        """An event as this protocol has it: most of what Realtime tells is not in it."""
        kind = event["type"]
        if kind == "error":
            event = _error(event["error"])
        elif kind == "response.done":
            event = self._usage_event()
        elif kind != "info" and not kind.startswith("session."):
            return None
        if self._over or not self._session.permissions.allow(event["type"]):
            return None
        self._over = event["type"] == "session.closed"
        return event if kind in NO_ID else {"event_id": new_id("event"), **event}

    # --- the client's events ---

    def _start(self, event: Any, data: Event) -> Iterable[Event]:
        raise Refused("the session has started already", "type", "session_already_started")

    def _update(self, event: Any, data: Event) -> Iterable[Event]:
        asked = data["session"] if isinstance(data["session"], dict) else {}
        notes = check_delegation(asked) if asked.get("delegation") is not None else []
        yield self._snapshot("session.updated", event.event_id)
        for note in notes:
            yield _info(*note)

    def _close(self, event: Any, data: Event) -> Iterable[Event]:
        yield self._closed("close_requested", event.event_id)
        self.ended = True

    def _append(self, event: Any, data: Event) -> Iterable[Event]:
        if self._session.tracks:
            what = "over WebRTC sound comes by the audio track"
            raise Refused(what, "type", "unsupported")
        wave = self.settings.audio_in.decode(from_base64(event.audio, MAX_AUDIO))
        if len(wave):
            self.hear(wave)
            self._spoke = time.monotonic()
        return ()

    def _mute(self, event: Any, data: Event, muted: bool) -> Iterable[Event]:
        self._muted = muted
        yield _answered({"type": event.type + "d"}, event.event_id)

    def _instruct(self, event: Any, data: Event) -> Iterable[Event]:
        if "delegation_id" not in data:
            what = "delegation_id is missing; possible: null"
            raise Refused(what, "delegation_id", "missing_required_parameter")
        if event.delegation_id is not None:
            what = "there are no delegations: delegation_id is null"
            raise Refused(what, "delegation_id", "unsupported")
        text = event.content.strip()
        if not text or len(text) > MAX_APPENDED:
            what = f"{len(text):,} characters; possible: 1 to {MAX_APPENDED:,}"
            raise Refused(what, "content")
        old = copy.copy(self.settings)
        self.settings.instructions = short(f"{old.instructions}\n{text}", "content")
        self.talk.send(self.settings.changes(old))
        now = self._now()
        told = {"type": "session.instructions.appended", "start_ms": now, "end_ms": now}
        yield _answered(told, event.event_id)

    # --- what runs beside ---

    async def _play(self) -> Ended:
        """Send what is played, and silence where nothing is, in real time."""
        pacer, fmt = Pacer(FRAME_SECONDS), self.settings.audio_out
        samples, resampler = round(FRAME_SECONDS * SPEECH_RATE), Resampler(SPEECH_RATE, fmt.rate)
        while True:
            await pacer.wait()
            data = fmt.encode(resampler.step(self._player.playout.take(samples)))
            if data:  # at first all of it may stay in the resampler
                async with self._lock:
                    told = {"type": "session.output_audio.delta", "delta": to_base64(data)}
                    await self._emit([told])

    async def _fill(self) -> Ended:
        """Where a client sends nothing, the model hears silence: the session's time goes on."""
        while True:
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            if now - self._sent > self._idle_seconds:
                what = f"no message in {self._idle_seconds:g} s"
                await self.say_end(f"the session ended: {what}", "session_expired", "idle")
                return 1000, "idle"
            missing = int((now - self._begun - self._came) * SAMPLE_RATE)
            if now - self._spoke < SILENT_SECONDS or missing <= 0:
                continue
            self._push_rest()
            try:
                self.talk.push(np.zeros(missing, np.float32))
            except Overflow:  # it has enough to hear; silence is not worth an error
                continue
            self._came += missing / SAMPLE_RATE

    async def _tell_captions(self) -> Ended:
        while True:
            await self._news.wait()
            self._news.clear()
            async with self._lock:
                await self._emit(self._captions.take())

    async def _tell_usage(self) -> Ended:
        while True:
            await asyncio.sleep(USAGE_SECONDS)
            async with self._lock:
                await self._emit([self._usage_event()])

    def _heard(self, turn: int, position: int) -> None:
        self._captions.heard(turn, position)
        self._news.set()

    # --- what is told ---

    def _now(self) -> int:
        """Milliseconds since the session began."""
        return int(1000 * (time.monotonic() - self._begun))

    def _snapshot(self, kind: str, event_id: str | None) -> Event:
        session = self._session.to_dict(self.id, self._expires_at)
        return _answered({"type": kind, "session": session}, event_id)

    def _notes(self) -> list[Event]:
        return [_info(*note) for note in self._session.notes]

    def _usage(self) -> Event:
        return {"seconds": self._now() / 1000}

    def _usage_event(self) -> Event:
        told: Event = {"type": "session.usage.updated", "usage": self._usage()}
        if self._read and self._room:
            ratio = round(self._read / self._room, 4)
            told["context_window"] = {"usage_ratio": ratio}
        return told

    def _closed(self, reason: str, event_id: str | None = None) -> Event:
        told = self._snapshot("session.closed", event_id)
        return told | {"reason": reason, "usage": self._usage()}

    _handlers: dict[str, Callable[[Live, Any, Event], Iterable[Event]]] = {
        "session.start": _start,
        "session.update": _update,
        "session.close": _close,
        "session.input_audio.append": _append,
        "session.input_audio.mute": functools.partial(_mute, muted=True),
        "session.input_audio.unmute": functools.partial(_mute, muted=False),
        "session.instructions.append": _instruct,
    }


def new_live_id() -> str:
    """An id of a session."""
    return new_id("live")


def _ms(samples: int) -> int:
    return samples * 1000 // SAMPLE_RATE


def _info(code: str, message: str) -> Event:
    return {"type": "info", "code": code, "message": message}


def _answered(event: Event, event_id: str | None) -> Event:
    """An event that a client's event led to."""
    return event if event_id is None else event | {"client_event_id": event_id}


def live_error(message: str, code: str, param: str | None, event_id: Any) -> Event:
    """The protocol's error event, with an id."""
    known = event_id if isinstance(event_id, str) else None
    kind = "server_error" if code == "model" else "invalid_request_error"
    found = {"type": kind, "code": code, "message": message, "param": param, "event_id": known}
    return {"event_id": new_id("event"), **_error(found)}


def _error(found: Event) -> Event:
    """The error of a Realtime event in this protocol's words."""
    told = {name: found[name] for name in ("type", "code", "message")}
    if found["param"] is not None:
        told["param"] = found["param"]
    event: Event = {"type": "error", "error": told}
    if found["event_id"] is not None:
        told["client_event_id"] = event["client_event_id"] = found["event_id"]
    return event
