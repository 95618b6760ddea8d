"""The events that a test client was sent, and a way to wait for one."""

from __future__ import annotations

import asyncio
from typing import Any


class EventLog:
    """Keeps events in order."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    def keep(self, event: dict[str, Any]) -> None:
        """One has come."""
        self.events.append(event)
        self._news.set()

    async def until(self, kind: str, after: int = 0, seconds: float = 30.0) -> dict[str, Any]:
        """The first event of a kind, of those from number ``after`` on."""
        async with asyncio.timeout(seconds):
            while True:
                for event in self.events[after:]:
                    if event["type"] == kind:
                        return event
                self._news.clear()
                await self._news.wait()
