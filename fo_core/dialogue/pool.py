"""Model as a server: few models, many users (paper, section 2.4).

All state belongs to the users, none to a model, so any idle worker takes any user's next piece of
work. A worker is a thread; the workers of a device share one set of weights. What users ask of the
LLM, or of the speech decoder, at the same time runs as one ragged batch
(:mod:`fo_core.layers.ragged`): the weights are read once for all of them, and with packed weights
what comes out for a user does not depend, to the bit, on who else is in the batch. Features,
encoder and codec run user by user: a batch would change their last bits.

Order of work: who is to be heard, then who waits for the bot's voice, then who has audio lying
ready; among equals whoever was served longest ago. Every fifth pick looks at the waiting time
alone, so that nobody starves when there is too much to do.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from fo_core.config import config
from fo_core.dialogue import events as ev
from fo_core.dialogue.commands import Command, Configure
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.duplex_core import Prefixes
from fo_core.dialogue.settings import DialogueConfig
from fo_core.dialogue.talk import Overflow, Reason, Talk
from fo_core.dialogue.turns import TurnConfig
from fo_core.errors import ConfigError, FoError
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.steps import Step, run_together
from fo_core.vad import Vad, make_vad

__all__ = ["Overflow", "Pool", "PoolConfig", "PoolFull", "PoolStats", "Talk"]
TEND_SECONDS = 0.05  # how often play heads and time-outs are looked at
FAIR = 5  # every so many picks go by waiting time alone
ROWS = 64  # positions of a batch at most: beyond, a row more costs what it costs alone
MAX_EVENTS = 20_000  # unread; more is a consumer that is gone


class PoolFull(FoError):
    """The pool is at capacity."""


@config
class PoolConfig:
    """Limits of a pool."""

    workers: int = 1  # threads for each model given, that share its weights
    max_sessions: int = 8  # users at a time
    batch: int = 8  # model steps of several users that run together; 1 = each alone
    input_seconds: float = 30.0  # sound of a user that may wait to be heard
    output_seconds: float = 60.0  # audio that a user's consumer may leave unread; then it is waited
    stall_seconds: float = 60.0  # a consumer that reads nothing for so long is gone
    idle_seconds: float = 600.0  # so long without sound or command ends a session
    session_seconds: float = 0.0  # longest session; 0 = no limit
    # "wall": a live talk; play heads (of users that do not tell how much they played) go by time |
    # "sound": files as fast as they can be; a reply is made before more is heard, play heads go by
    # what was heard, and nothing depends on how busy the machine is
    clock: Literal["wall", "sound"] = "wall"

    def __post_init__(self) -> None:
        for name in ("workers", "max_sessions", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"pool.{name} is {getattr(self, name)}", possible="1 or more")


@dataclass
class PoolStats:
    """What a pool has done; the counters only grow."""

    sessions: int = 0  # open now
    working: int = 0  # of them, with work to do
    opened: int = 0
    closed: Counter[str] = field(default_factory=Counter)  # by reason
    replies: Counter[str] = field(default_factory=Counter)  # by status
    batches: Counter[str] = field(
        default_factory=Counter
    )  # runs of "LLMRequest" (LLM), "DecoderRequest" (decoder)
    steps: Counter[str] = field(default_factory=Counter)  # steps in them
    seconds: Counter[str] = field(default_factory=Counter)  # spent in them, and in "advance"


@dataclass(eq=False)
class _Slot:
    """What the pool keeps of one user, guarded by its lock."""

    talk: Talk
    duplex: Duplex | None  # None: the session is over
    touched: float  # when sound or a command came last
    incoming: deque[np.ndarray | Command] = field(default_factory=deque)
    incoming_samples: int = 0
    busy: bool = False  # a worker has it
    step: Step | None = None  # waits to be run
    level: int = 0  # how urgent the step is
    result: torch.Tensor | None = None  # of the step that was run
    error: Exception | None = None  # ... or what it raised
    served: float = 0.0  # when it was worked on last


@dataclass
class _Group:
    """A model, its workers and its users."""

    model: FreezeOmni
    work: threading.Condition  # of the pool's lock: there may be something to do for a worker
    slots: list[_Slot] = field(default_factory=list)
    prefixes: Prefixes = field(default_factory=dict)
    picks: int = 0


class Pool:
    """Models and their workers.

    Args:
        models: One model, or one a device; each is in eval mode and is not touched otherwise.
        dialogue: How they talk, unless a user asks for something else.
        cfg: Limits.
        vad: Voice activity detector; None makes the config's.
    """

    def __init__(
        self,
        models: FreezeOmni | Sequence[FreezeOmni],
        dialogue: DialogueConfig | None = None,
        cfg: PoolConfig | None = None,
        vad: Vad | None = None,
    ) -> None:
        self.cfg, self.dialogue = cfg or PoolConfig(), dialogue or DialogueConfig()
        self.lock = threading.RLock()
        found = [models] if isinstance(models, FreezeOmni) else list(models)
        self._groups = [_Group(model, threading.Condition(self.lock)) for model in found]
        self._slots: dict[Talk, _Slot] = {}
        self._vad = vad or make_vad(self.dialogue.duplex.vad)
        for group in self._groups:
            self._read_system(group)
        self._stats = PoolStats()
        self._stopping = False
        self._tended = 0.0
        self.sample_rate = found[0].codec.sample_rate  # of replies
        self.output_samples = int(self.cfg.output_seconds * self.sample_rate)
        self._threads = [
            threading.Thread(target=self._work, args=(group,), name=f"pool-{n}-{w}", daemon=True)
            for n, group in enumerate(self._groups)
            for w in range(self.cfg.workers)
        ]
        for thread in self._threads:
            thread.start()

    def _read_system(self, group: _Group) -> None:
        """Read the model's own system text, once for all users."""
        reader = Duplex(
            group.model, self.dialogue, speak=False, vad=self._vad, prefixes=group.prefixes
        )
        for _ in reader.run():
            pass

    def open(
        self,
        system: str | None = None,
        voice: Sequence[int] | None = None,
        turn: TurnConfig | None = None,
        speak: bool = True,
        dialogue: DialogueConfig | None = None,
    ) -> Talk:
        """A new user; arguments as of :class:`Duplex`.

        Raises:
            PoolFull: It is at capacity, or the pool is closed.
            ConfigError: The voice does not fit the codec.
            CheckpointError: The model lacks a part that is needed.
        """
        with self.lock:
            if self._stopping or len(self._slots) >= self.cfg.max_sessions:
                raise PoolFull(
                    f"server at capacity ({self.cfg.max_sessions} sessions)", do="try again later"
                )
            group = min(self._groups, key=lambda group: len(group.slots))
            talk = Talk(self)
            duplex = Duplex(
                group.model,
                dialogue or self.dialogue,
                system=system,
                voice=voice,
                turn=turn,
                speak=speak,
                vad=self._vad,
                now=talk.clock if self.cfg.clock == "wall" else None,
                eager=self.cfg.clock == "sound",
                prefixes=group.prefixes,
            )
            slot = self._slots[talk] = _Slot(talk, duplex, talk.opened)
            group.slots.append(slot)
            self._stats.opened += 1
            group.work.notify()
            return talk

    def give(self, talk: Talk, item: np.ndarray | Command) -> None:
        """Sound or a command of a user; nothing where the session is over.

        Raises:
            ConfigError: A voice does not fit the codec.
        """
        with self.lock:
            slot = self._slots.get(talk)
            if slot is None or slot.duplex is None:
                return
            if isinstance(item, Configure):
                slot.duplex.model.check_voice(item.voice)
            slot.incoming.append(item)
            slot.incoming_samples += 0 if isinstance(item, Command) else item.size
            slot.touched = time.monotonic()
            self.notify()

    def waiting(self, talk: Talk) -> int:
        """Samples of a user that wait to be heard."""
        with self.lock:
            slot = self._slots.get(talk)
            if slot is None or slot.duplex is None:
                return 0
            return slot.incoming_samples + slot.duplex.inbox.waiting

    def close(self) -> None:
        """End all sessions and stop the workers."""
        with self.lock:
            self._stopping = True
            for talk in list(self._slots):
                self.drop(talk, "shutdown")
            for group in self._groups:
                group.work.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stats(self) -> PoolStats:
        """A copy of the counters."""
        with self.lock:
            s, slots = self._stats, self._slots.values()
            working = sum(slot.busy or slot.step is not None for slot in slots)
            parts = (Counter(c) for c in (s.closed, s.replies, s.batches, s.steps, s.seconds))
            return PoolStats(len(slots), working, s.opened, *parts)

    def working(self, talk: Talk) -> bool:
        """Whether there is something to do for a user."""
        with self.lock:
            slot = self._slots.get(talk)
            if slot is None or slot.duplex is None:
                return False
            return slot.busy or slot.step is not None or self._level(slot, slot.duplex) is not None

    def drop(self, talk: Talk, reason: Reason) -> None:
        """End a session (see :meth:`Talk.close`)."""
        with self.lock:
            slot = self._slots.pop(talk, None)
            if slot is not None:
                for group in self._groups:
                    if slot in group.slots:
                        group.slots.remove(slot)
                self._stats.closed[reason] += 1
                slot.duplex = slot.step = slot.result = None
                slot.incoming.clear()
        talk.end(reason)

    def notify(self) -> None:
        """There may be work, for any of the models."""
        with self.lock:
            for group in self._groups:
                group.work.notify()

    # --- the workers ---

    def _work(self, group: _Group) -> None:
        while True:
            with self.lock:
                job = self._pick(group)
                while not job and not self._stopping:
                    group.work.wait(TEND_SECONDS)
                    job = self._pick(group)
                if self._stopping:
                    return
                for slot in job:
                    slot.busy, slot.served = True, time.monotonic()
                steps = [slot.step for slot in job if slot.step is not None]
                group.work.notify()  # there may be more to do for another worker
            if steps:
                self._run(job, steps)
            else:
                self._advance(job[0])

    def _pick(self, group: _Group) -> list[_Slot]:
        """The next piece of work: users whose steps run together, or one user to go on with."""
        self._tend()
        ready: list[tuple[int, float, _Slot]] = []
        asking: list[tuple[int, float, _Slot]] = []
        for slot in group.slots:
            if slot.busy or slot.duplex is None:
                continue
            if slot.step is not None:
                asking.append((slot.level, slot.served, slot))
                continue
            level = self._level(slot, slot.duplex)
            if level is not None:
                ready.append((level, slot.served, slot))
        group.picks += 1
        if group.picks % FAIR == 0:
            ready = [(0, served, slot) for _, served, slot in ready]
            asking = [(0, served, slot) for _, served, slot in asking]
        ready.sort(key=lambda item: item[:2])
        asking.sort(key=lambda item: item[:2])
        if ready and (not asking or ready[0][0] <= asking[0][0]):
            return [ready[0][2]]
        if not asking:
            return []
        first, rows = asking[0][2].step, 0
        same: list[_Slot] = []
        for _, _, slot in asking:
            step = slot.step
            if step is None or type(step) is not type(first) or step.model is not first.model:
                continue
            if not same or rows + step.rows <= ROWS:  # nobody waits for another's long text
                same.append(slot)
                rows += step.rows
        return same[: self.cfg.batch]

    def _level(self, slot: _Slot, duplex: Duplex) -> int | None:
        """How urgent it is to go on with a user; None: there is nothing to do."""
        if slot.error is not None or slot.incoming or duplex.played_out():
            return 0
        if slot.result is None:
            level = duplex.urgency()
        else:
            level = 0 if duplex.hearing_waits() else slot.level
        if level and slot.talk.unread > self.output_samples:
            return None  # its consumer is slow: the reply waits
        return level

    def _run(self, job: list[_Slot], steps: list[Step]) -> None:
        began, kind = time.perf_counter(), type(steps[0]).__name__
        results: list[torch.Tensor | Exception] = []
        try:
            together = self.cfg.batch > 1 and self.cfg.max_sessions > 1
            results = list(run_together(steps) if together else [steps[0].run()])
        except Exception as error:
            results = [error] if len(steps) == 1 else [_alone(step) for step in steps]
        with self.lock:
            self._stats.batches[kind] += 1
            self._stats.steps[kind] += len(steps)
            self._stats.seconds[kind] += time.perf_counter() - began  # type: ignore[assignment]
            for slot, result in zip(job, results, strict=True):
                slot.busy, slot.step = False, None
                if slot.duplex is None:
                    continue
                if isinstance(result, Exception):
                    slot.error = result
                else:
                    slot.result = result

    def _advance(self, slot: _Slot) -> None:
        began = time.perf_counter()
        with self.lock:
            duplex, result, error = slot.duplex, slot.result, slot.error
            slot.result = slot.error = None
            incoming = list(slot.incoming)
            slot.incoming.clear()
            slot.incoming_samples = 0
            if duplex is not None:
                for item in incoming:
                    if isinstance(item, Command):
                        duplex.send(item)
                    else:
                        duplex.inbox.push(item)
        step, events, failed = None, [], False
        if duplex is not None:
            try:
                if error is not None:
                    duplex.fail(error)
                step = duplex.resume(result)
            except Exception as fault:  # not of a reply or a turn: this session cannot go on
                duplex.emit(ev.Error("model", f"{type(fault).__name__}: {fault}"))
                failed = True
            events = duplex.take()
        slot.talk.deliver(events)
        with self.lock:
            for event in events:
                if isinstance(event, ev.ReplyDone):
                    self._stats.replies[event.status] += 1
            slot.busy = False
            if slot.duplex is not None and duplex is not None:
                slot.step = step
                slot.level = duplex.reply_level() if duplex.asking == "reply" else 0
            self._stats.seconds["advance"] += time.perf_counter() - began  # type: ignore[assignment]
            if failed:
                self.drop(slot.talk, "failed")

    def _tend(self) -> None:
        """End sessions whose time is over."""
        now = time.monotonic()
        if now - self._tended < TEND_SECONDS:
            return
        self._tended = now
        cfg = self.cfg
        for talk, slot in list(self._slots.items()):
            stalled = bool(talk.backlog) and now - talk.read > cfg.stall_seconds
            if stalled or talk.backlog > MAX_EVENTS:
                self.drop(talk, "stalled")
            elif now - slot.touched > cfg.idle_seconds:
                self.drop(talk, "idle")
            elif cfg.session_seconds and now - talk.opened > cfg.session_seconds:
                self.drop(talk, "too_long")


def _alone(step: Step) -> torch.Tensor | Exception:
    """A step of a failed batch again, to find whose it was."""
    try:
        return step.run()
    except Exception as error:
        return error
