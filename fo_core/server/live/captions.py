"""The words of replies as they are heard, with their place on the session's timeline.

The protocol has no event that takes words back, so a piece of an answer is told when its audio was
sent to its end; of a reply that is cut off, the rest that the history keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fo_core.dialogue import events as ev
from fo_core.dialogue.recent import Recent
from fo_core.server.responses import Event
from fo_core.server.wire import SPEECH_RATE

KEPT_TURNS = 64  # whose audio may still be played
KIND = "session.output_transcript.delta"


@dataclass
class _Piece:
    part: int
    text: str
    start: int | None = None  # reply samples; None: no audio came
    stop: int = 0
    whole: bool = False  # nothing more of it will come
    began: int | None = None  # when it was first heard, ms


@dataclass
class _Reply:
    pieces: list[_Piece] = field(default_factory=list)  # that were not told
    said: str = ""  # what was told
    played: int = 0  # reply samples
    clock: int = 0  # when that was known, ms


class Captions:
    """Follows replies and what is played of them.

    Args:
        clock: Milliseconds since the session began.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._replies: Recent[int, _Reply] = Recent(KEPT_TURNS)
        self._ready: list[Event] = []

    def take(self) -> list[Event]:
        """The events that are due, in order."""
        found, self._ready = self._ready, []
        return found

    def heard(self, turn: int, position: int) -> None:
        """So many samples of a turn's reply were sent."""
        reply = self._replies.get(turn)
        if reply is None:
            return
        reply.played, reply.clock = position, self._clock()
        for piece in reply.pieces:
            if piece.began is None and piece.start is not None and position > piece.start:
                piece.began = self._at(reply, piece.start)
        self._settle(reply)

    def follow(self, event: ev.DuplexEvent) -> None:
        """Something happened in the talk."""
        if isinstance(event, ev.ReplyStarted):
            self._replies[event.turn] = _Reply()
        turn = getattr(event, "turn", None)
        reply = self._replies.get(turn) if isinstance(turn, int) else None
        if reply is None:
            return
        if isinstance(event, ev.TextDelta):
            if not reply.pieces or reply.pieces[-1].part != event.part:
                reply.pieces.append(_Piece(event.part, ""))
            reply.pieces[-1].text += event.text
        elif isinstance(event, ev.AudioDelta):
            stop = event.position + len(event.audio)
            for piece in reply.pieces:
                piece.whole |= piece.part < event.part
                if piece.part == event.part:
                    piece.start = event.position if piece.start is None else piece.start
                    piece.stop = stop
            self._settle(reply)
        elif isinstance(event, ev.ReplyDone):
            for piece in reply.pieces:
                piece.whole = True
            self._settle(reply)
        elif isinstance(event, ev.Interrupted):
            self._cut(reply, event.text)
            self._replies.pop(event.turn)

    def _at(self, reply: _Reply, sample: int) -> int:
        """When a sample that was sent was sent, ms."""
        return max(0, reply.clock - (reply.played - sample) * 1000 // SPEECH_RATE)

    def _settle(self, reply: _Reply) -> None:
        """Tell the pieces that were heard to their end; those without audio go with them."""
        while reply.pieces and reply.pieces[0].whole and reply.played:
            piece = reply.pieces[0]
            if piece.start is not None and reply.played < piece.stop:
                return
            end = reply.clock if piece.start is None else self._at(reply, piece.stop)
            self._tell(reply, piece.text, piece.began, end)
            reply.pieces.pop(0)

    def _cut(self, reply: _Reply, kept: str) -> None:
        rest = kept[len(reply.said) :] if kept.startswith(reply.said) else ""
        if rest and reply.pieces:
            self._tell(reply, rest, reply.pieces[0].began, self._clock())

    def _tell(self, reply: _Reply, text: str, began: int | None, end: int) -> None:
        reply.said += text
        if text:
            start = end if began is None else min(began, end)
            self._ready.append({"type": KIND, "delta": text, "start_ms": start, "end_ms": end})
