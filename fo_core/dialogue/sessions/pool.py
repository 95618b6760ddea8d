"""Model as a server: few models, many users (paper, section 2.4).

All state belongs to the users, none to a model, so any idle worker takes any user's next piece of
work. A worker is a thread; the workers of a device share one set of weights. What users ask of the
LLM, or of the speech decoder, at the same time runs as one ragged batch
(:mod:`fo_core.layers.ragged`): the weights are read once for all of them, and with packed weights
what comes out for a user does not depend, to the bit, on who else is in the batch. Features,
encoder and codec run user by user: a batch would change their last bits. Who goes next:
:mod:`fo_core.dialogue.sessions.batching`.
"""

from __future__ import annotations

import copy
import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from fo_core.config import check_ranges, config
from fo_core.dialogue import events as ev
from fo_core.dialogue.audio_input import shared_vad
from fo_core.dialogue.commands import Command, Configure, Respond
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.sessions.batching import Group, Slot
from fo_core.dialogue.sessions.pool_stats import PoolStats
from fo_core.dialogue.sessions.talk import Overflow, Reason, Talk
from fo_core.dialogue.settings import DialogueConfig, TurnConfig, effective_context
from fo_core.engines.vad import Vad
from fo_core.errors import FoError
from fo_core.models import voices
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.steps import Step, run_together
from fo_core.models.voices import VoiceChoice
from fo_core.streaming import SAMPLE_RATE

__all__ = ["Overflow", "Pool", "PoolConfig", "PoolFull", "PoolStats", "Talk"]
# without sound while a reply stands still; then the user is taken to be silent
SILENT_SECONDS = 1.0
TEND_SECONDS = 0.05  # how often play heads and time-outs are looked at
MAX_EVENTS = 20_000  # unread; more is a consumer that is gone


class PoolFull(FoError):
    """The pool is at capacity."""


