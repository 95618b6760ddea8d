"""What the LLM has read of one user: its cache, the history, and what of both is kept.

A conversation owns all that belongs to one user (caches of features, encoder, adapter and LLM, the
turns); the model belongs to nobody and serves any number of them. A turn that wants no answer
leaves no trace in the LLM's cache. What the user said is kept as the vectors that the LLM read, so
reading it again costs one prefill of what is kept, and nothing is heard anew.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from fo_core.dialogue import prompt_cache
from fo_core.dialogue.history import Turn
from fo_core.dialogue.listener import AdaptedChunk, Listener
from fo_core.dialogue.recent import Recent
from fo_core.dialogue.settings import DialogueConfig, effective_context
from fo_core.dialogue.speech.writer import Answer
from fo_core.dialogue.states import StateProbabilities
from fo_core.dialogue.tool_calls import ToolConfig
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.chat import ChatParts, encode
from fo_core.models.llm.state import LLMState
from fo_core.models.llm.tools import ToolResult, results_ids
from fo_core.models.steps import LLMRequest, Steps

ROOM = 1024  # positions of the LLM's cache that are allocated at once
ANSWER_ROOM = 256  # positions of the LLM's own context that a question leaves to its answer
Prefixes = Recent[tuple[int, ...], LLMState]  # system texts that were read, by their ids


def new_prefixes() -> Prefixes:
    """No system text was read yet; the newest eight will stay read for the next user."""
    return Recent(8)


class Conversation:
    """One user's. What a model is asked goes through coroutines, so that steps can be batched.

    Args:
        model: Shared; in eval mode.
        cfg: How it talks.
        system: System text instead of the model's own; :meth:`refeed` reads it.
        voice: Global tokens instead of the model's own voice.
    """

    def __init__(
        self,
        model: FreezeOmni,
        cfg: DialogueConfig,
        system: str | None = None,
        voice: Sequence[int] | None = None,
    ) -> None:
        self.model, self.cfg, self.voice = model, cfg, voice
        self.use(system, ToolConfig())
        self.context = effective_context(model.llm, cfg)
        model.llm.check_room(len(self.parts.system_ids), "the system text", self.context)
        self.turns: list[Turn] = []
        self.forgotten = 0  # turns that are no longer in the list
        self.cache = model.llm.init_state(1, ROOM)
        self.listener = Listener(model)
        self._held: list[Tensor] = []  # heard of the newest turn's end, and not read yet
        self._reading = False  # all of it is being read again

    def use(self, system: str | None, tools: ToolConfig) -> bool:
        """Have a system text (None: the model's own) and functions; whether ids differ by it."""
        llm, parts = self.model.config.llm, getattr(self, "parts", None)
        text, shots = (llm.system, llm.shots) if system is None else (system, ())
        self.system, self.tools = system, tools
        self.parts: ChatParts = self.model.chat_for(text, shots, tools.offered)
        return parts is None or parts.system_ids != self.parts.system_ids

    def fork(self) -> Conversation:
        """A copy, to hear the user while this one's answer goes on, or to answer on trial.

        Only one of the two may be in a model step at a time.
        """
        twin = copy.copy(self)
        twin.cache = self.cache.branch()
        twin.turns = [turn.copy() for turn in self.turns]
        twin.listener, twin._held = self.listener.fork(), [*self._held]
        return twin

    def fresh(self) -> Conversation:
        """Another one of the same kind in which nothing was said; :meth:`refeed` is due."""
        twin = copy.copy(self)
        twin.cache, twin.turns = self.model.llm.init_state(1, 0), []
        twin._held = []
        return twin

    @property
    def length(self) -> int:
        """Positions of the LLM's cache in use."""
        return self.cache.length

    @property
    def skips_silence(self) -> bool:
        """Whether silence adds nothing to what the LLM reads."""
        return self.model.adapter.requires_ctc

    @property
    def crowded(self) -> bool:
        """Whether the LLM's own context is so full that the turn has to end."""
        limit = self.model.llm.facts.context
        return limit is not None and self.length > limit - min(ANSWER_ROOM, limit // 4)

    # --- the user's turns ---

    def begin(self, number: int) -> Turn:
        """A turn of the user begins."""
        turn = Turn(self.length, number, open=True)
        self.turns.append(turn)
        official = self.cfg.compat == "official"
        self.listener = Listener(self.model, self.listener if official else None)
        return turn

    def hear(self, chunk: Tensor) -> Steps[StateProbabilities]:
        """Hear 160 ms, a wave [S] at 16 kHz in [-1, 1], S <= 2560; what the state head says."""
        turn, head = self.turns[-1], self.model.state_head
        heard = self._hear(chunk)
        hidden = yield from self._follow([heard.embeds])
        if head.left_out:
            return StateProbabilities(1.0, 0.0, 0.0)
        return StateProbabilities(*turn.states.judge(head, hidden, heard.encoded))

    def hear_before(self, chunks: Sequence[Tensor]) -> Steps[None]:
        """Hear the chunks [2560] before the voice was noticed."""
        head, states = self.model.state_head, self.turns[-1].states
        if head.gru is not None and not head.left_out:  # it hears every chunk
            for heard in map(self._hear, chunks):
                states.pass_over(head, (yield from self._follow([heard.embeds])), heard.encoded)
        elif chunks:  # in one LLM step
            yield from self._follow([self._hear(chunk).embeds for chunk in chunks])

    def _follow(self, embeds: list[Tensor]) -> Steps[Tensor]:
        """Have the LLM read chunks of the turn: its state [1, 1, H] behind the newest word."""
        turn, ahead = self.turns[-1], self.skips_silence and not self.model.state_head.left_out
        new = [*self._opening(), *embeds] if turn.chunks == 0 else embeds
        turn.chunks += len(embeds)
        partial = self.listener.partial() if ahead else embeds[0][:, :0]
        return (yield from turn.states.read(self.model.llm, self.cache, new, partial))

    def read_text(self, number: int, text: str) -> Steps[None]:
        """A typed message in place of a spoken one."""
        yield from self.hear_rest()
        self.turns.append(self.text_turn(number, text))
        self.turns[-1].open = True
        yield from self._feed(self._opening(), self.turns[-1].heard)
        self.turns[-1].open = False

    def text_turn(self, number: int, text: str) -> Turn:
        """The same, not read yet."""
        llm = self.model.llm
        return Turn(self.length, number, heard=[llm.embed(encode(llm.tokenizer, text))])

    def read_results(self, number: int, results: Sequence[ToolResult]) -> Steps[None]:
        """What functions gave back, in place of a question."""
        yield from self.hear_rest()
        self.turns.append(self.results_turn(number, results))
        yield from self._feed(self.turns[-1].heard)

    def results_turn(self, number: int, results: Sequence[ToolResult]) -> Turn:
        """The same, not read yet."""
        llm, how = self.model.llm, self.model.tool_format
        ids, suffix = results_ids(llm.tokenizer, self.parts, how, results)
        heard = [llm.embed(ids)]
        return Turn(self.length, number, heard=heard, results=tuple(results), suffix_ids=suffix)

    def was_heard(self) -> bool:
        """Whether the running turn holds anything that can be answered.

        An adapter that hands on what was heard gives no vectors for silence, hum or noise. A
        convolutional one gives vectors for any sound: there the voice activity detector says it.
        """
        turn = self.turns[-1]
        if not self.skips_silence:
            return turn.voiced
        return bool(turn.heard) or self.listener.partial().shape[1] > 0

    def drop_turn(self) -> None:
        """The running turn wants no answer, or is given up: it leaves no trace."""
        turn = self.turns.pop()
        self.forgotten += 1
        self.cache.crop(min(self.length, turn.start))
        self._held.clear()
        self.listener.flush()  # nor in the turn before, if that one waits for its answer

    @property
    def words(self) -> str:
        """What the CTC head heard in the newest turn; empty where it has no words."""
        return self.listener.words(self.turns[-1].classes)

    def read_end(self) -> Steps[Tensor]:
        """Read the end of the newest turn; the state [1, 1, H] that predicts the answer."""
        self._flush()
        hidden = yield from self._feed(self._unread_end(), self._suffix(self.turns[-1]))
        self._held.clear()
        assert hidden is not None, "a template has something before the assistant's words"
        return hidden

    def _unread_end(self) -> list[Tensor]:
        """What is read with the newest turn's end: all since the voice, however long ago it was."""
        turn = self.turns[-1]
        if turn.last_voice is None or not self.skips_silence:
            return self._held
        length, count = turn.last_voice
        self.cache.crop(min(self.length, length))
        return turn.heard[count:]

    def hear_rest(self) -> Steps[None]:
        """Hear the newest turn to its end, though it is not answered now."""
        self._flush()
        yield from self._feed(self._held)
        self._held.clear()

    def _flush(self) -> None:
        """Keep what the adapter held back of the newest turn; it is still to be read."""
        turn = self.turns[-1] if self.turns else None
        if turn is not None and turn.chunks:
            rest = self.listener.flush()
            if turn.keep(rest):
                self._held.append(rest)

    def _flush_closed(self) -> None:
        """The same, unless the user may still add to the turn."""
        if self.turns and not self.turns[-1].open:
            self._flush()

    def _hear(self, chunk: Tensor) -> AdaptedChunk:
        """Keep what the LLM reads of a chunk, to read it again."""
        heard = self.listener.hear(chunk)
        self.turns[-1].keep(heard.embeds, heard.classes)
        return heard

    def _opening(self, turn: Turn | None = None) -> list[Tensor]:
        """What comes before a turn's audio: template, prompt embeddings."""
        start = (turn or self.turns[-1]).start
        ids = self.parts.opening(start == len(self.parts.system_ids))
        return [self.model.llm.embed(ids), self.model.prompt(1)]

    def _suffix(self, turn: Turn) -> Tensor:
        """What comes behind a turn, up to where the assistant speaks: [1, N, H]."""
        ids = self.parts.user_suffix_ids if turn.suffix_ids is None else turn.suffix_ids
        return self.model.llm.embed(ids)

    def _feed(self, *vectors: Tensor | list[Tensor]) -> Steps[Tensor | None]:
        """Feed [1, N, H] vectors to the LLM; the last state [1, 1, H], None if there are none."""
        flat = [v for item in vectors for v in (item if isinstance(item, list) else [item])]
        flat = [v.to(self.model.llm.dtype) for v in flat if v.shape[1]]
        if not flat:
            return None
        hidden = yield LLMRequest(self.model.llm, torch.cat(flat, dim=1), self.cache)
        return hidden[:, -1:]

    # --- the history ---

    @property
    def pending(self) -> bool:
        """Whether the newest turn waits for an answer."""
        newest = self.turns[-1] if self.turns else None
        return newest is not None and newest.answer is None and not newest.open

    def find(self, number: int) -> Turn | None:
        """A turn of the history."""
        return next((turn for turn in self.turns if turn.number == number), None)

    def insert(self, turn: Turn) -> None:
        """Put a turn at the end, but before what the user is saying; :meth:`refeed` is due."""
        running = bool(self.turns) and self.turns[-1].open
        self.turns.insert(len(self.turns) - running, turn)

    def add_answer(self, text: str, number: Callable[[], int]) -> None:
        """An answer of the newest turn, if it waits for one; else of an empty turn with a number.

        :meth:`refeed` is due afterwards.
        """
        self._flush_closed()
        ids = encode(self.model.llm.tokenizer, text)
        answer = Answer(self.length, list(ids), ended=True, text=text)
        said = [turn for turn in self.turns if not turn.open]
        if said and said[-1].answer is None:
            said[-1].answer = answer
        else:
            self.insert(Turn(self.length, number(), answer=answer))

    def delete(self, number: int, role: Literal["user", "assistant", "both"]) -> None:
        """Forget a turn, or one side of it; :meth:`refeed` is due afterwards."""
        for turn in [turn for turn in self.turns if turn.number == number]:
            if role != "assistant":
                turn.heard.clear()
            if role != "user" and turn.answer is not None:
                turn.cut(0, self.model.llm.tokenizer)
            if role == "both" or (role == "user" and turn.answer is None):  # nothing to answer
                self.turns.remove(turn)

    def cut_answer(self, number: int, tokens: int) -> bool:
        """Keep the first ``tokens`` tokens of a turn's answer.

        Returns:
            False: something was said after them, and :meth:`refeed` is due.
        """
        turn = self.find(number)
        if turn is None or turn.answer is None or tokens >= len(turn.answer.token_ids):
            return True
        newest = turn is self.turns[-1] and not self._reading
        if newest:
            self.cache.crop(min(self.length, turn.answer.start + tokens))
        turn.cut(tokens, self.model.llm.tokenizer)
        return newest

    def take_answer(self, other: Conversation, number: int) -> None:
        """Have a turn's answer as another conversation has it; :meth:`refeed` is due."""
        ours, theirs = self.find(number), other.find(number)
        if ours is not None and theirs is not None and theirs.answer is not None:
            whole = theirs.copy()
            ours.answer, ours.pieces = whole.answer, whole.pieces

    # --- the context ---

    @property
    def overfull(self) -> bool:
        """Whether more is kept than the context may hold, and there is a turn to forget."""
        return self.length > self.context and len(self.turns) > 1

    def drop_oldest(self, keep: float) -> int:
        """Forget the oldest turns of a full context; how many. :meth:`refeed` is due afterwards.

        The newest turn stays whatever its size.

        Args:
            keep: Share of the context that what is kept then may fill.
        """
        if not self.overfull:
            return 0
        starts, length, count = [turn.start for turn in self.turns], self.length, 0
        while count < len(starts) - 1 and length > int(keep * self.context):
            length -= starts[count + 1] - starts[count]
            count += 1
        self.forgotten += count
        del self.turns[:count]
        return count

    def refeed(self, size: int, prefixes: Prefixes) -> Steps[None]:
        """Read the system text and all turns into an empty cache.

        Given up half-way, it is to be done again.

        Args:
            size: Positions a step.
            prefixes: States that have read a system text: one of them to start from, or one more.
        """
        self._reading = True
        try:
            yield from self._read_all(size, prefixes)
        finally:
            self._reading = False

    def _read_all(self, size: int, prefixes: Prefixes) -> Steps[None]:
        llm, ids = self.model.llm, self.parts.system_ids
        self._flush_closed()
        self._held.clear()  # it is read with its turn
        known = prefixes.get(tuple(ids))
        self.cache = llm.init_state(1, ROOM) if known is None else known.fork(ROOM)
        if known is None and ids:
            own = self.system is None  # a user's own text is not kept on disk
            if not (own and prompt_cache.restore(llm, ids, self.cache, size)):
                yield from self._read(llm.embed(ids), size)
                if own:
                    prompt_cache.keep(llm, ids, self.cache, size)
            prefixes[tuple(ids)] = self.cache.fork(0)
        for turn in self.turns:
            turn.start, turn.last_voice = self.length, None
            rows = [] if turn.results else self._opening(turn)
            rows += turn.heard
            if turn.answer is not None:
                rows.append(self._suffix(turn))
            told = yield from self._read(
                torch.cat([row.to(llm.dtype) for row in rows], dim=1), size
            )
            if turn.open:
                turn.states.moved(told)
            if turn.answer is not None:
                turn.answer.start = self.length
                if turn.answer.token_ids:
                    yield from self._read(llm.embed(turn.answer.token_ids), size)

    def _read(self, vectors: Tensor, size: int) -> Steps[Tensor | None]:
        told = None
        for piece in vectors.split(size, dim=1):
            told = yield from self._feed(piece)
        return told
