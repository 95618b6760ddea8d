"""The audio of replies on its way to a client, sent no faster than it is heard.

Over WebRTC the server is the one that plays: it sends 20 ms every 20 ms, so it knows how much of a
reply the user can have heard, and what is not sent yet can still be dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fo_core.dialogue.speech.ducking import Ducking
from fo_core.server.wire import SPEECH_RATE

FADE = SPEECH_RATE // 200  # samples over which a reply that is cut off falls silent
CUT = -1  # in place of a turn: the end of a reply that was cut off
TELL = SPEECH_RATE // 10  # samples between two words about the position
Change = Literal["started", "stopped", "cleared"]
GivesWay = Literal["pause", "duck"]


@dataclass
class _Piece:
    turn: int
    position: int  # reply sample of its first sample
    wave: np.ndarray  # float32 [S] at 24 kHz


class Playout:
    """What is still to be sent of replies, in order; used in the event loop's thread only.

    Args:
        played: Told the turn and how many samples of its reply were sent, every 100 ms and at the
            end of what there is.

    Attributes:
        changed: Set where there are changes.
    """

    def __init__(self, played: Callable[[int, int], None]) -> None:
        self.changed = asyncio.Event()
        self._yielded: tuple[int, GivesWay] | None = None  # turn of a reply that gives way, and how
        self._ducking = Ducking(SPEECH_RATE)
        self._changes: list[tuple[Change, int]] = []
        self._played = played
        self._pieces: deque[_Piece] = deque()
        self._turn: int | None = None  # that is played: it has started and did not stop
        self._position = self._told = 0  # samples of its reply that were sent, and told
        self._made: set[int] = set()  # turns of which nothing more will come
        self._cut: set[int] = set()  # turns that were cut off and are still being made

    @property
    def turn(self) -> int | None:
        """Whose reply is being played."""
        return self._turn

    @property
    def waiting(self) -> int:
        """Samples that are to be sent."""
        return sum(len(piece.wave) for piece in self._pieces)

    def add(self, turn: int, position: int, wave: np.ndarray) -> None:
        """More of a reply: float32 [S] at 24 kHz, from this reply sample on."""
        if turn not in self._cut and len(wave):
            self._pieces.append(_Piece(turn, position, wave))

    def made(self, turn: int) -> None:
        """Nothing more will come of this turn's reply."""
        if turn in self._cut:
            self._cut.discard(turn)
        elif turn == self._turn or any(piece.turn == turn for piece in self._pieces):
            self._made.add(turn)
            self._stop_if_over()

    def cut(self, turn: int, still_made: bool = True) -> None:
        """Drop what was not sent of a turn's reply.

        Args:
            turn: Whose reply.
            still_made: More of it may come, to be dropped too.
        """
        if still_made and turn not in self._made:
            self._cut.add(turn)
        self._made.discard(turn)
        still = self._yielded == (turn, "pause")
        self.go_on(turn)
        rest = next((piece for piece in self._pieces if piece.turn == turn), None)
        self._pieces = deque(piece for piece in self._pieces if piece.turn != turn)
        if turn != self._turn:
            return
        if rest is not None and not still:  # a few milliseconds that fade, in place of a click
            tail = self._ducking.apply(rest.wave[:FADE])
            tail = tail * np.linspace(1, 0, len(tail), dtype=np.float32)
            self._pieces.appendleft(_Piece(CUT, 0, tail))
        self._ducking.reset()
        self._tell()
        self._turn = None
        self._note("cleared", turn)

    def give_way(self, turn: int, by: GivesWay) -> None:
        """A turn's reply stands still, or goes on in a low voice, while a voice is judged."""
        self._yielded = turn, by

    def go_on(self, turn: int) -> None:
        """It goes on with the sample after the last one, in full voice."""
        if self._yielded is not None and self._yielded[0] == turn:
            self._yielded = None

    def take(self, samples: int) -> np.ndarray:
        """The next float32 [samples], which are sent now; silence where there is nothing."""
        out = np.zeros(samples, np.float32)
        filled = 0
        while filled < samples and self._pieces:
            piece = self._pieces[0]
            if self._yielded == (piece.turn, "pause"):
                break
            part = piece.wave[: samples - filled]
            if piece.turn not in (self._turn, CUT):
                self._ducking.reset()
            self._ducking.low = self._yielded == (piece.turn, "duck")
            out[filled : filled + len(part)] = self._ducking.apply(part)
            filled += len(part)
            if piece.turn != CUT:
                self._sent(piece.turn, piece.position + len(part))
            if len(part) == len(piece.wave):
                self._pieces.popleft()
            else:
                piece.wave, piece.position = piece.wave[len(part) :], piece.position + len(part)
            self._stop_if_over()
        return out

    def changes(self) -> list[tuple[Change, int]]:
        """What became of the buffer since this was asked last, with the turn, in order."""
        found, self._changes = self._changes, []
        self.changed.clear()
        return found

    def _note(self, change: Change, turn: int) -> None:
        self._changes.append((change, turn))
        self.changed.set()

    def _sent(self, turn: int, position: int) -> None:
        if turn != self._turn:
            self._stop()
            self._turn, self._told = turn, 0
            self._note("started", turn)
        self._position = position
        if position - self._told >= TELL or not self._pieces:
            self._tell()

    def _tell(self) -> None:
        if self._turn is not None and self._position > self._told:
            self._told = self._position
            self._played(self._turn, self._position)

    def _stop_if_over(self) -> None:
        playing = any(piece.turn == self._turn for piece in self._pieces)
        if self._turn in self._made and not playing:
            self._stop()

    def _stop(self) -> None:
        if self._turn is not None:
            self._tell()
            self._made.discard(self._turn)
            self._note("stopped", self._turn)
            self._turn = None
