"""A data channel that looks like a WebSocket, so that one connection serves both."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.websockets import WebSocketDisconnect

from fo_core.errors import DataError, first_line

LABEL = "oai-events"
MAX_UNREAD = 64  # messages of a caller that were not obeyed yet; more is a flood
MAX_UNSENT = 2**20  # bytes that wait for the network, then sending waits


class ChannelSocket:
    """The events of one call. Without a data channel they go nowhere, and only sound remains.

    Args:
        query_params: Of the request that opened the call.
        headers: Of the same.
    """

    def __init__(self, query_params: Mapping[str, str], headers: Mapping[str, str]) -> None:
        self.query_params, self.headers = query_params, headers
        self.opened = asyncio.Event()
        self._channel: Any = None
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._room = asyncio.Event()
        self._over = False

    def attach(self, channel: Any) -> None:
        """Use an open data channel."""
        self._channel = channel
        channel.bufferedAmountLowThreshold = MAX_UNSENT // 2
        channel.on("message", self._take)
        channel.on("bufferedamountlow", self._room.set)
        channel.on("close", self.disconnect)
        self.opened.set()

    def _take(self, message: str | bytes) -> None:
        if self._in.qsize() >= MAX_UNREAD:
            self.disconnect()
            return
        key = "text" if isinstance(message, str) else "bytes"
        self._in.put_nowait({"type": "websocket.receive", key: message})

    def disconnect(self) -> None:
        """Nothing more comes or goes."""
        if not self._over:
            self._over = True
            self._room.set()
            self._in.put_nowait({"type": "websocket.disconnect"})

    def hang_up(self) -> None:
        """The application ends the session; the caller can still be told."""
        self._in.put_nowait({"type": "hangup"})

    async def receive(self) -> dict[str, Any]:
        """The next message, as Starlette gives it."""
        return await self._in.get()

    async def send_text(self, text: str) -> None:
        """Send a message; waits where the network does not take it.

        Raises:
            WebSocketDisconnect: The call is over.
            DataError: It is longer than the peer takes.
        """
        if self._over:
            raise WebSocketDisconnect(1006)
        if self._channel is None:
            return
        while self._channel.bufferedAmount > MAX_UNSENT and not self._over:
            self._room.clear()
            await self._room.wait()
        if self._over or self._channel.readyState != "open":
            raise WebSocketDisconnect(1006)
        try:
            self._channel.send(text)
        except ValueError as error:
            raise DataError(first_line(error)) from error  # longer than the peer's SDP allows

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Give what was sent a moment to arrive; the peer connection is closed by the call."""
        channel = self._channel
        while channel is not None and channel.readyState == "open" and channel.bufferedAmount:
            await asyncio.sleep(0.02)
