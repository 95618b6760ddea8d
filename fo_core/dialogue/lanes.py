"""What a session works on: coroutines that wait for model steps, at most one at a time.

Two lanes: one hears (or reads the context, or carries out a command), the other replies. The first
goes before the second at every step, so hearing never waits for more than the step that runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fo_core.dialogue import events as ev
from fo_core.dialogue.commands import Command, Queued
from fo_core.dialogue.ear import Inbox, check_block
from fo_core.models.steps import Step, Steps

Work = Literal["hear", "reply", "context"]


class Lane:
    """One coroutine on its way.

    Args:
        kind: What the work is for.
        steps: The work.
        cause: Id of the command that led to it.
    """

    def __init__(self, kind: Work, steps: Steps[None], cause: str | None = None) -> None:
        self.kind, self.cause, self._steps = kind, cause, steps
        self.step: Step | None = None  # the model step that it waits for
        self.over = False

    @torch.inference_mode()
    def advance(self, result: Tensor | None) -> None:
        """Go on to the next step, or to the end. What the work raises is raised here."""
        if self.over:
            return
        self.step = None
        try:
            self.step = self._steps.send(result)  # type: ignore[arg-type]
        except StopIteration:
            self.over = True
        except BaseException:
            self.over = True
            raise

    def close(self) -> None:
        """Give the work up."""
        self.over, self.step = True, None
        self._steps.close()


class Lanes(ABC):
    """Both lanes of a dialogue, its inbox and its outbox.

    Args:
        eager: A reply is made to its end before more is heard.
    """

    def __init__(self, eager: bool) -> None:
        self.eager = eager
        self.inbox = Inbox()
        self.unread = True  # the context has to be read before anything is answered
        self.cause: str | None = None  # of what is being done: the id of a command
        self._at_once: deque[Command] = deque()
        self._outbox: deque[ev.DuplexEvent] = deque()
        self._lane: Lane | None = None  # hearing, or reading the context
        self._reply: Lane | None = None
        self._asked: Lane | None = None  # whose step is being run

    @abstractmethod
    def carry_out(self, command: Command, before: int | None) -> None:
        """Do what a command says; ``before``: samples that nobody heard yet before it."""

    @abstractmethod
    def blocked(self, command: Queued) -> bool:
        """Whether a command has to wait for the reply that is being made."""

    @abstractmethod
    def may_hear(self) -> bool:
        """Whether a chunk can be heard now."""

    @abstractmethod
    def hear_chunk(self) -> Steps[None]:
        """Hear the next chunk."""

    @abstractmethod
    def context_due(self) -> bool:
        """Whether the context is to be read again, and can be."""

    @abstractmethod
    def read_context(self) -> Steps[None]:
        """Read the context again."""

    @abstractmethod
    def reply_level(self) -> int:
        """How urgent the reply is: 1 or 2."""

    @abstractmethod
    def settle(self) -> None:
        """Notice what happened with time alone."""

    @abstractmethod
    def failed(self, lane: Lane, error: Exception) -> None:
        """The work of a lane raised ``error`` and was given up."""

    def hearing_waits(self) -> bool:
        """Whether there is something to do besides the reply."""
        if self._lane is not None or self._at_once:
            return True
        if self.eager and self._reply is not None:
            return False
        found = self.inbox.command()
        if found is not None:  # blocked, it waits for the reply and makes nothing urgent
            return not self.blocked(found[0])
        return self.may_hear() or self.context_due()

    def urgency(self) -> int | None:
        """0: the user waits to be heard; 1: to hear the bot; 2: audio lies ready; None: no work."""
        if self._asked is not None or self.hearing_waits():
            return 0
        return self.reply_level() if self._reply is not None else None

    @property
    def asking(self) -> Work | None:
        """What the step that was given last is for."""
        return self._asked.kind if self._asked is not None else None

    def resume(self, result: Tensor | None = None) -> Step | None:
        """Go on, with the result of the step that was given last; the next step, or None.

        None may come although there is more to do (:meth:`urgency`).
        """
        if self._asked is not None:
            lane, self._asked = self._asked, None
            self._advance(lane, result)
        while self._at_once:
            self._obey(self._at_once.popleft(), None)
        self.settle()
        chosen = self._choose()
        if chosen is None:
            return None
        if chosen.step is None:
            self._advance(chosen, None)
        if chosen.step is None or chosen.over:
            return None
        step, chosen.step, self._asked = chosen.step, None, chosen
        return step

    def fail(self, error: Exception) -> None:
        """The step that was given last raised ``error``."""
        lane, self._asked = self._asked, None
        if lane is not None and not lane.over:
            lane.close()
            self._gone(lane, error)

    def take(self) -> list[ev.DuplexEvent]:
        """The events since the last call."""
        found = list(self._outbox)
        self._outbox.clear()
        return found

    def run(self, steps: int | None = None) -> Iterator[ev.DuplexEvent]:
        """Work until nothing is left to do, or for so many model steps; the events."""
        result: Tensor | None = None
        while self.urgency() is not None and (steps is None or steps > 0):
            step = self.resume(result)
            result = None
            if step is not None:
                steps = steps - 1 if steps is not None else None
                try:
                    result = step.run()
                except Exception as error:  # the dialogue says it and goes on
                    self.fail(error)
                else:
                    if steps == 0:
                        self._advance_asked(result)
            yield from self.take()
        self.settle()
        yield from self.take()

    def _advance_asked(self, result: Tensor) -> None:
        lane, self._asked = self._asked, None
        if lane is not None:
            self._advance(lane, result)

    def _choose(self) -> Lane | None:
        if self._lane is not None:
            return self._lane
        if self.eager and self._reply is not None:
            return self._reply
        if self.unread and self.context_due():
            self._lane = Lane("context", self.read_context())
            return self._lane
        found = self.inbox.command()
        if found is not None:
            command, before = found
            if self.blocked(command):  # what came after it waits too
                return self._reply
            self._obey(command, before)
            self.inbox.done(command)
            return self._lane
        if self.may_hear():
            self._lane = Lane("hear", self.hear_chunk())
        elif self.context_due():
            self._lane = Lane("context", self.read_context())
        return self._lane or self._reply

    def _obey(self, command: Command, before: int | None) -> None:
        self.cause = command.id
        try:
            self.carry_out(command, before)
        finally:
            self.cause = None

    def _advance(self, lane: Lane, result: Tensor | None) -> None:
        self.cause = lane.cause
        try:
            lane.advance(result)
        except Exception as error:
            self._gone(lane, error)
        finally:
            self.cause = None
        if lane.over:
            self._lane = None if self._lane is lane else self._lane
            self._reply = None if self._reply is lane else self._reply

    def _gone(self, lane: Lane, error: Exception) -> None:
        self._lane = None if self._lane is lane else self._lane
        self._reply = None if self._reply is lane else self._reply
        self.cause = lane.cause
        try:
            self.failed(lane, error)
        finally:
            self.cause = None

    @property
    def replying(self) -> bool:
        """Whether a reply is being made."""
        return self._reply is not None

    def push(self, pcm: np.ndarray | Tensor) -> None:
        """Sound of the user: float [S] in [-1, 1] at 16 kHz, any S.

        Raises:
            AudioError: It is not that.
        """
        self.inbox.push(check_block(pcm))

    def send(self, command: Command) -> None:
        """Take note of a command."""
        if isinstance(command, Queued):
            self.inbox.put(command)
        else:
            self._at_once.append(command)

    def work(self, steps: Steps[None]) -> None:
        """Hear something else than the next chunk."""
        self._lane = Lane("hear", steps, self.cause)
