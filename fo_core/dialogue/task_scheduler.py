"""What a dialogue works on: coroutines that wait for model steps, at most one at a time.

One takes in (hears, reads the context, carries out a command), one replies, one is a reply that
nobody waits for yet. They go in this order at every step, so hearing never waits for more than the
step that runs.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

from fo_core.dialogue.audio_input import InputQueue
from fo_core.dialogue.commands import Command, Queued
from fo_core.models.steps import Step, Steps

Kind = Literal["input", "context", "reply", "spare"]
SPARE = 3  # urgency of what nobody waits for


class Task:
    """One coroutine on its way.

    Args:
        kind: What the work is for.
        steps: The work.
        cause: Id of the command that led to it.
    """

    def __init__(self, kind: Kind, steps: Steps[None], cause: str | None = None) -> None:
        self.kind, self.cause, self._steps = kind, cause, steps
        self.step: Step | None = None  # the model step that it waits for
        self.over = False
        self.seconds = 0.0  # of computing

    @torch.inference_mode()
    def advance(self, result: Tensor | None) -> None:
        """Go on to the next step, or to the end. What the work raises is raised here."""
        if self.over:
            return
        self.step, self.over = None, True
        began = time.perf_counter()
        try:
            self.step = self._steps.send(result)  # type: ignore[arg-type]
        except StopIteration:
            return
        finally:
            self.seconds += time.perf_counter() - began
        self.over = False

    def close(self) -> None:
        """Give the work up."""
        self.over, self.step = True, None
        self._steps.close()


class Commands(Protocol):
    """Who carries out commands."""

    def carry_out(self, command: Command, before: int | None) -> None:
        """Do what a command says; ``before``: samples that nobody heard yet before it."""

    def blocked(self, command: Queued) -> bool:
        """Whether a command has to wait for the reply that is being made."""


class Engine(Protocol):
    """Who hears and replies."""

    def input_due(self) -> Kind | None:
        """What can be done besides replying: hear a chunk, or read the context."""

    def input_steps(self, kind: Kind) -> Steps[None]:
        """Do that."""

    def reply_level(self) -> int:
        """1: the user waits for the bot's voice; 2: more than a second of it lies ready."""

    def poll(self) -> None:
        """Notice that a reply was played to its end."""

    def watch(self) -> None:
        """Look at sound that is queued, for a voice that begins."""

    def failed(self, kind: Kind, error: Exception) -> None:
        """A task raised ``error`` and was given up."""


