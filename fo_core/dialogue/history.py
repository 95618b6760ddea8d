"""What was said: the turns of a dialogue, and how much of an answer its listener has heard."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from fo_core.dialogue.speech.segmenter import Segment, Tokenizer
from fo_core.dialogue.speech.writer import Answer
from fo_core.models.llm.tools import ToolResult
from fo_core.models.state_stream import StateStream


@dataclass
class Turn:
    """One finished or running turn."""

    start: int  # length of the LLM's cache before it
    number: int = 0  # the application's own count
    open: bool = False  # the user may still add to it
    chunks: int = 0  # heard
    voiced: bool = False  # a voice was found in it
    heard: list[Tensor] = field(default_factory=list)  # [1, N, H] each: what the LLM read of it
    # when a voice was found in it last: positions of the LLM's cache, and entries of ``heard``
    last_voice: tuple[int, int] | None = None
    classes: list[Tensor] = field(default_factory=list)  # [T] each: best CTC classes of its frames
    states: StateStream = field(default_factory=StateStream)  # what the state head keeps of it
    results: tuple[ToolResult, ...] = ()  # of function calls: ``heard`` is then the whole message
    suffix_ids: list[int] | None = None  # before the assistant speaks; None: as after audio
    answer: Answer | None = None
    pieces: list[Segment] = field(default_factory=list)  # of the answer, as written so far

    def keep(self, embeds: Tensor, classes: Tensor | None = None) -> bool:
        """Keep vectors [1, N, H] that the LLM reads, and CTC classes [T]; whether N > 0."""
        if classes is not None:
            self.classes.append(classes)
        if embeds.shape[1]:
            self.heard.append(embeds)
        return embeds.shape[1] > 0

    def copy(self) -> Turn:
        """A copy whose answer can be cut without changing this one's."""
        answer = self.answer and dataclasses.replace(
            self.answer, token_ids=[*self.answer.token_ids]
        )
        return dataclasses.replace(
            self, pieces=[*self.pieces], answer=answer, heard=[*self.heard],
            classes=[*self.classes], states=dataclasses.replace(self.states),
        )  # fmt: skip

    def cut(self, tokens: int, tokenizer: Tokenizer) -> None:
        """Keep the first ``tokens`` of the answer."""
        assert self.answer is not None
        self.pieces = [piece for piece in self.pieces if piece.stop <= tokens]
        del self.answer.token_ids[tokens:]
        self.answer.text = tokenizer.decode(self.answer.token_ids, skip_special_tokens=True)


@dataclass
class Spoken:
    """Where the audio of a piece of the answer lies in the reply."""

    start: int  # reply sample
    stop: int  # ... of what was made so far
    whole: bool = False  # nothing of the piece is still to come


SECONDS_A_TOKEN = 0.3  # of speech for a token of text: for pieces whose length is not known yet


def tokens_heard(
    turn: Turn, spoken: Sequence[Spoken], played: int, rate: int, tokenizer: Tokenizer
) -> int:
    """How many tokens of an answer were heard when so much of its audio was played.

    Exact at the ends of pieces; inside of a piece the tokens are taken to be equally long, and a
    word that was not heard to its end does not count.

    Args:
        turn: With the answer and its pieces.
        spoken: Audio of its first pieces, in order.
        played: Samples of the reply.
        rate: Samples a second.
        tokenizer: The LLM's.
    """
    if turn.answer is None:
        return 0
    for segment, sound in zip(turn.pieces, spoken, strict=False):
        if sound.whole and played >= sound.stop:
            continue
        count = segment.stop - segment.start
        length = sound.stop - sound.start
        if not sound.whole:
            length = max(length, round(count * SECONDS_A_TOKEN * rate))
        share = max(0, played - sound.start) / max(length, 1)
        tokens = segment.start + min(count, int(share * count))
        return _whole_words(turn.answer.token_ids, segment.start, tokens, segment.stop, tokenizer)
    if len(spoken) < len(turn.pieces):  # the next piece is written and has no audio yet
        return turn.pieces[len(spoken)].start
    if turn.answer.ended:
        return len(turn.answer.token_ids)
    return turn.pieces[-1].stop if turn.pieces else 0


def _whole_words(ids: list[int], start: int, tokens: int, stop: int, tokenizer: Tokenizer) -> int:
    """The most tokens, between ``start`` and ``tokens``, that end with a word's end."""
    text = tokenizer.decode(ids[:stop], skip_special_tokens=True)
    while tokens > start:
        said = tokenizer.decode(ids[:tokens], skip_special_tokens=True)
        after = text[len(said) : len(said) + 1]
        if text.startswith(said) and not (said[-1:].isalnum() and after.isalnum()):
            return tokens
        tokens -= 1
    return start