@config
class PoolConfig:
    """Limits of a pool."""

    workers: int = 1  # threads for each model given, that share its weights
    max_sessions: int = 8  # users at a time
    batch: int = 8  # model steps of several users that run together; 1 = each alone
    input_seconds: float = 30.0  # sound of a user that may be queued unread
    output_seconds: float = 60.0  # audio that a user's consumer may leave unread; then it is waited
    stall_seconds: float = 60.0  # a consumer that reads nothing for so long is gone
    idle_seconds: float = 600.0  # so long without sound or command ends a session
    session_seconds: float = 0.0  # longest session; 0 = no limit
    # "wall": a live talk; play heads (of users that do not tell how much they played) go by time |
    # "sound": files as fast as they can be; a reply is made before more is heard, play heads go by
    # what was heard, and nothing depends on how busy the machine is
    clock: Literal["wall", "sound"] = "wall"

    def __post_init__(self) -> None:
        check_ranges(self, "pool", **dict.fromkeys(("workers", "max_sessions", "batch"), (1, None)))


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
        self._groups = [Group(model, threading.Condition(self.lock)) for model in found]
        self._slots: dict[Talk, Slot] = {}
        self._vad = vad or shared_vad(self.dialogue.duplex.vad)
        for group in self._groups:
            self._read_system(group)
        self._stats = PoolStats()
        self._stopping = False
        self._tended = 0.0
        self.sample_rate = found[0].codec.sample_rate  # of replies
        self.voices = voices.names(found[0].config)  # the model's own first
        self.context = min(effective_context(model.llm, self.dialogue) for model in found)
        self.output_samples = int(self.cfg.output_seconds * self.sample_rate)
        self._threads = [
            threading.Thread(target=self._work, args=(group,), name=f"pool-{n}-{w}", daemon=True)
            for n, group in enumerate(self._groups)
            for w in range(self.cfg.workers)
        ]
        for thread in self._threads:
            thread.start()

    def _read_system(self, group: Group) -> None:
        """Read the model's own system text, once for all users."""
        reader = Duplex(
            group.model, self.dialogue, speak=False, vad=self._vad, prefixes=group.prefixes
        )
        for _ in reader.run():
            pass

    def open(
        self,
        system: str | None = None,
        voice: VoiceChoice = None,
        turn: TurnConfig | None = None,
        speak: bool = True,
        dialogue: DialogueConfig | None = None,
    ) -> Talk:
        """A new user; arguments as of :class:`Duplex`.

        Raises:
            PoolFull: It is at capacity, or the pool is closed.
            ConfigError: The model has no such voice.
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
            slot = self._slots[talk] = Slot(talk, duplex, talk.opened)
            group.slots.append(slot)
            self._stats.opened += 1
            group.work.notify()
            return talk

    def give(self, talk: Talk, item: np.ndarray | Command, checked: bool = False) -> None:
        """Sound or a command of a user; nothing where the session is over.

        Args:
            talk: Whose.
            item: What came.
            checked: :meth:`check_room` was asked before.

        Raises:
            ConfigError: The model has no such voice.
            Overflow: The input buffer overflows.
        """
        with self.lock:
            slot = self._slots.get(talk)
            if slot is None or slot.duplex is None:
                return
            if isinstance(item, Configure | Respond):
                slot.duplex.model.find_voice(item.voice)
            if isinstance(item, np.ndarray):
                if not checked:
                    self.check_room(talk, item.size)
                self._hear(slot, item)
            else:
                slot.incoming.append(item)
            slot.touched = time.monotonic()
            for group in self._groups:
                group.work.notify()

    def _hear(self, slot: Slot, sound: np.ndarray) -> None:
        slot.incoming.append(sound)
        slot.incoming_samples += sound.size
        now = time.monotonic()
        slot.sounds_until = max(slot.sounds_until, now) + sound.size / SAMPLE_RATE

    def check_room(self, talk: Talk, samples: int) -> None:
        """Refuse samples for which there is no room; see :meth:`Talk.check_room`."""
        with self.lock:
            slot = self._slots.get(talk)
            if slot is None or slot.duplex is None:
                return
            waiting = slot.incoming_samples + slot.duplex.tasks.queue.waiting + samples
        if waiting > self.cfg.input_seconds * SAMPLE_RATE:
            raise Overflow(
                f"input buffer overflow: {waiting / SAMPLE_RATE:.1f} s queued",
                possible=f"{self.cfg.input_seconds:g} s",
                do="send it in real time",
            )

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
            slots = self._slots.values()
            working = sum(slot.busy or slot.step is not None for slot in slots)
            counted = copy.deepcopy(self._stats)
            return dataclasses.replace(counted, sessions=len(slots), working=working)

    def working(self, talk: Talk) -> bool:
        """Whether there is something to do for a user."""
        with self.lock:
            slot = self._slots.get(talk)
            if slot is None or slot.duplex is None:
                return False
            busy = slot.busy or slot.step is not None
            return busy or slot.urgency(self.output_samples) is not None

    def drop(self, talk: Talk, reason: Reason) -> None:
        """End a session (see :meth:`Talk.close`)."""
        with self.lock:
            slot = self._slots.pop(talk, None)
            if slot is not None:
                for group in self._groups:
                    if slot in group.slots:
                        group.slots.remove(slot)
                self._stats.closed[reason] += 1
                if slot.duplex is not None and not slot.advancing:
                    self._give_up(slot.duplex)
                slot.duplex = slot.step = slot.result = None
                slot.incoming.clear()
        talk.end(reason)

    def _give_up(self, duplex: Duplex) -> None:
        """Nobody waits for the reply that a session which is over had begun in a pause."""
        duplex.engine.speculation.drop("given_up")
        for event in duplex.take():
            self._stats.see(event)

    def relieve(self, talk: Talk) -> None:
        """A reply may go on where it waited for its consumer, who has read some of it."""
        if talk.unread > self.output_samples // 2:
            with self.lock:
                for group in self._groups:
                    group.work.notify()

    # --- the workers ---

    def _work(self, group: Group) -> None:
        while True:
            with self.lock:
                while not self._stopping:
                    self._tend()
                    job = group.pick(self.cfg.batch, self.output_samples)
                    if job:
                        break
                    group.work.wait(TEND_SECONDS)
                else:
                    return
                for slot in job:
                    slot.busy, slot.served = True, time.monotonic()
                steps = [slot.step for slot in job if slot.step is not None]
                group.work.notify()  # there may be more to do for another worker
            if steps:
                self._run(job, steps)
            else:
                self._advance(job[0])

    def _run(self, job: list[Slot], steps: list[Step]) -> None:
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
            took = time.perf_counter() - began
            self._stats.seconds[kind] += took
            for slot, result in zip(job, results, strict=True):
                slot.busy, slot.step = False, None
                if slot.duplex is None:
                    continue
                slot.duplex.tasks.charge(took / len(steps))
                if isinstance(result, Exception):
                    slot.error = result
                else:
                    slot.result = result

    def _advance(self, slot: Slot) -> None:
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
                        duplex.tasks.queue.push(item)
        step, events, failed = None, [], False
        if duplex is not None:
            try:
                if error is not None:
                    duplex.tasks.fail(error)
                step = duplex.tasks.resume(result)
            except Exception as fault:  # not of a reply or a turn: this session cannot go on
                duplex.emit(ev.Error("model", f"{type(fault).__name__}: {fault}"))
                failed = True
            events = duplex.take()
        slot.talk.deliver(events)
        with self.lock:
            for event in events:
                self._stats.see(event)
            slot.busy = False
            if slot.duplex is not None and duplex is not None:
                slot.step = step
                slot.level = duplex.tasks.level
            elif duplex is not None:
                self._give_up(duplex)
            self._stats.seconds["advance"] += time.perf_counter() - began
            if failed:
                self.drop(slot.talk, "failed")

    def _tend(self) -> None:
        """End sessions whose time is over; what stands still for somebody goes on without them."""
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
            elif cfg.clock == "wall" and now - slot.sounds_until > SILENT_SECONDS:
                self._fill(slot, now)

    def _fill(self, slot: Slot, now: float) -> None:
        """A voice stopped the reply, and then no sound came any more: that is silence.

        As silence it is judged: the reply goes on, or the user's turn ends. Else it would stand
        still until the session ends.
        """
        if slot.duplex is not None and slot.duplex.engine.yielding.undecided:
            missing = int((now - slot.sounds_until) * SAMPLE_RATE)
            slot.sounds_until = now - missing / SAMPLE_RATE
            self._hear(slot, np.zeros(missing, np.float32))


def _alone(step: Step) -> torch.Tensor | Exception:
    """A step of a failed batch again, to find whose it was."""
    try:
        return step.run()
    except Exception as error:
        return error
