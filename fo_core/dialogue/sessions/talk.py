"""One user of the pool: thread-safe commands in, a queue of events out, blocking or async."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
from torch import Tensor

from fo_core.dialogue import events as ev
from fo_core.dialogue.audio_input import check_block
from fo_core.dialogue.commands import Command
from fo_core.errors import FoError
from fo_core.streaming import SAMPLE_RATE

Reason = Literal["client", "idle", "stalled", "failed", "shutdown", "too_long"]


class Overflow(FoError):
    """More sound is queued than is allowed."""


class Host(Protocol):
    """What holds talks: a pool."""

    def give(self, talk: Talk, item: np.ndarray | Command, checked: bool = False) -> None:
        """Sound or a command of a user."""

    def check_room(self, talk: Talk, samples: int) -> None:
        """Refuse samples for which there is no room."""

    def drop(self, talk: Talk, reason: Reason) -> None:
        """End a talk."""

    def relieve(self, talk: Talk) -> None:
        """A consumer has read audio."""


class Talk:
    """One user's dialogue in a pool: sound and commands in, a queue of events out.

    Everything here may be called from any thread. Events are read by one consumer: ``async for``,
    or :meth:`get`.

    Attributes:
        opened: When, time.monotonic().
        read: When the consumer read last.
        unread: Samples of audio that it has not read.
        closed: The last event, when the talk is over.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.opened = self.read = time.monotonic()
        self.unread = 0
        self.closed: ev.Closed | None = None
        self._out: deque[ev.DuplexEvent] = deque()
        self._news = threading.Condition()
        self._waiters: list[Callable[[], None]] = []
        self._finished = False  # the iteration is over

    def clock(self) -> int:
        """User samples since it was opened, by the wall clock."""
        return int((time.monotonic() - self.opened) * SAMPLE_RATE)

    # --- in ---

    def push(self, pcm: np.ndarray | Tensor, checked: bool = False) -> None:
        """Sound of the user: float [S] in [-1, 1] at 16 kHz, any S. Never blocks.

        Args:
            pcm: The sound.
            checked: :meth:`check_room` was asked before.

        Raises:
            AudioError: It is not that.
            Overflow: Too much is queued; nothing of this block was taken.
        """
        self._host.give(self, check_block(pcm), checked)

    def check_room(self, samples: int) -> None:
        """Refuse samples for which there is no room; 0: if there is none for any.

        Raises:
            Overflow: Too much is queued.
        """
        self._host.check_room(self, samples)

    def send(self, command: Command) -> None:
        """Ask for something; see :mod:`fo_core.dialogue.commands`.

        Raises:
            ConfigError: The model has no such voice.
        """
        self._host.give(self, command)

    def close(self, reason: Reason = "client") -> None:
        """End it and free its memory; what is on its way is dropped. May be called again."""
        self._host.drop(self, reason)

    # --- out ---

    @property
    def backlog(self) -> int:
        """Events that the consumer has not read."""
        return len(self._out)

    def get(self, timeout: float | None = None) -> ev.DuplexEvent | None:
        """The next event; None when none came in ``timeout`` seconds.

        After :class:`fo_core.dialogue.events.Closed` that event is given again and again.
        """
        with self._news:
            self._news.wait_for(lambda: self._out or self.closed, timeout)
            event = self._pop()
        self._host.relieve(self)
        return event

    def __aiter__(self) -> Talk:
        return self

    async def __anext__(self) -> ev.DuplexEvent:
        if self._finished:
            raise StopAsyncIteration
        while True:
            with self._news:
                event = self._pop()
                flag = asyncio.Event()
                if event is None:
                    wake = functools.partial(_wake, asyncio.get_running_loop(), flag)
                    self._waiters.append(wake)
            if event is not None:
                self._finished = event is self.closed
                self._host.relieve(self)
                return event
            await flag.wait()

    def _pop(self) -> ev.DuplexEvent | None:
        self.read = time.monotonic()
        if not self._out:
            return self.closed
        event = self._out.popleft()
        if isinstance(event, ev.AudioDelta):
            self.unread -= event.audio.size
        return event

    def deliver(self, events: Sequence[ev.DuplexEvent]) -> None:
        """Events of the dialogue, for the consumer."""
        if not events:
            return
        now = time.monotonic()
        with self._news:
            if self.closed is not None:
                return
            if not self._out:
                self.read = now  # whoever is slow is so from now on
            for event in events:
                self._out.append(event)
                if isinstance(event, ev.AudioDelta):
                    self.unread += event.audio.size
            self._tell()

    def end(self, reason: Reason) -> None:
        """The last event."""
        with self._news:
            if self.closed is None:
                self.closed = ev.Closed(reason, time=time.monotonic())
                self._tell()

    def _tell(self) -> None:
        self._news.notify_all()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter()


def _wake(loop: asyncio.AbstractEventLoop, flag: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(flag.set)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return
