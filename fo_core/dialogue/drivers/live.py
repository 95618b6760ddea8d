"""A live talk at a loudspeaker: what plays when, and how quick each turn was.

Time is the sample clock of the user's side (16 kHz): what is played at a moment stands opposite to
what is recorded at that moment, so latencies do not depend on when an event was read.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from fo_core.dialogue import events as ev
from fo_core.dialogue.commands import Command, Played
from fo_core.dialogue.speech.ducking import Ducking
from fo_core.streaming import SAMPLE_RATE


class Sink(Protocol):
    """What a live talk needs of :class:`Talk` and :class:`Duplex`."""

    def send(self, command: Command) -> None:
        """Ask for something."""
        ...


@dataclass
class GaveWay:
    """One time that a reply gave way to a voice. Times are user samples."""

    onset: int  # the voice began
    last_audio: int  # the last sample of the reply before it gave way was played
    resumed: int | None = None  # it was to go on; None: it never did


@dataclass
class LiveTurn:
    """One turn as it was lived through. Times are user samples; None: it did not come to that."""

    number: int
    how: str  # how the user's turn ended
    start: int  # the user's voice began
    end: int  # ... and ended
    decided: int  # the model knew that the turn was over
    question: str = ""  # what the CTC head heard, or what was typed
    answer: str = ""  # all that was written
    heard: str | None = None  # what the history keeps of it, if it was interrupted
    first_audio: int | None = None  # the first sample of the reply was played
    last_audio: int | None = None  # the newest sample of the reply was played
    played: int = 0  # samples of the reply that were played
    made: int = 0  # ... that were made
    interrupted_by: int | None = None  # user sample at which the voice began that stopped it
    stopped: int | None = None  # when the order to stop came
    speculated: str = "no"  # whether the reply was begun before the decision, as ReplyStarted says
    gave_way: list[GaveWay] = field(default_factory=list)

    def latencies(self) -> dict[str, float | None]:
        """Milliseconds: user's voice ends → decision → first audio; interruption → last audio."""

        def between(start: int | None, end: int | None) -> float | None:
            return None if start is None or end is None else 1000 * (end - start) / SAMPLE_RATE

        slowest = max(self.gave_way, key=lambda way: way.last_audio - way.onset, default=None)
        return {
            "decision_ms": between(self.end, self.decided),
            "first_audio_ms": between(self.decided, self.first_audio),
            "response_ms": between(self.end, self.first_audio),
            "stop_ms": between(self.interrupted_by, self.last_audio),
            "stop_after_decision_ms": between(self.stopped, self.last_audio),
            "give_way_ms": between(slowest.onset, slowest.last_audio) if slowest else None,
        }


@dataclass
class _Piece:
    turn: int
    part: int
    audio: np.ndarray


