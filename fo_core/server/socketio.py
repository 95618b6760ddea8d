"""The Socket.IO dialect of the published Freeze-Omni demo, so that its clients run unchanged.

From a client: ``recording-started``, ``recording-stopped``, ``prompt_text`` (str), ``audio`` (a
JSON string ``{"audio": [bytes of int16, little-endian], "sample_rate": 16000}``), and as an
extension ``voice`` (str, one of the model's). To a client: ``audio`` (bytes, int16 at 24 kHz),
``stop_tts``, ``prompt_success``, ``voice_success`` or ``voice_error`` (str), ``out_time`` (the
session was too long or idle), ``too_many_users``. A client that connects with ``?yield=1`` is
also told when to pause: ``pause_tts`` ("pause" or "duck"), then ``resume_tts`` or ``stop_tts``.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from fo_core.dialogue import events as ev
from fo_core.dialogue.commands import Clear, Configure, Interrupt
from fo_core.dialogue.sessions.pool import PoolFull, Talk
from fo_core.errors import DataError, FoError
from fo_core.server.budget import Budget
from fo_core.server.drain import Drain
from fo_core.server.messages import Refused
from fo_core.server.settings import MAX_TEXT
from fo_core.server.wire import SPEECH_RATE, Resampler, WireFormat
from fo_core.streaming import SAMPLE_RATE

MAX_MESSAGE = 2**20  # bytes; a client sends 30 ms at a time
MAX_ERRORS = 100  # bad messages of one client, then it is put out
_OUT = WireFormat("audio/pcm", SPEECH_RATE)
log = logging.getLogger(__name__)


@dataclass
class Client:
    """One connected client."""

    talk: Talk
    task: asyncio.Task[None]
    budget: Budget
    recording: bool = False
    errors: int = 0
    resampler: Resampler | None = None


def read_audio(message: Any) -> tuple[Any, int]:
    """float32 [S] and its rate out of an ``audio`` message.

    Raises:
        DataError: It has another form.
    """
    if not isinstance(message, str) or len(message) > MAX_MESSAGE:
        raise DataError("audio is a JSON string of at most 1 MiB")
    try:
        data = json.loads(message)
        pcm, rate = bytes(data["audio"]), data["sample_rate"]
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise DataError('audio is {"audio": [bytes], "sample_rate": Hz}') from error
    if not isinstance(rate, int) or isinstance(rate, bool):
        raise DataError("sample_rate is a whole number")
    return WireFormat("audio/pcm", rate).decode(pcm), rate


class Dialect:
    """The server side; one of these serves all clients.

    Args:
        open_talk: Gives the talk of a new user whose player pauses when it is told to, or does not
            ("1" or None); raises ``PoolFull``, or ``Refused`` for anything else.
        allowed: Whether a client with these query parameters and headers may connect.
        budget: Gives a new client's budget of messages.
        allowed_page: Whether a page of this origin, with this environment, may connect.
    """

    def __init__(
        self,
        open_talk: Callable[[str | None], Talk],
        allowed: Callable[[dict[str, Any]], bool],
        budget: Callable[[], Budget],
        allowed_page: Callable[[str | None, dict[str, Any]], bool],
    ) -> None:
        import socketio

        self.server = socketio.AsyncServer(
            async_mode="asgi",
            max_http_buffer_size=MAX_MESSAGE,
            cors_allowed_origins=allowed_page,
        )
        self._open, self._allowed, self._budget = open_talk, allowed, budget
        self._clients: dict[str, Client] = {}
        on = self.server.on
        on("connect", self._connect)
        on("disconnect", self._disconnect)
        on("recording-started", self._started)
        on("recording-stopped", self._stopped)
        on("prompt_text", self._prompt)
        on("audio", self._audio)
        on("voice", self._voice)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> bool | None:
        if not self._allowed(environ):
            return False
        try:
            talk = self._open(parse_qs(environ.get("QUERY_STRING", "")).get("yield", [None])[0])
        except Refused as wrong:
            log.warning("Socket.IO client %s: %s", sid, wrong)
            return False
        except PoolFull:
            # as the published server does: connected, told, put out
            asyncio.get_running_loop().create_task(self._refuse(sid))
            return None
        self._clients[sid] = Client(talk, asyncio.create_task(self._run(sid, talk)), self._budget())
        return None

    async def _refuse(self, sid: str) -> None:
        await self.server.emit("too_many_users", to=sid)
        await self.server.sleep(0.1)
        await self.server.disconnect(sid)

    async def _run(self, sid: str, talk: Talk) -> None:
        reason = "failed"
        try:
            async for event in talk:
                if isinstance(event, ev.AudioDelta):
                    await self.server.emit("audio", _OUT.encode(event.audio), to=sid)
                elif isinstance(event, ev.Interrupted):
                    await self.server.emit("stop_tts", to=sid)
                elif isinstance(event, ev.Yielded):
                    await self.server.emit("pause_tts", event.by, to=sid)
                elif isinstance(event, ev.Resumed):
                    await self.server.emit("resume_tts", to=sid)
                elif isinstance(event, ev.Closed):
                    reason = event.reason
        finally:
            talk.close("failed" if reason == "failed" else "client")
        if reason in ("idle", "too_long"):
            await self.server.emit("out_time", to=sid)
        if reason != "client":
            await self.server.disconnect(sid)

    async def leave(self, drain: Drain, working: Callable[[Talk], bool]) -> None:
        """When the server is about to end: let replies end, then put the clients out."""
        await drain.wait()
        talks = [client.talk for client in self._clients.values()]
        await drain.over(lambda: any(working(talk) or talk.backlog for talk in talks))
        for sid in list(self._clients):
            await self.server.disconnect(sid)

    async def _disconnect(self, sid: str, reason: Any = None) -> None:
        client = self._clients.pop(sid, None)
        if client is not None:
            client.talk.close("client")

    async def _started(self, sid: str, *_: Any) -> None:
        client = self._clients.get(sid)
        if client is not None:
            client.recording = True

    async def _stopped(self, sid: str, *_: Any) -> None:
        client = self._clients.get(sid)
        if client is not None and client.recording:
            client.recording, client.resampler = False, None
            client.talk.send(Clear())
            client.talk.send(Interrupt())

    async def _prompt(self, sid: str, text: Any = None, *_: Any) -> None:
        client = await self._within_budget(sid)
        if client is None:
            return
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            await self._count(
                sid, client, f"prompt_text is a text of at most {MAX_TEXT} characters"
            )
            return
        client.talk.send(Configure(system=text))
        await self.server.emit("prompt_success", to=sid)

    async def _voice(self, sid: str, name: Any = None, *_: Any) -> None:
        client = await self._within_budget(sid)
        if client is None:
            return
        try:
            client.talk.send(Configure(voice=str(name)))
        except FoError as error:
            await self.server.emit("voice_error", str(error), to=sid)
            await self._count(sid, client, str(error))
            return
        await self.server.emit("voice_success", to=sid)

    async def _audio(self, sid: str, message: Any = None, *_: Any) -> None:
        client = await self._within_budget(sid)
        if client is None or not client.recording:
            return
        try:
            wave, rate = read_audio(message)
            if client.resampler is None or client.resampler.rates[0] != rate:
                client.resampler = Resampler(rate, SAMPLE_RATE)
            client.talk.push(client.resampler.step(wave))
        except FoError as error:
            await self._count(sid, client, str(error))

    async def _within_budget(self, sid: str) -> Client | None:
        """The client; None if it is gone, or has sent so much that it is put out now."""
        client = self._clients.get(sid)
        if client is None or client.budget.spend():
            return client
        log.warning("Socket.IO client %s: too many messages", sid)
        await self.server.disconnect(sid)
        return None

    async def _count(self, sid: str, client: Client, what: str) -> None:
        """The dialect has no error event: note it, and put out a client that only sends rubbish."""
        client.errors += 1
        log.warning("Socket.IO client %s: %s", sid, what)
        if client.errors > MAX_ERRORS:
            await self.server.disconnect(sid)
