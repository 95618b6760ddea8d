"""Continuous batching: the users of a pool, and whose steps run next, and together.

Who is to be heard comes first, then who waits for the bot's voice, then who has audio lying ready;
among equals whoever was served longest ago. Every fifth pick looks at the waiting time alone, so
that nobody starves when there is too much to do. A reply that nobody waits for yet (speculation) is
worked on only while nobody else is.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
import torch

from fo_core.dialogue.commands import Command
from fo_core.dialogue.conversation import Prefixes, new_prefixes
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.sessions.talk import Talk
from fo_core.dialogue.task_scheduler import SPARE
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.steps import Step

FAIR = 5  # every so many picks go by waiting time alone
URGENCY = itemgetter(0, 1)  # and the time of waiting
ROWS = 64  # positions of a batch at most: beyond, a row more costs what it costs alone


@dataclass(eq=False)
class Slot:
    """What the pool keeps of one user, guarded by its lock."""

    talk: Talk
    duplex: Duplex | None  # None: the session is over
    touched: float  # when sound or a command came last
    incoming: deque[np.ndarray | Command] = field(default_factory=deque)
    incoming_samples: int = 0
    sounds_until: float = 0.0  # when its sound ends, or ended, if it is heard as it comes
    busy: bool = False  # a worker has it
    step: Step | None = None  # waits to be run
    level: int = 0  # how urgent the step is
    result: torch.Tensor | None = None  # of the step that was run
    error: Exception | None = None  # ... or what it raised
    served: float = 0.0  # when it was worked on last

    @property
    def advancing(self) -> bool:
        """Whether a worker goes on with its dialogue (not: runs its step)."""
        return self.busy and self.step is None

    def urgency(self, unread: int) -> int | None:
        """How urgent it is to go on with this user; None: there is nothing to do.

        Args:
            unread: Samples of audio that its consumer may leave unread.
        """
        duplex = self.duplex
        if duplex is None:
            return None
        if self.error is not None or self.incoming or duplex.engine.played_out():
            return 0
        if self.result is None:
            level = duplex.tasks.urgency()
        else:
            level = 0 if duplex.tasks.input_waits() else self.level
        if level and self.talk.unread > unread:
            return None  # its consumer is slow: the reply waits
        return level


@dataclass
class Group:
    """A model, its workers and its users."""

    model: FreezeOmni
    work: threading.Condition  # of the pool's lock: there may be something to do for a worker
    slots: list[Slot] = field(default_factory=list)
    prefixes: Prefixes = field(default_factory=new_prefixes)
    picks: int = 0

    def pick(self, batch: int, unread: int) -> list[Slot]:
        """The next piece of work: users whose steps run together, or one user to go on with.

        Args:
            batch: Users at most.
            unread: As of :meth:`Slot.urgency`.
        """
        ready: list[tuple[int, float, Slot]] = []
        asking: list[tuple[int, float, Slot]] = []
        for slot in self.slots:
            if slot.busy or slot.duplex is None:
                continue
            if slot.step is not None:
                waited = 0 if slot.level == SPARE and slot.incoming else slot.level
                asking.append((waited, slot.served, slot))
                continue
            level = slot.urgency(unread)
            if level is not None:
                ready.append((level, slot.served, slot))
        if not any(level < SPARE for level, _, _ in ready + asking):
            spare = asking or ready
            alone = not any(slot.busy for slot in self.slots)
            return [spare[0][2]] if spare and alone else []
        ready = [one for one in ready if one[0] < SPARE]
        asking = [one for one in asking if one[0] < SPARE]
        self.picks += 1
        if self.picks % FAIR == 0:
            ready = [(0, served, slot) for _, served, slot in ready]
            asking = [(0, served, slot) for _, served, slot in asking]
        ready.sort(key=URGENCY)
        asking.sort(key=URGENCY)
        if ready and (not asking or ready[0][0] <= asking[0][0]):
            return [ready[0][2]]
        return _together([slot for _, _, slot in asking])[:batch]


def _together(asking: list[Slot]) -> list[Slot]:
    """Of the users that wait for a step, most urgent first: those whose steps go with the first."""
    first, rows = asking[0].step if asking else None, 0
    same: list[Slot] = []
    for slot in asking:
        step = slot.step
        if step is None or first is None:
            continue
        if type(step) is not type(first) or step.model is not first.model:
            continue
        if not same or rows + step.rows <= ROWS:  # nobody waits for another's long text
            same.append(slot)
            rows += step.rows
    return same
