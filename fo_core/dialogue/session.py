"""One user's conversation: chunks of speech in, decisions, text and audio out.

A session owns all that belongs to one user (caches of features, encoder, adapter and LLM, the
history); the model belongs to nobody and serves any number of sessions. The cost of a chunk does
not grow with the talk, but for the LLM's attention over what was said. A turn that wants no answer
leaves no trace in the LLM's cache.
"""

from __future__ import annotations

import copy
import dataclasses
import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from fo_core.dialogue.ahead import Ahead
from fo_core.dialogue.listener import Heard, Listener
from fo_core.dialogue.segmenter import Segmenter
from fo_core.dialogue.settings import DialogueConfig
from fo_core.dialogue.speaker import Speaker
from fo_core.dialogue.states import (
    DialogueState,
    Event,
    StateProbabilities,
    decide,
    transition,
)
from fo_core.dialogue.writer import Answer, Part, Writer
from fo_core.models.chat import encode
from fo_core.models.freeze_omni import FreezeOmni

ROOM = 1024  # positions of the LLM's cache that are allocated at once


@dataclass(frozen=True)
class Verdict:
    """What one chunk meant."""

    event: Event  # KEEP, ANSWER or IGNORE
    probabilities: StateProbabilities


@dataclass(frozen=True)
class ReplyEvent:
    """One thing that happened while answering, in order."""

    kind: Literal["text", "audio"]
    seconds: float  # since the reply began
    part: int  # piece of the answer
    text: str = ""  # kind text: as the LLM wrote it
    audio: Tensor | None = None  # kind audio: [S] float32 in [-1, 1], at the codec's rate


@dataclass
class Turn:
    """One finished or running turn."""

    start: int  # length of the LLM's cache before it
    chunks: int = 0  # heard
    event: Event = Event.KEEP  # how the question ended
    answer: Answer | None = None
    parts: list[Part] = field(default_factory=list)  # pieces of the answer, as written so far
    asked: float = 0.0  # time.perf_counter() when the reply began
    prefilled: float = 0.0  # when the LLM had read the question to its end

    def copy(self) -> Turn:
        """A copy whose answer can be cut without changing this one's."""
        answer = self.answer and dataclasses.replace(
            self.answer, token_ids=[*self.answer.token_ids]
        )
        return dataclasses.replace(self, parts=[*self.parts], answer=answer)


