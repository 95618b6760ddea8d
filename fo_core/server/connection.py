"""One connection of the Realtime protocol: what a client says, what it is told, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from starlette.websockets import WebSocketDisconnect

from fo_core.dialogue.sessions.talk import Talk
from fo_core.errors import FoError
from fo_core.server.beta import wants_beta
from fo_core.server.budget import Budget
from fo_core.server.client import Client, ConnectionContext
from fo_core.server.context import ServerContext
from fo_core.server.drain import LOOK, SAYS
from fo_core.server.logs import say
from fo_core.server.messages import Refused
from fo_core.server.realtime import Realtime
from fo_core.server.settings import SessionSettings
from fo_core.server.webrtc.media import Media

GOING_AWAY, POLICY, ERROR, TRY_LATER = 1001, 1008, 1011, 1013  # close codes of WebSocket
HANG_UP = "hangup"  # message of a socket whose session was ended by another request
FLOOD = "too many messages"
Protocol = Callable[[ConnectionContext], Client]  # makes the client of a protocol
CUT_SECONDS = 2.0  # for the end of a reply that is cut off to reach its client


def close_code(code: str) -> int:
    """How a WebSocket is closed whose client was refused."""
    if code in ("too_many_sessions", "server_shutdown"):
        return TRY_LATER
    return ERROR if code == "model" else POLICY


async def turn_away(
    socket: Any, context: ServerContext, request_id: str, wrong: Refused, told: dict[str, Any]
) -> None:
    """Refuse a client: say why, and close.

    Args:
        socket: Accepted.
        context: The server's.
        request_id: For the log.
        wrong: Why.
        told: The same as an event of the client's protocol.
    """
    context.refused(wrong.code, request_id)
    try:
        async with asyncio.timeout(context.cfg.send_seconds):
            await socket.send_json(told)
            await socket.close(close_code(wrong.code), str(wrong)[:120])
    except (WebSocketDisconnect, TimeoutError, OSError, RuntimeError):
        return  # it is gone


class Connection:
    """A connection until either side, or the server's end, ends it.

    Args:
        socket: Accepted.
        talk: The user's; closed by whoever opened it.
        settings: In force at first.
        context: The server's.
        media: Carries the audio, where it does not come in messages.
        protocol: Makes the client of a protocol; None: of Realtime.
    """

    def __init__(
        self,
        socket: Any,
        talk: Talk,
        settings: SessionSettings,
        context: ServerContext,
        media: Media | None = None,
        protocol: Protocol | None = None,
    ) -> None:
        self._socket, self._context, self._media = socket, context, media
        cfg = context.cfg
        self._budget = Budget(cfg.messages_per_second, cfg.burst)
        self._replies, self._begun = 0, 0.0
        given = ConnectionContext(
            talk=talk,
            settings=settings,
            send=self._send,
            seconds=cfg.session_seconds,
            states=socket.query_params.get("states") == "1",
            limits=lambda: [self._budget.shown()],
            saw=self._saw,
            media=media,
        )
        beta = wants_beta(socket.headers)
        self._client = Realtime(given, beta) if protocol is None else protocol(given)

    async def serve(self, request_id: str) -> None:
        """Serve the connection until it ends.

        Args:
            request_id: For the log.
        """
        client, began = self._client, time.monotonic()
        say("session opened", request_id=request_id, session=client.id)
        tasks: list[asyncio.Task[tuple[int, str]]] = []
        try:
            await client.hello()
            parts = [self._listen(), self._speak(), self._leave(), *client.parts()]
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
        async with asyncio.timeout(self._context.cfg.send_seconds):
            await self._socket.send_text(text)

    def _saw(self, event: dict[str, Any]) -> None:
        seconds = None
        if event["type"] == "response.created":
            self._begun = time.monotonic()
        elif event["type"] == "response.done":
            self._replies += 1
            seconds = time.monotonic() - self._begun
        self._context.metrics.saw(event, seconds)

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

    def _busy(self) -> bool:
        """Whether something of the talk is still to be done or sent."""
        client, pool, media = self._client, self._context.pool, self._media
        if client.replying or client.talk.backlog or pool.working(client.talk):
            return True
        return media is not None and bool(media.playout.waiting)

    async def _leave(self) -> tuple[int, str]:
        """When the server is about to end: let the reply end, or cut it off, and say so."""
        client, drain = self._client, self._context.drain
        await drain.wait()
        await drain.over(self._busy)
        if client.replying:
            client.interrupt()
            until = time.monotonic() + CUT_SECONDS
            while client.replying and time.monotonic() < until:
                await asyncio.sleep(LOOK)
        await client.say_end(SAYS, "server_shutdown", "shutdown")
        return GOING_AWAY, SAYS
