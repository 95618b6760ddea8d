"""One connection of the Realtime protocol: what a client says, what it is told, and how it ends."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.websockets import WebSocketDisconnect

from fo_core.config import config
from fo_core.dialogue.sessions.pool import Talk
from fo_core.errors import FoError
from fo_core.server.beta import wants_beta
from fo_core.server.budget import Budget
from fo_core.server.client import Client
from fo_core.server.drain import LOOK, SAYS, Drain
from fo_core.server.logs import say
from fo_core.server.metrics import Metrics
from fo_core.server.realtime import Realtime
from fo_core.server.settings import SessionSettings
from fo_core.server.webrtc.media import Media

GOING_AWAY, POLICY, ERROR, TRY_LATER = 1001, 1008, 1011, 1013  # close codes of WebSocket
HANG_UP = "hangup"  # message of a socket whose session was ended by another request
FLOOD = "too many messages"
CUT_SECONDS = 2.0  # for the end of a reply that is cut off to reach its client


@config
class ServeConfig:
    """Who may use the server, and how much."""

    host: str = "127.0.0.1"  # address to listen at; anything else is reachable from outside
    port: int = 8000  # TCP port
    api_key: str | None = None  # wanted from every client; None = none is wanted
    session_seconds: float = 3600.0  # longest session, as the pool has it
    message_bytes: int = 21 * 2**20  # of one message: 15 MiB of audio in base64
    messages_per_second: float = 400.0  # of one client, sustained
    burst: int = 2000  # messages at once
    send_seconds: float = 20.0  # a client that takes nothing for so long is put out
    connect_seconds: float = 15.0  # a WebRTC caller that is not connected by then is put out
    client_secrets: int = 1000  # that are valid at a time
    certificate: Path | None = None  # PEM file for TLS
    private_key: Path | None = None  # PEM file for TLS
    origins: tuple[str, ...] = ()  # pages of other sites that may talk (https://example.com)


class Connection:
    """A connection until either side, or the server's end, ends it.

    Args:
        socket: Accepted.
        talk: The user's; closed by whoever opened it.
        settings: In force at first.
        cfg: Limits.
        drain: Says when the server is about to end.
        metrics: Told of each event that is sent.
        media: Carries the audio, where it does not come in messages.
        protocol: Makes the client of a protocol; None: of Realtime.
    """

    def __init__(
        self,
        socket: Any,
        talk: Talk,
        settings: SessionSettings,
        cfg: ServeConfig,
        drain: Drain,
        metrics: Metrics,
        media: Media | None = None,
        protocol: Callable[..., Client] | None = None,
    ) -> None:
        self._socket, self._cfg, self._drain, self._metrics = socket, cfg, drain, metrics
        self._budget = Budget(cfg.messages_per_second, cfg.burst)
        self._replies, self._begun = 0, 0.0
        beta = wants_beta(socket.headers)
        self._client = (protocol or functools.partial(Realtime, beta=beta))(
            talk=talk,
            settings=settings,
            send=self._send,
            seconds=cfg.session_seconds,
            states=socket.query_params.get("states") == "1",
            limits=lambda: [self._budget.shown()],
            saw=self._saw,
            media=media,
        )

    async def serve(self, request_id: str, working: Callable[[], bool]) -> None:
        """Serve the connection until it ends.

        Args:
            request_id: For the log.
            working: Whether something of the talk is still to be done or sent.
        """
        client, began = self._client, time.monotonic()
        say("session opened", request_id=request_id, session=client.id)
        tasks: list[asyncio.Task[tuple[int, str]]] = []
        try:
            await client.hello()
            parts = [self._listen(), self._speak(), self._leave(working), *client.parts()]
            tasks = [asyncio.create_task(part) for part in parts]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            code, why = next(iter(done)).result()
        except (WebSocketDisconnect, TimeoutError, OSError, RuntimeError):
            code, why = ERROR, "the connection is gone"
        except FoError as wrong:
            code, why = ERROR, str(wrong)[:120]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        seconds = round(time.monotonic() - began, 1)
        told: dict[str, Any] = {"code": code, "why": why, "seconds": seconds}
        told |= {"replies": self._replies, "request_id": request_id, "session": client.id}
        say("session closed", **told)
        try:
            async with asyncio.timeout(1):
                await self._socket.close(code, why)
        except (WebSocketDisconnect, RuntimeError, TimeoutError, OSError):
            return  # it is closed already

    async def _send(self, text: str) -> None:
        # not wait_for: before Python 3.12 it may swallow a cancellation
        async with asyncio.timeout(self._cfg.send_seconds):
            await self._socket.send_text(text)

    def _saw(self, event: dict[str, Any]) -> None:
        seconds = None
        if event["type"] == "response.created":
            self._begun = time.monotonic()
        elif event["type"] == "response.done":
            self._replies += 1
            seconds = time.monotonic() - self._begun
        self._metrics.saw(event, seconds)

    async def _listen(self) -> tuple[int, str]:
        client = self._client
        while True:
            message = await self._socket.receive()
            if message["type"] == HANG_UP:
                await client.hang_up()
            if message["type"] in ("websocket.disconnect", HANG_UP):
                return 1000, ""
            if not self._budget.spend():
                await client.say_end(FLOOD, "rate_limit_exceeded", "failed")
                return POLICY, FLOOD
            await client.receive(message.get("text") or message.get("bytes") or "")
            if client.ended:
                return 1000, "close_requested"

    async def _speak(self) -> tuple[int, str]:
        reason = await self._client.run()
        if reason != "client":
            what = f"the session ended: {reason}"
            await self._client.say_end(what, "session_expired", reason)
        return (1000 if reason in ("client", "idle", "too_long") else ERROR), reason

    async def _leave(self, working: Callable[[], bool]) -> tuple[int, str]:
        """When the server is about to end: let the reply end, or cut it off, and say so."""
        client = self._client
        await self._drain.wait()
        await self._drain.over(lambda: client.replying or working())
        if client.replying:
            client.interrupt()
            until = time.monotonic() + CUT_SECONDS
            while client.replying and time.monotonic() < until:
                await asyncio.sleep(LOOK)
        await client.say_end(SAYS, "server_shutdown", "shutdown")
        return GOING_AWAY, SAYS
