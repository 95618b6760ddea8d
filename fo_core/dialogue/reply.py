"""One answer on its way: the LLM writes, the speech decoder speaks; the same offline and live.

Whoever runs it decides how: a live dialogue interleaves its steps with hearing (and a pool with
those of other users), :meth:`ReplyJob.events` runs them at once.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fo_core.dialogue.ahead import Ahead
from fo_core.dialogue.history import Turn
from fo_core.dialogue.speaker import Speaker
from fo_core.dialogue.writer import Part, Writer
from fo_core.models.steps import Steps, drive


@dataclass(frozen=True)
class ReplyEvent:
    """One thing that happened while answering, in order."""

    kind: Literal["text", "audio"]
    seconds: float  # since the reply began
    part: int  # piece of the answer
    text: str = ""  # kind text: as the LLM wrote it
    audio: Tensor | None = None  # kind audio: [S] float32 in [-1, 1], at the codec's rate


class ReplyJob:
    """The answer to a turn.

    Args:
        turn: Whose answer; its pieces are noted there.
        read: Lets the LLM read the end of the question; gives the writer.
        speaker: Speaks the pieces; None: the answer is text only.
    """

    def __init__(self, turn: Turn, read: Steps[Writer], speaker: Speaker | None) -> None:
        self.turn, self.speaker = turn, speaker
        self._read = read
        self._writer: Writer | None = None

    @property
    def writer(self) -> Writer:
        """Who writes the answer, once :meth:`start` is over."""
        assert self._writer is not None, "start first"
        return self._writer

    def start(self) -> Steps[None]:
        """Read the question to its end."""
        self.turn.asked = time.perf_counter()
        self._writer = yield from self._read

    def write(self) -> Steps[list[Part]]:
        """One token further: the pieces that are complete now (most often none)."""
        parts = yield from self.writer.advance()
        self.turn.parts += parts
        return parts

    def say(self, part: Part, heard: Callable[[Tensor], None]) -> Steps[None]:
        """Speak a piece; ``heard`` takes its audio [S] as it comes."""
        assert self.speaker is not None, "a reply in text is not spoken"
        utterance = self.speaker.begin(part)
        while not utterance.done:
            for audio in (yield from self.speaker.advance(utterance)):
                heard(audio)

    def events(self, ahead: bool) -> Generator[ReplyEvent, None, None]:
        """Run it alone; text and audio come as soon as they can be shown and played.

        Args:
            ahead: The LLM writes on in a thread while a piece is spoken, but only from the first
                audio on, which it would delay; the result does not depend on it.
        """
        drive(self.start())
        go_on: queue.SimpleQueue[bool] | None = None  # whether to write more than the first piece
        if self.speaker is not None and ahead:
            go_on = queue.SimpleQueue()
        written = self._written(go_on)
        thread = Ahead(written) if go_on is not None else None
        parts = iter(thread or written)  # kept here: dropped early, it would wait for the writer
        try:
            for part in parts:
                yield ReplyEvent("text", self._seconds(), part.index, part.segment.text_raw)
                for audio in self.speaker.speak(part) if self.speaker else ():
                    seconds = self._seconds()
                    if go_on is not None:
                        go_on.put(True)
                    yield ReplyEvent("audio", seconds, part.index, audio=audio)
                if go_on is not None:
                    go_on.put(True)
        finally:
            if go_on is not None and thread is not None:
                go_on.put(False)
                thread.close()

    def _seconds(self) -> float:
        return time.perf_counter() - self.turn.asked

    def _written(self, go_on: queue.SimpleQueue[bool] | None) -> Iterator[Part]:
        while not self.writer.done:
            for part in drive(self.write()):
                yield part
                if go_on is not None and part.index == 0 and not go_on.get():
                    return