@dataclass
class Live:
    """Plays one talk's replies and keeps its story.

    :meth:`see` takes the events, :meth:`play` gives the loudspeaker its samples; both may be called
    from different threads.

    Args:
        talk: Is told how much was played.
        rate: Samples a second of the replies.
    """

    talk: Sink
    rate: int
    turns: list[LiveTurn] = field(default_factory=list)  # that were answered
    dismissed: int = 0  # turns that wanted no answer
    state: str = "idle"
    spoken: deque[str] = field(default_factory=deque)  # pieces of text that began to sound
    yielded: Literal["", "pause", "duck"] = ""  # how the reply gives way now
    clock: int = 0  # user samples that the loudspeaker has played along with
    _queue: deque[_Piece] = field(default_factory=deque)
    _texts: dict[tuple[int, int], str] = field(default_factory=dict)
    _starts: dict[int, int] = field(default_factory=dict)  # where voices began, by turn
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._ducking = Ducking(self.rate)

    def see(self, event: ev.DuplexEvent) -> None:
        """Something happened in the dialogue."""
        with self._lock:
            self._see(event)

    def _see(self, event: ev.DuplexEvent) -> None:
        if isinstance(event, ev.StateChanged):
            self.state = event.state.value
        elif isinstance(event, ev.SpeechStarted):
            self._starts[event.turn] = event.start
        elif isinstance(event, ev.TurnEnded):
            if event.how in ev.DISMISSED:
                self.dismissed += 1
            else:
                self.turns.append(LiveTurn(event.turn, event.how, event.start, event.end, event.at))
        elif isinstance(event, ev.Transcript) and (turn := self._turn(event.turn)):
            turn.question = event.text
        elif isinstance(event, ev.ReplyStarted) and (turn := self._turn(event.turn)):
            turn.speculated = event.speculated
        elif isinstance(event, ev.TextDelta):
            key = event.turn, event.part
            self._texts[key] = self._texts.get(key, "") + event.text
            if turn := self._turn(event.turn):
                turn.answer += event.text
        elif isinstance(event, ev.AudioDelta):
            self._queue.append(_Piece(event.turn, event.part, event.audio))
        elif isinstance(event, ev.ReplyDone) and (turn := self._turn(event.turn)):
            turn.made = event.samples
            if not event.samples:
                self._say_rest(event.turn)
        elif isinstance(event, ev.Yielded):
            self.yielded = event.by
            self._ducking.low = event.by == "duck"
            if turn := self._turn(event.turn):
                last = event.onset if turn.last_audio is None else turn.last_audio
                turn.gave_way.append(GaveWay(event.onset, max(last, event.onset)))
        elif isinstance(event, ev.Resumed):
            self._go_on(event.turn)
        elif isinstance(event, ev.Interrupted):
            self.yielded = ""
            self._ducking.reset()
            self._queue = deque(p for p in self._queue if p.turn != event.turn)
            if turn := self._turn(event.turn):
                turn.heard = event.text
                turn.stopped = event.at
                turn.interrupted_by = self._starts.get(max(self._starts, default=-1))

    def _go_on(self, number: int) -> None:
        turn, self.yielded, self._ducking.low = self._turn(number), "", False
        if turn and turn.gave_way and turn.gave_way[-1].resumed is None:
            turn.gave_way[-1].resumed = self.clock

    def _turn(self, number: int) -> LiveTurn | None:
        return next((turn for turn in reversed(self.turns) if turn.number == number), None)

    def _say_rest(self, turn: int) -> None:
        """Text without sound."""
        for key in sorted(k for k in self._texts if k[0] == turn):
            self.spoken.append(self._texts.pop(key))

    def play(self, count: int) -> np.ndarray:
        """The next ``count`` samples for the loudspeaker: replies, or silence."""
        out = np.zeros(count, np.float32)
        told: tuple[int, int] | None = None
        with self._lock:
            filled = 0
            while filled < count and self._queue and self.yielded != "pause":
                piece = self._queue[0]
                size = min(count - filled, piece.audio.size)
                out[filled : filled + size] = self._ducking.apply(piece.audio[:size])
                self._heard(piece, filled, size)
                filled += size
                if size == piece.audio.size:
                    self._queue.popleft()
                else:
                    piece.audio = piece.audio[size:]
                turn = self._turn(piece.turn)
                told = (turn.played, piece.turn) if turn else None
            self.clock += round(count * SAMPLE_RATE / self.rate)
        if told is not None:
            self.talk.send(Played(*told))
        return out

    def _heard(self, piece: _Piece, offset: int, size: int) -> None:
        text = self._texts.pop((piece.turn, piece.part), None)
        if text is not None:
            self.spoken.append(text)
        turn = self._turn(piece.turn)
        if turn is None:
            return
        at = self.clock + round(offset * SAMPLE_RATE / self.rate)
        turn.first_audio = at if turn.first_audio is None else turn.first_audio
        turn.last_audio = at + round(size * SAMPLE_RATE / self.rate)
        turn.played += size

    @property
    def playing(self) -> bool:
        """Whether audio waits to be played."""
        return bool(self._queue)
