"""A recording talks to a model in real time; what comes back is laid out on the same clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fo_core.dialogue import events as ev
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.sessions.pool import Pool, PoolConfig
from fo_core.dialogue.settings import DialogueConfig
from fo_core.errors import EngineError
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.streaming import SAMPLE_RATE

BLOCK = 640  # samples that arrive at a time: 40 ms
DUCKED = 0.2  # gain of a reply that goes on in a low voice
Clock = Literal["wall", "sound"]


@dataclass
class Heard:
    """What the model did while a recording ran."""

    wave: np.ndarray  # float32 [S] at the codec's rate, as long as the recording
    rate: int  # Hz
    turns: list[dict[str, Any]] = field(default_factory=list)  # how and when turns ended, s
    stops: list[float] = field(default_factory=list)  # when the model was interrupted, s
    # when it gave way to a voice and went on, s; None: it never did
    yields: list[list[float | None]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)  # of the replies


class _Tape:
    """Replies on the recording's clock: a piece begins when it and its turn are there."""

    def __init__(self, samples: int, rate: int) -> None:
        self.wave, self.rate, self.head = np.zeros(samples, np.float32), rate, 0
        self._held: list[np.ndarray] | None = None  # not to be heard before the reply goes on
        self._gain = 1.0

    def lay(self, piece: np.ndarray, now: float) -> None:
        if self._held is not None:
            self._held.append(piece)
            return
        start = max(self.head, int(now * self.rate))
        end = min(start + len(piece), len(self.wave))
        if end > start:
            self.wave[start:end] = self._gain * piece[: end - start]
        self.head = start + len(piece)

    def stop(self, now: float) -> None:
        """Nothing of what is laid is heard from now on."""
        self._held, self._gain = None, 1.0
        self._take(now)

    def give_way(self, now: float, by: str) -> None:
        """What is laid is heard later, or in a low voice."""
        if by == "pause":
            self._held = [self._take(now)]
        elif by == "duck":
            self._gain = DUCKED
            self.wave[int(now * self.rate) :] *= DUCKED

    def go_on(self, now: float) -> None:
        """What was held is heard from now on, at its loudness."""
        held, self._held = self._held or [], None
        if self._gain != 1.0:
            self.wave[int(now * self.rate) :] /= self._gain
            self._gain = 1.0
        for piece in held:
            self.lay(piece, now)

    def _take(self, now: float) -> np.ndarray:
        """Take out what is laid from now on."""
        cut = int(now * self.rate)
        if self.head <= cut:
            return np.zeros(0, np.float32)
        taken = self.wave[cut : self.head].copy()
        self.wave[cut:] = 0
        self.head = cut
        return taken


def talk_through(
    model: FreezeOmni, dialogue: DialogueConfig, wave: np.ndarray, clock: Clock
) -> Heard:
    """Play a recording to a new session.

    Args:
        model: In eval mode.
        dialogue: How it talks.
        wave: float32 [S] at 16 kHz.
        clock: "wall": in real time, so that the time of computing counts; "sound": as fast as can
            be, as if computing took none.

    Raises:
        EngineError: The session ended by itself or its model failed.
    """
    rate = model.codec.sample_rate
    tape = _Tape(len(wave) * rate // SAMPLE_RATE, rate)
    heard = Heard(tape.wave, rate)
    play = _in_real_time if clock == "wall" else _without_waiting
    for now, event in play(model, dialogue, wave):
        if isinstance(event, ev.AudioDelta):
            tape.lay(event.audio, now)
        elif isinstance(event, ev.Interrupted):
            tape.stop(now)
            heard.stops.append(round(now, 3))
        elif isinstance(event, ev.Yielded):
            tape.give_way(now, event.by)
            heard.yields.append([round(now, 3), None])
        elif isinstance(event, ev.Resumed):
            tape.go_on(now)
            heard.yields[-1][1] = round(now, 3)
        elif isinstance(event, ev.TurnEnded):
            heard.turns.append({"how": event.how, "at": round(now, 3)})
        elif isinstance(event, ev.ReplyDone):
            heard.texts.append(event.text)
        elif isinstance(event, ev.Error):
            raise EngineError(f"the model failed while talking: {event.message}")
        elif isinstance(event, ev.Closed):
            raise EngineError(f"the session ended by itself: {event.reason}")
    return heard


Timed = Iterator[tuple[float, ev.DuplexEvent]]  # seconds of the recording, what happened then


def _in_real_time(model: FreezeOmni, dialogue: DialogueConfig, wave: np.ndarray) -> Timed:
    with Pool(model, dialogue, PoolConfig(max_sessions=1)) as pool:
        talk = pool.open()
        began = time.monotonic()
        for start in range(0, len(wave), BLOCK):
            due = began + min(start + BLOCK, len(wave)) / SAMPLE_RATE
            while (left := due - time.monotonic()) > 0:
                event = talk.get(left)
                if event is not None:
                    yield event.time - began, event
            talk.push(wave[start : start + BLOCK])
        while (event := talk.get(0.0)) is not None:
            yield event.time - began, event


def _without_waiting(model: FreezeOmni, dialogue: DialogueConfig, wave: np.ndarray) -> Timed:
    duplex = Duplex(model, dialogue, eager=True)
    for start in range(0, len(wave), BLOCK):
        duplex.push(wave[start : start + BLOCK])
        for event in duplex.run():
            yield event.at / SAMPLE_RATE, event