class TaskScheduler:
    """The tasks of one dialogue, and what waits to become one.

    Args:
        commands: Whose.
        eager: A reply is made to its end before more is heard.

    Attributes:
        engine: Whose, once there is one.
        queue: Sound and commands in their order.
        input: The task that takes in, if there is one.
        reply: The task that replies.
        spare: The task that makes a reply nobody waits for yet.
        cause: Id of the command that led to what is being done.
    """

    engine: Engine

    def __init__(self, commands: Commands, eager: bool) -> None:
        self._commands, self.eager = commands, eager
        self.queue = InputQueue()
        self.input: Task | None = None
        self.reply: Task | None = None
        self.spare: Task | None = None
        self._spare_due: Callable[[], bool] = bool
        self.cause: str | None = None
        self._at_once: deque[Command] = deque()
        self._running: Task | None = None  # whose step is being run

    def send(self, command: Command, at_once: bool = False) -> None:
        """Take note of a command; ``Queued`` ones wait for the sound before them."""
        if isinstance(command, Queued) and not at_once:
            self.queue.put(command)
        else:
            self._at_once.append(command)

    def start_input(self, steps: Steps[None], kind: Kind = "input") -> None:
        """Take something in."""
        self.input = Task(kind, steps, self.cause)

    def start_reply(self, steps: Steps[None]) -> None:
        """Reply."""
        self.reply = Task("reply", steps, self.cause)

    def start_spare(self, steps: Steps[None], due: Callable[[], bool]) -> None:
        """Make a reply that nobody waits for yet, while it is due and there is nothing else."""
        self.spare, self._spare_due = Task("spare", steps), due

    def cancel_spare(self) -> None:
        """Give it up."""
        task, self.spare = self.spare, None
        if task is not None:
            task.close()

    def promote_spare(self) -> None:
        """It is what the user waits for; where it is made whole, there is nothing to do."""
        self.reply, self.spare = self.spare, None
        if self.reply is not None:
            self.reply.kind, self.reply.cause = "reply", self.cause

    def cancel_reply(self) -> bool:
        """Give the reply up; whether there was one."""
        task, self.reply = self.reply, None
        if task is not None:
            task.close()
        return task is not None

    def input_waits(self) -> bool:
        """Whether there is something to do besides the reply."""
        if self.input is not None or self._at_once:
            return True
        if self.eager and self.reply is not None:
            return False
        found = self.queue.command()
        if found is not None:  # blocked, it waits for the reply and makes nothing urgent
            return not self._commands.blocked(found[0])
        return self.engine.input_due() is not None

    def urgency(self) -> int | None:
        """0: sound of the user is queued; 1: to hear the bot; 2: audio is ready; 3: spare; None."""
        if self._running is not None or self.input_waits():
            return 0
        if self.reply is not None:
            return self.engine.reply_level()
        return SPARE if self._has_spare() else None

    def _has_spare(self) -> bool:
        return self.spare is not None and self._spare_due()

    @property
    def level(self) -> int:
        """How urgent the step is that was given last, as :meth:`urgency`."""
        kind = "input" if self._running is None else self._running.kind
        return {"reply": self.engine.reply_level(), "spare": SPARE}.get(kind, 0)

    def charge(self, seconds: float) -> None:
        """So long the step took that was given last."""
        if self._running is not None:
            self._running.seconds += seconds

    def resume(self, result: Tensor | None = None) -> Step | None:
        """Go on, with the result of the step that was given last; the next step, or None.

        None may come although there is more to do (:meth:`urgency`).
        """
        self.finish(result)
        while self._at_once:
            self._carry_out(self._at_once.popleft(), None)
        self.look()
        waits = self.input is None and not (self.eager and self.reply is not None)
        obeyed = waits and self._next_input()
        task = self.input or (None if obeyed else self.reply)
        if task is None and not obeyed and self._has_spare():
            task = self.spare
        if task is None:
            return None
        if task.step is None:
            self._advance(task, None)
        step, task.step = task.step, None
        self._running = None if step is None else task
        return step

    def look(self) -> None:
        """Notice what time brought: a reply that was played to its end, a voice that begins."""
        self.engine.poll()
        if not self.eager or (self.input is None and self.reply is None):
            self.engine.watch()

    def finish(self, result: Tensor | None) -> None:
        """Hand over the result of the step that was given last."""
        task, self._running = self._running, None
        if task is not None:
            self._advance(task, result)

    def fail(self, error: Exception) -> None:
        """The step that was given last raised ``error``."""
        task, self._running = self._running, None
        if task is not None and not task.over:
            task.close()
            self._fail(task, error)

    def _next_input(self) -> bool:
        """Begin what comes next; whether that was a command."""
        due = self.engine.input_due()
        found = None if due == "context" else self.queue.command()
        if found is not None and not self._commands.blocked(found[0]):
            self._carry_out(*found)
            self.queue.done(found[0])
            return True
        if found is None and due is not None:
            self.input = Task(due, self.engine.input_steps(due))
        return False

    def _carry_out(self, command: Command, before: int | None) -> None:
        self.cause = command.id
        try:
            self._commands.carry_out(command, before)
        finally:
            self.cause = None

    def _advance(self, task: Task, result: Tensor | None) -> None:
        self.cause = task.cause
        try:
            task.advance(result)
            if task.over:
                self._forget(task)
        except Exception as error:
            self._fail(task, error)
        finally:
            self.cause = None

    def _forget(self, task: Task) -> None:
        self.input = None if self.input is task else self.input
        self.reply = None if self.reply is task else self.reply
        self.spare = None if self.spare is task else self.spare

    def _fail(self, task: Task, error: Exception) -> None:
        self._forget(task)
        self.cause = task.cause
        try:
            self.engine.failed(task.kind, error)
        finally:
            self.cause = None
