"""One user's conversation: chunks of speech in, decisions, text and audio out.

A session owns all that belongs to one user (caches of features, encoder, adapter and LLM, the
history); the model belongs to nobody and serves any number of sessions. The cost of a chunk does
not grow with the talk, but for the LLM's attention over what was said. A turn that wants no answer
leaves no trace in the LLM's cache.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fo_core.dialogue import prompt_cache
from fo_core.dialogue.events import Usage
from fo_core.dialogue.history import Turn
from fo_core.dialogue.listener import Heard, Listener
from fo_core.dialogue.reply import ReplyEvent, ReplyJob
from fo_core.dialogue.segmenter import Segmenter
from fo_core.dialogue.settings import DialogueConfig, effective_context
from fo_core.dialogue.speaker import Speaker
from fo_core.dialogue.states import (
    DialogueState,
    Event,
    StateProbabilities,
    decide,
    transition,
)
from fo_core.dialogue.tool_calls import CallSegmenter, ToolConfig
from fo_core.dialogue.writer import Writer
from fo_core.models.encoder.ctc import collapse
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.chat import ChatParts, encode
from fo_core.models.llm.tools import ToolResult, results_ids
from fo_core.models.steps import LLMRequest, Steps, drive

ROOM = 1024  # positions of the LLM's cache that are allocated at once
ANSWER_ROOM = 256  # positions of the LLM's own context that a question leaves to its answer


@dataclass(frozen=True)
class Verdict:
    """What one chunk meant."""

    event: Event  # KEEP, ANSWER or IGNORE
    probabilities: StateProbabilities


class Session:
    """One user.

    What a model is asked goes through coroutines (``..._steps``), so that a pool can run the steps
    of many sessions together; the methods without that ending run them alone.

    Args:
        model: Shared with other sessions; in eval mode.
        cfg: How it talks; default: a :class:`DialogueConfig`.
        system: System text instead of the model's own.
        voice: Global tokens instead of the model's own voice.
        read: False: the system text is not read yet (``context.refeed_steps`` does).
    """

    def __init__(
        self,
        model: FreezeOmni,
        cfg: DialogueConfig | None = None,
        system: str | None = None,
        voice: Sequence[int] | None = None,
        read: bool = True,
    ) -> None:
        self.model, self.cfg = model, cfg or DialogueConfig()
        self.system, self.tools = system, ToolConfig()
        self.parts = self.parts_for(system, self.tools)
        self.context = effective_context(model.llm, self.cfg)
        model.llm.check_room(len(self.parts.system_ids), "the system text", self.context)
        self.state = DialogueState.IDLE
        self.turns: list[Turn] = []
        self.speaker: Speaker | None = None  # of the newest answer
        self.writer: Writer | None = None  # ... and who writes it
        self.voice = voice
        self.forgotten = 0  # turns that are no longer in the list
        self.cache = model.llm.init_state(1, ROOM)
        self._listener = Listener(model)
        self._recent: list[StateProbabilities] = []
        system_ids = self.parts.system_ids
        if read and system_ids and not prompt_cache.restore(model.llm, system_ids, self.cache):
            drive(self._feed(model.llm.embed(system_ids)))
            prompt_cache.keep(model.llm, system_ids, self.cache)

    def parts_for(self, system: str | None, tools: ToolConfig) -> ChatParts:
        """Ids around the audio slots for a system text (None: the model's own) and functions."""
        if system is not None:
            return self.model.chat_for(system, (), tools.offered)
        llm = self.model.config.llm
        return self.model.chat_for(llm.system, llm.shots, tools.offered)

    def suffix(self, turn: Turn) -> Tensor:
        """What comes behind a turn, up to where the assistant speaks: [1, N, H]."""
        ids = self.parts.user_suffix_ids if turn.suffix_ids is None else turn.suffix_ids
        return self.model.llm.embed(ids)

    # --- listening ---

    def listen(self, chunk: Tensor, may_end: bool = True, voiced: bool | None = None) -> Verdict:
        """Hear 160 ms.

        Args:
            chunk: Wave [S] at 16 kHz in [-1, 1], S <= 2560.
            may_end: False: whatever the state head says, the turn goes on.
            voiced: Whether a voice was found in the turn; None: nobody looked for one.

        Returns:
            What the chunk meant by itself; :attr:`state` says what followed from it.
        """
        self._begin()
        self.turns[-1].voiced = voiced
        return drive(self.listen_steps(chunk, may_end))

    def listen_steps(self, chunk: Tensor, may_end: bool = True) -> Steps[Verdict]:
        """:meth:`listen` as a coroutine."""
        self._begin()
        return (yield from self._judge(self._listener.hear(chunk), may_end))

    def onset_steps(self, before: Sequence[Tensor]) -> Steps[None]:
        """The voice began: hear the chunks before it, which cannot end the turn, in one LLM step.

        Args:
            before: The last ``history_chunks`` chunks [2560] before the voice was noticed.
        """
        self._begin()
        turn, vectors = self.turns[-1], []
        for chunk in before:
            heard = self._listener.hear(chunk)
            self._note(turn, heard)
            vectors.append(heard.embeds)
        if before:
            yield from self._feed(self._opening(), vectors)
            turn.chunks += len(before)

    def hear_text(self, text: str) -> None:
        """A typed question in place of a spoken one; :meth:`reply` answers it."""
        drive(self.text_steps(text))

    def text_steps(self, text: str) -> Steps[None]:
        """:meth:`hear_text` as a coroutine."""
        self._begin()
        vectors = self.model.llm.embed(encode(self.model.llm.tokenizer, text))
        self.turns[-1].heard.append(vectors)
        yield from self._feed(self._opening(), vectors)
        self.end_turn()

    def results_turn(self, number: int, results: Sequence[ToolResult]) -> Turn:
        """A turn in which functions gave back what they were asked for; it is not read yet."""
        llm, how = self.model.llm, self.model.tool_format
        ids, suffix = results_ids(llm.tokenizer, self.parts, how, results)
        return Turn(
            start=self.length,
            number=number,
            heard=[llm.embed(ids)],
            event=Event.INPUT_END,
            results=tuple(results),
            suffix_ids=suffix,
        )

    def results_steps(self, number: int, results: Sequence[ToolResult]) -> Steps[None]:
        """What functions gave back, in place of a question."""
        self._begin()
        turn = self.turns[-1] = self.results_turn(number, results)
        yield from self._feed(turn.heard)
        self.end_turn()

    def was_heard(self) -> bool:
        """Whether the running turn holds anything that can be answered.

        An adapter that hands on what was heard gives no vectors for silence, hum or noise. A
        convolutional one gives vectors for any sound: there the voice activity detector says it.
        """
        turn = self.turns[-1]
        if not self.model.adapter.requires_ctc:
            return turn.voiced is not False
        return bool(turn.heard) or self._listener.fork().flush().shape[1] > 0

    def end_turn(self) -> None:
        """No more input will come: what was heard is to be answered."""
        self.state = transition(self.state, Event.INPUT_END)
        self.turns[-1].event = Event.INPUT_END

    def drop_turn(self, event: Event = Event.IGNORE) -> None:
        """The running turn wants no answer (or was lost, or stopped): it leaves no trace."""
        self.state = transition(self.state, event)
        turn = self.turns[-1]
        turn.event = Event.IGNORE
        self.cache.crop(min(self.cache.length, turn.start))
        turn.heard.clear()

    def leave_turn(self) -> None:
        """The turn that ended stays unanswered, for now."""
        self.state = DialogueState.IDLE

    def take_up(self) -> bool:
        """Go back to the newest turn if it waits for an answer; whether it does."""
        waits = bool(self.turns) and self.turns[-1].answer is None
        if waits and self.state is DialogueState.IDLE and self.turns[-1].event is not Event.IGNORE:
            self.state = DialogueState.SPEAKING
        return self.state is DialogueState.SPEAKING

    @property
    def words(self) -> str:
        """What the CTC head heard in the newest turn; empty where it has no words."""
        classes = self.turns[-1].classes if self.turns else []
        if not classes:
            return ""
        written = self._listener.text
        if written is not None:
            return written
        return self.model.ctc_head.vocabulary.decode(collapse(torch.cat(classes)))

    def begin(self, number: int) -> None:
        """A turn begins, which the application calls ``number``."""
        self._begin()
        self.turns[-1].number = number

    def _begin(self) -> None:
        if self.state in (DialogueState.SPEAKING, DialogueState.JUDGING):
            raise ValueError("a session that speaks hears nothing: judge the user on a fork()")
        if self.state is DialogueState.IDLE:
            self.state = transition(self.state, Event.SPEECH_START)
            self.turns.append(Turn(start=self.cache.length))
            official = self.cfg.compat == "official"
            self._listener = Listener(self.model, self._listener if official else None)
            self._recent = []

    def _opening(self) -> list[Tensor]:
        """What comes before the turn's audio: template, prompt embeddings."""
        first = self.turns[-1].start == len(self.parts.system_ids)
        return [self.model.llm.embed(self.parts.opening(first)), self.model.prompt(1)]

    @staticmethod
    def _note(turn: Turn, heard: Heard) -> None:
        """Keep what the LLM reads of a chunk, to read it again."""
        if heard.embeds.shape[1]:
            turn.heard.append(heard.embeds)
        if heard.classes is not None:
            turn.classes.append(heard.classes)

    def _feed(self, *vectors: Tensor | list[Tensor]) -> Steps[Tensor | None]:
        """Feed [1, N, H] vectors to the LLM; the last state [1, 1, H], None if there are none."""
        flat = [v for item in vectors for v in (item if isinstance(item, list) else [item])]
        flat = [v.to(self.model.llm.dtype) for v in flat if v.shape[1]]
        if not flat:
            return None
        hidden = yield LLMRequest(self.model.llm, torch.cat(flat, dim=1), self.cache)
        return hidden[:, -1:]

    def _judge(self, heard: Heard, may_end: bool) -> Steps[Verdict]:
        turn, head = self.turns[-1], self.model.state_head
        self._note(turn, heard)
        opening = self._opening() if turn.chunks == 0 else []
        if head.left_out:
            yield from self._feed(opening, heard.embeds)
            turn.chunks += 1
            return Verdict(Event.KEEP, StateProbabilities(1.0, 0.0, 0.0))
        probe = [head.probe(heard.encoded)] if head.has_probe else []
        hidden = yield from self._feed(opening, heard.embeds, probe)
        turn.chunks += 1
        if probe:  # fed, read, and forgotten
            self.cache.crop(self.cache.length - 1)
        assert hidden is not None, "a chunk without vectors needs a probe to be judged"
        listen, answer, ignore = head.probabilities(hidden)[0, -1].tolist()
        self._recent.append(StateProbabilities(listen, answer, ignore))
        event = decide(self.cfg.states, self._recent)
        if may_end and self.cfg.mode == "server":
            self._follow(event)
        return Verdict(event, self._recent[-1])

    def _follow(self, event: Event) -> None:
        if event is Event.IGNORE:
            self.drop_turn()
            return
        if event is Event.ANSWER and not self.was_heard():
            return  # nothing was asked yet
        self.state = transition(self.state, event)
        self.turns[-1].event = event

    # --- answering ---

    def reply(self, speak: bool = True) -> Generator[ReplyEvent, None, None]:
        """Answer what was heard; text and audio come as soon as they can be shown and played.

        The LLM writes on while a piece is spoken, but only from the first audio on, which it would
        delay; the result does not depend on it. A consumer that stops early closes the iterator;
        :func:`fo_core.dialogue.context.forget_after` then drops what nobody heard.

        Args:
            speak: False: text only.
        """
        if self.state not in (DialogueState.SPEAKING, DialogueState.JUDGING):
            raise ValueError("nothing to answer: end the turn first")
        try:
            yield from self.reply_job(speak).events(self.cfg.write_ahead)
        finally:
            if self.state is not DialogueState.IDLE:
                self.state = transition(self.state, Event.REPLY_DONE)

    def reply_job(self, speak: bool = True) -> ReplyJob:
        """The answer to the newest turn, to be run.

        Raises:
            CheckpointError: It is to be spoken and a part for that is not trained.
        """
        if speak:
            self.model.require("speech_decoder", "codec")
        self.speaker = self.make_speaker() if speak else None
        return ReplyJob(self.turns[-1], self.writer_steps(), self.speaker)

    def fork(self) -> Session:
        """A copy that can listen while this one speaks (for barge-in)."""
        twin = copy.copy(self)
        twin.cache = self.cache.fork(ROOM)
        twin.turns = [turn.copy() for turn in self.turns]
        twin.state, twin._recent = DialogueState.IDLE, []
        return twin

    @property
    def length(self) -> int:
        """Positions of the LLM's cache in use."""
        return self.cache.length

    @property
    def crowded(self) -> bool:
        """Whether the LLM's own context is so full that the turn has to end."""
        limit = self.model.llm.facts.context
        return limit is not None and self.length > limit - min(ANSWER_ROOM, limit // 4)

    def writer_steps(self) -> Steps[Writer]:
        """Feed the end of the question and get ready to write."""
        llm, turn = self.model.llm, self.turns[-1]
        rest = self._listener.flush() if turn.chunks else None
        if rest is not None and rest.shape[1]:
            turn.heard.append(rest)
        hidden = yield from self._feed([] if rest is None else rest, self.suffix(turn))
        assert hidden is not None
        turn.prefilled = time.perf_counter()
        plain = Segmenter(llm.tokenizer, self.cfg.segmenter)
        segmenter: Segmenter | CallSegmenter = plain
        forced: list[int] = []
        if self.tools.offered:
            how = self.model.tool_format
            segmenter = CallSegmenter(plain, llm.tokenizer, how, self.tools.parallel)
            forced = self.tools.forced(llm.tokenizer, how)
        cfg, chances = self.cfg, self._generator(0)
        writer = self.writer = Writer(
            llm, self.cache, hidden, segmenter, cfg.sampling, chances, cfg.compat, forced
        )
        turn.answer = writer.answer
        return writer

    def usage(self, turn: Turn) -> Usage:
        """What the newest answer read and wrote."""
        answer = turn.answer
        if answer is None:
            return Usage(cached=turn.start, input_text=max(0, self.length - turn.start))
        speech = sum(v.shape[1] for t in self.turns if t.chunks for v in t.heard)
        spoken = sum(len(part.tokens) for part in self.speaker.parts) if self.speaker else 0
        read, speech = answer.start, min(speech, answer.start)
        return Usage(turn.start, read - speech, speech, len(answer.token_ids), spoken)

    def make_speaker(self) -> Speaker:
        """The voice of the next answer."""
        voice = None
        if self.voice is not None:
            voice = torch.tensor([[list(self.voice)]], device=self.model.device)
        return Speaker(self.model, self.cfg.speaker, self._generator(1), voice)

    def _generator(self, lane: int) -> torch.Generator:
        turns = self.forgotten + len(self.turns)
        generator = torch.Generator(self.model.llm.device)
        return generator.manual_seed(self.cfg.seed * 1_000_003 + 2 * turns + lane)

    def read_steps(self, vectors: Tensor, size: int) -> Steps[None]:
        """Let the LLM read vectors [1, N, H], ``size`` at a time."""
        for piece in vectors.split(size, dim=1):
            yield from self._feed(piece)