class Session:
    """One user.

    Args:
        model: Shared with other sessions; in eval mode.
        cfg: How it talks; default: a :class:`DialogueConfig`.
        system: System text instead of the model's own.
    """

    def __init__(
        self, model: FreezeOmni, cfg: DialogueConfig | None = None, system: str | None = None
    ) -> None:
        self.model, self.cfg = model, cfg or DialogueConfig()
        self.parts = model.chat if system is None else model.chat_for(system)
        self.state = DialogueState.IDLE
        self.turns: list[Turn] = []
        self.speaker: Speaker | None = None  # of the newest answer
        self._llm = model.llm.init_state(1, ROOM)
        self._listener = Listener(model)
        self._recent: list[StateProbabilities] = []
        if self.parts.system_ids:
            self._feed(model.llm.embed(self.parts.system_ids))

    # --- listening ---

    def start(self, before: Sequence[Tensor] = ()) -> list[Verdict]:
        """The voice began: hear the chunks before it, which cannot end the turn.

        Args:
            before: The last ``history_chunks`` chunks [2560] before the voice was noticed.
        """
        verdicts: list[Verdict] = []
        for index, chunk in enumerate(before):
            skip = index == 1 and verdicts[0].event is not Event.KEEP
            if skip and self.cfg.compat == "official":  # a slip of the published server
                self._listener.skip(chunk)
                continue
            verdicts.append(self.listen(chunk, may_end=False))
        return verdicts

    def listen(self, chunk: Tensor, may_end: bool = True) -> Verdict:
        """Hear 160 ms.

        Args:
            chunk: Wave [S] at 16 kHz in [-1, 1], S <= 2560.
            may_end: False: whatever the state head says, the turn goes on.

        Returns:
            What the chunk meant by itself; :attr:`state` says what followed from it.
        """
        self._begin()
        return self._judge(self._listener.hear(chunk), may_end)

    def listen_features(self, feats: Tensor, may_end: bool = True) -> Verdict:
        """As :meth:`listen`, from the chunk's 16 new feature frames [1, 16, mel]."""
        self._begin()
        return self._judge(self._listener.hear_features(feats), may_end)

    def hear_text(self, text: str) -> None:
        """A typed question in place of a spoken one; :meth:`reply` answers it."""
        self._begin()
        self._feed(self._opening(), self.model.llm.embed(encode(self.model.llm.tokenizer, text)))
        self.end_turn()

    def end_turn(self) -> None:
        """No more input will come: what was heard is to be answered."""
        self.state = transition(self.state, Event.INPUT_END)
        self.turns[-1].event = Event.INPUT_END

    def _begin(self) -> None:
        if self.state in (DialogueState.SPEAKING, DialogueState.JUDGING):
            raise ValueError("a session that speaks hears nothing: judge the user on a fork()")
        if self.state is DialogueState.IDLE:
            self.state = transition(self.state, Event.SPEECH_START)
            self.turns.append(Turn(start=self._llm.length))
            official = self.cfg.compat == "official"
            self._listener = Listener(self.model, self._listener if official else None)
            self._recent = []

    def _opening(self) -> list[Tensor]:
        """What comes before the turn's audio: template, prompt embeddings."""
        first = self.turns[-1].start == len(self.parts.system_ids)
        return [self.model.llm.embed(self.parts.opening(first)), self.model.prompt(1)]

    @torch.inference_mode()
    def _feed(self, *vectors: Tensor | list[Tensor]) -> Tensor | None:
        """Feed [1, N, H] vectors to the LLM; the last state [1, 1, H], None if there are none."""
        flat = [v for item in vectors for v in (item if isinstance(item, list) else [item])]
        flat = [v.to(self.model.llm.dtype) for v in flat if v.shape[1]]
        if not flat:
            return None
        hidden, self._llm = self.model.llm.step(torch.cat(flat, dim=1), self._llm)
        return hidden[:, -1:]

    @torch.inference_mode()
    def _judge(self, heard: Heard, may_end: bool) -> Verdict:
        turn, head = self.turns[-1], self.model.state_head
        hidden = self._feed(self._opening() if turn.chunks == 0 else [], heard.embeds)
        turn.chunks += 1
        if head.has_probe:  # fed, read, and forgotten
            length = self._llm.length
            hidden = self._feed(head.probe(heard.encoded))
            self._llm.crop(length)
        assert hidden is not None, "a chunk without vectors needs a probe to be judged"
        listen, answer, ignore = head.probabilities(hidden)[0, -1].tolist()
        self._recent.append(StateProbabilities(listen, answer, ignore))
        event = decide(self.cfg.states, self._recent)
        if may_end and self.cfg.mode == "server":
            self._follow(event)
        return Verdict(event, self._recent[-1])

    def _follow(self, event: Event) -> None:
        self.state = transition(self.state, event)
        turn = self.turns[-1]
        turn.event = event
        if event is Event.IGNORE:
            self._llm.crop(turn.start)

    # --- answering ---

    def reply(self, speak: bool = True) -> Iterator[ReplyEvent]:
        """Answer what was heard; text and audio come as soon as they can be shown and played.

        The LLM writes on while a piece is spoken, but only from the first audio on, which it would
        delay; the result does not depend on it. A consumer that stops early closes the iterator;
        :meth:`forget` then drops what nobody heard.

        Args:
            speak: False: text only.
        """
        if self.state not in (DialogueState.SPEAKING, DialogueState.JUDGING):
            raise ValueError("nothing to answer: end the turn first")
        turn = self.turns[-1]
        turn.asked = time.perf_counter()
        if speak:
            self.model.require("speech_decoder", "codec")
        writer = self._writer(turn)
        self.speaker = Speaker(self.model, self.cfg.speaker, self._generator(1)) if speak else None
        go_on: queue.SimpleQueue[bool] | None = None  # whether to write more than the first piece
        if speak and self.cfg.write_ahead:
            go_on = queue.SimpleQueue()
        written = self._noted(writer.parts(), turn, go_on)
        ahead = Ahead(written) if go_on is not None else None
        parts = iter(ahead or written)  # kept here: dropped early, it would wait for the writer
        try:
            for part in parts:
                seconds = time.perf_counter() - turn.asked
                yield ReplyEvent("text", seconds, part.index, part.segment.text_raw)
                for audio in self.speaker.speak(part) if self.speaker else ():
                    seconds = time.perf_counter() - turn.asked
                    if go_on is not None:
                        go_on.put(True)
                    yield ReplyEvent("audio", seconds, part.index, audio=audio)
                if go_on is not None:
                    go_on.put(True)
        finally:
            if go_on is not None and ahead is not None:
                go_on.put(False)
                ahead.close()
            if self.state is not DialogueState.IDLE:
                self.state = transition(self.state, Event.REPLY_DONE)

    def forget(self, parts: int) -> None:
        """Drop from the history all of the newest answer but its first ``parts`` pieces."""
        turn = self.turns[-1]
        if turn.answer is None or parts >= len(turn.parts):
            return
        stop = turn.parts[parts - 1].segment.stop if parts else 0
        self._llm.crop(min(self._llm.length, turn.answer.start + stop))
        del turn.parts[parts:], turn.answer.token_ids[stop:]
        turn.answer.text = "".join(part.segment.text_raw for part in turn.parts)

    def fork(self, parts: int | None = None) -> Session:
        """A copy that can listen while this one speaks (for barge-in).

        Args:
            parts: Pieces of the running answer that were played; the copy knows only these.
        """
        twin = copy.copy(self)
        twin._llm = self._llm.fork(ROOM)
        twin.turns = [turn.copy() for turn in self.turns]
        twin.state, twin._recent = DialogueState.IDLE, []
        if parts is not None and twin.turns:
            twin.forget(parts)
        return twin

    @property
    def length(self) -> int:
        """Positions of the LLM's cache in use."""
        return self._llm.length

    def _noted(
        self, parts: Iterator[Part], turn: Turn, go_on: queue.SimpleQueue[bool] | None
    ) -> Iterator[Part]:
        for part in parts:
            turn.parts.append(part)
            yield part
            if go_on is not None and part.index == 0 and not go_on.get():
                return

    def _writer(self, turn: Turn) -> Writer:
        """Feed the end of the question and get ready to write."""
        llm = self.model.llm
        suffix = llm.embed(self.parts.user_suffix_ids)
        hidden = self._feed(self._listener.flush() if turn.chunks else [], suffix)
        assert hidden is not None
        turn.prefilled = time.perf_counter()
        segmenter = Segmenter(llm.tokenizer, self.cfg.segmenter)
        writer = Writer(llm, self._llm, hidden, segmenter, self.cfg.sampling, self._generator(0))
        turn.answer = writer.answer
        return writer

    def _generator(self, lane: int) -> torch.Generator:
        generator = torch.Generator(self.model.llm.device)
        return generator.manual_seed(self.cfg.seed * 1_000_003 + 2 * len(self.turns) + lane)
