"""One reply, offline or live: the LLM writes, the speech decoder speaks, the user hears.

Whoever runs its steps decides when: a dialogue puts them behind hearing, a pool runs those of many
users together.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fo_core.dialogue import events as ev
from fo_core.dialogue.conversation import Conversation
from fo_core.dialogue.history import tokens_heard
from fo_core.dialogue.playback import Playback
from fo_core.dialogue.recent import Recent
from fo_core.dialogue.settings import DialogueConfig
from fo_core.dialogue.speech.segmenter import Segmenter
from fo_core.dialogue.speech.speaker import Speaker
from fo_core.dialogue.speech.writer import Answer, Part, Writer
from fo_core.dialogue.tool_calls import CallSegmenter
from fo_core.models.llm.tools import ToolCall
from fo_core.models.steps import Steps

Calls = Recent[str, ToolCall]  # of functions, by the call's id


class ReplyJob:
    """The answer to the newest turn of a conversation.

    Args:
        conversation: Nothing is added to it while the reply is made.
        cfg: How it talks.
        speak: False: text only.
        calls: Takes the function calls that are made.
        emit: Takes what happens.
        now: Time in user samples, for the playback position.
        voice: Global tokens; None: the conversation's.
        held_tokens: Its output is held back until :meth:`release`; before that it has no more LLM
            tokens than so many. None: nothing is held back.

    Attributes:
        speaks: Whether it is spoken.
        asked: When it began, time.monotonic(); 0: not yet.
        read: When the LLM had read the question to its end.
        speculated: Whether it was begun before the turn was known to be over.
    """

    def __init__(
        self,
        conversation: Conversation,
        cfg: DialogueConfig,
        speak: bool,
        calls: Calls,
        emit: Callable[[ev.DuplexEvent], None],
        now: Callable[[], int],
        voice: Sequence[int] | None = None,
        held_tokens: int | None = None,
    ) -> None:
        self.conversation, self.turn = conversation, conversation.turns[-1]
        self.number = self.turn.number
        self.playback = Playback(conversation.model.codec.sample_rate)
        self.speaker: Speaker | None = None
        self.asked = self.read = 0.0
        self.speculated: ev.Speculated = "no"
        self._cfg, self.speaks, self._voice = cfg, speak, voice
        self._calls, self._emit, self._now = calls, emit, now
        self._held_tokens = held_tokens or 0
        self._held: list[ev.DuplexEvent] | None = None if held_tokens is None else []

    @property
    def enough(self) -> bool:
        """Whether so much is held back that more would be of no use yet: the first audio."""
        answer, made = self.turn.answer, self.playback.made if self.speaks else bool(self._held)
        return bool(made) or len(answer.token_ids if answer else ()) >= self._held_tokens

    def release(self) -> None:
        """Hand out what was held back, and from now on what is made."""
        held, self._held = self._held or [], None
        self.playback.start(self._now())
        for event in held:
            self._emit(event)

    def _tell(self, event: ev.DuplexEvent) -> None:
        if self._held is None:
            self._emit(event)
        else:
            self._held.append(event)

    def steps(self) -> Steps[ev.Status]:
        """Make all of it; how it ended.

        Raises:
            CheckpointError: It is to be spoken and a part for that is not trained.
        """
        self.asked = time.monotonic()
        if self.speaks:
            model, voice = self.conversation.model, self._voice or self.conversation.voice
            model.require("speech_decoder", "codec")
            codes = None if voice is None else torch.tensor([[list(voice)]], device=model.device)
            self.speaker = Speaker(model, self._cfg.speaker, self._generator(1), codes)
        hidden = yield from self.conversation.read_end()
        self.read = time.monotonic()
        writer = self._make_writer(hidden)
        answer = self.turn.answer = writer.answer
        while not writer.done:
            parts = yield from writer.advance()
            for part in parts:
                segment = part.segment
                if segment.joined and self.turn.pieces:  # it goes on with the piece before it
                    segment = self.turn.pieces.pop().extended(segment)
                self.turn.pieces.append(segment)
            for part in parts:
                self._tell(ev.TextDelta(self.number, part.index, part.segment.text_raw))
                if self.speaker is not None:
                    yield from self._say(part, self.speaker)
            self._tell_calls(writer)
        ended = answer.ended or (answer.calls and not self.conversation.tools.parallel)
        return "completed" if ended else "incomplete"

    def _say(self, part: Part, speaker: Speaker) -> Steps[None]:
        """Say a piece, or as much of it as is written."""
        if not part.segment.joined:
            self.playback.begin_part()
        utterance = speaker.begin(part)
        while not utterance.done:
            for audio in (yield from speaker.advance(utterance)):
                start = self.playback.add(audio.numel(), self._now())
                samples = audio.float().cpu().numpy()
                self._tell(ev.AudioDelta(self.number, part.index, start, samples))
        self.playback.spoken[-1].whole = not part.segment.more

    def _tell_calls(self, writer: Writer) -> None:
        """Tell of the functions that the answer has called since the last time."""
        if writer.calls is None:
            return
        for call in writer.calls.new_calls():
            writer.answer.calls = True
            id_ = f"call_{secrets.token_hex(8)}"
            self._calls[id_] = call
            self._tell(ev.FunctionCall(self.number, id_, call.name, call.arguments))
        while writer.calls.faults:
            self._tell(ev.Error("bad_call", writer.calls.faults.pop(0)))

    def _make_writer(self, hidden: Tensor) -> Writer:
        conversation, cfg = self.conversation, self._cfg
        llm, tools = conversation.model.llm, conversation.tools
        plain = Segmenter(llm.tokenizer, cfg.segmenter)
        segmenter: Segmenter | CallSegmenter = plain
        forced: list[int] = []
        if tools.offered:
            how = conversation.model.tool_format
            segmenter = CallSegmenter(plain, llm.tokenizer, how, tools.parallel)
            forced = tools.forced(llm.tokenizer, how)
        generator = self._generator(0)
        return Writer(
            llm, conversation.cache, hidden, segmenter, cfg.sampling, generator, cfg.compat, forced
        )

    def _generator(self, stream: int) -> torch.Generator:
        """Random numbers of the text (stream 0) or of the speech (1) of this turn."""
        turns = self.conversation.forgotten + len(self.conversation.turns)
        generator = torch.Generator(self.conversation.model.llm.device)
        return generator.manual_seed(self._cfg.seed * 1_000_003 + 2 * turns + stream)

    def cut_to_heard(self, conversation: Conversation, played: int) -> bool:
        """Let a conversation keep of the answer what was heard in its first samples.

        Returns:
            False: something was said after it, and the conversation has to be read again.
        """
        turn = conversation.find(self.number)
        if turn is None or (turn.answer is not None and turn.answer.calls):
            return True  # the calls were made: what comes back for them belongs to the whole answer
        if turn.answer is None:
            turn.answer = Answer(start=conversation.length)
            return True
        play, tokenizer = self.playback, conversation.model.llm.tokenizer
        tokens = tokens_heard(turn, play.spoken, played, play.rate, tokenizer)
        return conversation.cut_answer(self.number, tokens)

    @property
    def text(self) -> str:
        """The answer as it was written so far."""
        return "" if self.turn.answer is None else self.turn.answer.text

    def usage(self) -> ev.Usage:
        """What it read and wrote."""
        conversation, turn, answer = self.conversation, self.turn, self.turn.answer
        if answer is None:
            return ev.Usage(turn.start, input_text=max(0, conversation.length - turn.start))
        speech = sum(v.shape[1] for t in conversation.turns if t.chunks for v in t.heard)
        spoken = sum(len(part.tokens) for part in self.speaker.parts) if self.speaker else 0
        read, speech = answer.start, min(speech, answer.start)
        late = self.playback.underruns
        return ev.Usage(
            turn.start,
            read - speech,
            speech,
            len(answer.token_ids),
            spoken,
            late.count,
            late.seconds,
        )
