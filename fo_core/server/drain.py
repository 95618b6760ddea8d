"""A server that ends well: no new talks, replies end, then the process does.

The first SIGTERM (or Ctrl-C) begins it, a second one ends at once. A health check sees it at
``/healthz/ready``.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

GRACE = 3.0  # seconds past the last reply for connections to close
LOOK = 0.05  # seconds between two looks whether talks have ended
SAYS = "the server is shutting down"


class Drain:
    """Whether the server is about to end, and how long replies have.

    Args:
        seconds: From the signal to the end of the last reply.
    """

    def __init__(self, seconds: float = 30.0) -> None:
        self._seconds, self._until = seconds, 0.0
        self._flag = asyncio.Event()

    @property
    def begun(self) -> bool:
        """Whether no new talk is taken."""
        return self._flag.is_set()

    @property
    def left(self) -> float:
        """Seconds that replies have still; negative when their time is over."""
        return self._until - time.monotonic() if self.begun else self._seconds

    def begin(self) -> None:
        """From now on no new talk is taken; called in the event loop's thread."""
        if not self.begun:
            self._until = time.monotonic() + self._seconds
            self._flag.set()

    async def wait(self) -> None:
        """Until it has begun."""
        await self._flag.wait()

    async def over(self, busy: Callable[[], bool]) -> None:
        """Until nothing is busy, or the time is over."""
        while busy() and self.left > 0:
            await asyncio.sleep(LOOK)


class DrainingServer(uvicorn.Server):
    """Uvicorn's server, which waits for talks to end before it closes them.

    Args:
        settings: Uvicorn's.
        drain: Shared with the application.
        busy: Whether a talk is open.

    Attributes:
        stopped_by: The signal that ended it.
    """

    def __init__(self, settings: uvicorn.Config, drain: Drain, busy: Callable[[], bool]) -> None:
        super().__init__(settings)
        self.stopped_by: int | None = None
        self._drain, self._busy = drain, busy
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving: asyncio.Task[None] | None = None

    async def startup(self, sockets: Any = None) -> None:
        """As uvicorn's, and remember the loop, which signals have to reach."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal: let replies end; the second: end now; one more Ctrl-C: drop all."""
        if self.stopped_by is None and self._loop is not None:
            self.stopped_by = sig
            self._loop.call_soon_threadsafe(self._begin)
            return
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    def _begin(self) -> None:
        self._drain.begin()
        self._leaving = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        while self._busy() and self._drain.left > -GRACE:
            await asyncio.sleep(LOOK)
        self.should_exit = True
