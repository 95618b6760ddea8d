"""A Realtime client that writes its own JSON: a server gets what no library would send."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class Client:
    """A client that writes its own JSON."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    async def ask(self, *until: str, **event: Any) -> list[dict[str, Any]]:
        """Send an event (without a type: nothing) and give the events up to one of these kinds."""
        if event:
            await self.socket.send(json.dumps(event))
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(60):
            while not found or found[-1]["type"] not in until:
                found.append(json.loads(await self.socket.recv()))
        return found

    async def update(self, session: dict[str, Any]) -> dict[str, Any]:
        kinds = ("session.updated", "error")
        return (await self.ask(*kinds, type="session.update", session=session))[-1]


def talking(server: Any, story: Any, **headers: str) -> list[dict[str, Any]]:
    from websockets import connect

    async def run() -> list[dict[str, Any]]:
        url = f"ws://127.0.0.1:{server.port}/v1/realtime"
        async with connect(url, max_size=None, additional_headers=headers) as socket:
            client = Client(socket)
            first = await client.ask("conversation.created")
            return first + (await story(client) or [])

    return asyncio.run(run())
