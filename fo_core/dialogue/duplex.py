"""One user's duplex dialogue: sound and commands in, events out, no clock and no threads.

``push`` and ``send`` only take note; :meth:`Duplex.run` (or a pool) does the work. What can be
asked: :mod:`fo_core.dialogue.commands`; what an event means and in which order they come:
:mod:`fo_core.dialogue.events`; who is heard and who speaks: :mod:`fo_core.dialogue.engine`.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch import Tensor

from fo_core.config import replace
from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.audio_input import VadSegmenter, check_block, shared_vad
from fo_core.dialogue.conversation import Conversation, Prefixes, new_prefixes
from fo_core.dialogue.engine import DialogueEngine
from fo_core.dialogue.history import tokens_heard
from fo_core.dialogue.settings import DialogueConfig, TurnConfig
from fo_core.dialogue.states import DialogueState, Event
from fo_core.dialogue.task_scheduler import TaskScheduler
from fo_core.dialogue.tool_calls import ToolConfig
from fo_core.dialogue.turn_taking import TurnTaking
from fo_core.engines.vad import Vad
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.tools import ToolResult
from fo_core.models.steps import Steps
from fo_core.models.voices import VoiceChoice


class Duplex:
    """One user.

    Args:
        model: Shared; in eval mode.
        cfg: How it talks and takes turns.
        system: System text instead of the model's own.
        voice: Name or global tokens of another voice than the model's own.
        turn: Turn taking instead of the config's.
        speak: False: replies are text only.
        vad: Voice activity detector, shared; None: the config's.
        now: Time in user samples, for playback positions; None: the sound that was heard.
        eager: Make a reply to its end before more is heard, as if the model took no time: what
            comes out then depends on the sound alone.
        prefixes: System texts that were read already, shared by the users of a model.

    Raises:
        ConfigError: The model has no such voice, or cannot read text by the chunk.
        CheckpointError: Replies are spoken, and a part for that is not trained.
    """

    def __init__(
        self,
        model: FreezeOmni,
        cfg: DialogueConfig | None = None,
        *,
        system: str | None = None,
        voice: VoiceChoice = None,
        turn: TurnConfig | None = None,
        speak: bool = True,
        vad: Vad | None = None,
        now: Callable[[], int] | None = None,
        eager: bool = False,
        prefixes: Prefixes | None = None,
    ) -> None:
        cfg = cfg or DialogueConfig()
        tokens = model.find_voice(voice)
        if speak:
            model.require("speech_decoder", "codec")
        if cfg.segmenter.chunk:
            model.require_chunks(f"segmenter.chunk is {cfg.segmenter.chunk}")
        self.model, taking = model, turn or cfg.duplex.turn
        audio = VadSegmenter(vad or shared_vad(cfg.duplex.vad), taking, cfg.history_chunks)
        self.turns = TurnTaking(taking, cfg.states, audio, self.emit)
        self.tasks = TaskScheduler(self, eager)
        self.engine = DialogueEngine(
            cfg,
            Conversation(model, cfg, system, tokens),
            self.turns,
            self.tasks,
            self.emit,
            now or (lambda: audio.looked),
            new_prefixes() if prefixes is None else prefixes,
            speak,
        )
        self.tasks.engine = self.engine
        self._events: deque[ev.DuplexEvent] = deque()

    @property
    def conversation(self) -> Conversation:
        """What the LLM has read."""
        return self.engine.conversation

    @property
    def state(self) -> DialogueState:
        """Who speaks."""
        return self.turns.state

    def push(self, pcm: np.ndarray | Tensor) -> None:
        """Sound of the user: float [S] in [-1, 1] at 16 kHz, any S.

        Raises:
            AudioError: It is not that.
        """
        self.tasks.queue.push(check_block(pcm))

    def send(self, command: do.Command) -> None:
        """Take note of a command.

        Raises:
            ConfigError: The model has no such voice.
        """
        if isinstance(command, do.Configure | do.Respond):
            self.model.find_voice(command.voice)
        # Respond is refused at once while a reply is made, then queued
        self.tasks.send(command, at_once=isinstance(command, do.Respond))

    def take(self) -> list[ev.DuplexEvent]:
        """The events since the last call."""
        found = list(self._events)
        self._events.clear()
        return found

    def run(self, steps: int | None = None) -> Iterator[ev.DuplexEvent]:
        """Work until nothing is left to do, or for so many model steps; the events."""
        result: Tensor | None = None
        while self.tasks.urgency() is not None and steps != 0:
            step, result = self.tasks.resume(result), None
            if step is not None:
                steps = None if steps is None else steps - 1
                try:
                    began = time.perf_counter()
                    result = step.run()
                    self.tasks.charge(time.perf_counter() - began)
                except Exception as error:  # the dialogue says it and goes on
                    self.tasks.fail(error)
            yield from self.take()
        if result is not None:
            self.tasks.finish(result)
        self.tasks.look()
        yield from self.take()

    def emit(self, event: ev.DuplexEvent) -> None:
        """Say that something happened."""
        event.at, event.time = self.turns.audio.looked, time.monotonic()
        event.cause = event.cause or self.tasks.cause
        self._events.append(event)

    def blocked(self, command: do.Queued) -> bool:
        """Whether a command has to wait for the reply that is being made."""
        if self.tasks.reply is None:
            return False
        if isinstance(command, do.Commit):
            return not self.turns.cfg.by_voice
        return isinstance(command, do.SayText | do.HearResult) or (
            isinstance(command, do.HearText) and not command.answer
        )

    def carry_out(self, command: do.Command, before: int | None) -> None:
        """Do what a command says.

        Args:
            command: With a handler below.
            before: Samples that nobody heard yet before it; None: it comes before any other work.
        """
        if not isinstance(command, do.Played | do.Commit):
            self.engine.speculation.drop("command")
        self._handlers[type(command)](self, command, before)

    # --- commands behind the sound that was pushed before ---

    def _commit(self, command: do.Commit, before: int) -> None:
        if self.turns.listening or (before and not self.turns.cfg.by_voice):
            rest = self.tasks.queue.take(before)
            self.tasks.start_input(self.engine.commit(rest, command.answer))
        else:
            self.emit(ev.Error("empty_commit", "nothing was heard since the last turn"))

    def _clear(self, command: do.Clear, before: int) -> None:
        self.turns.audio.skip(self.tasks.queue.take(before).size)
        self._drop_spoken_turn()
        self.turns.audio.look_back()
        self.emit(ev.Cleared())

    def _drop_spoken_turn(self) -> None:
        self.turns.audio.voice.forget()
        self.engine.drop_turn(Event.DROP)

    def _hear_text(self, command: do.HearText, before: int) -> None:
        if not command.text.strip():
            self.emit(ev.Error("empty_text", "the message has no words"))
            return
        self._drop_spoken_turn()
        if command.answer and self.engine.reply is not None:
            self.engine.stop_reply("turn_detected")
        self.tasks.start_input(self._read_message(command.text, command.answer))

    def _read_message(
        self,
        text: str,
        answer: bool,
        speak: bool | None = None,
        max_tokens: int | None = None,
        voice: Sequence[int] | None = None,
    ) -> Steps[None]:
        number, at = self.turns.number(), self.turns.audio.position
        yield from self.conversation.read_text(number, text)
        self.emit(ev.TurnEnded(number, "text", at, at))
        self.emit(ev.Transcript(number, text))
        if answer:
            self.turns.go(Event.REPLY_START)
            self.engine.start_reply(speak, max_tokens, voice=voice)

    def _say_text(self, command: do.SayText, before: int) -> None:
        if not command.text.strip():
            self.emit(ev.Error("empty_text", "the message has no words"))
            return
        number = functools.cache(self.turns.number)  # one, if any is needed
        for conversation in self.engine.branches():
            conversation.add_answer(command.text, number)
        self.engine.unread = True

    def _respond(self, command: do.Respond, before: int | None) -> None:
        system, tools = command.system, command.tools
        voice = self.model.find_voice(command.voice)
        if self.tasks.reply is not None:
            self.emit(ev.Error("reply_active", "a reply is on its way"))
        elif before is None:
            self.tasks.queue.put(command)
        elif self.turns.listening:
            self.emit(ev.Error("nothing_to_answer", "the user is speaking"))
        elif command.apart:
            self.tasks.start_input(self.engine.reply_apart(command))
        elif self.conversation.pending:
            self._for_one_reply(system, tools)
            self.turns.go(Event.REPLY_START)
            self.engine.start_reply(command.speak, command.max_tokens, voice=voice)
        elif system:
            self._for_one_reply(None, tools)
            steps = self._read_message(system, True, command.speak, command.max_tokens, voice)
            self.tasks.start_input(steps)
        else:
            self.emit(ev.Error("nothing_to_answer", "no turn waits for an answer"))

    def _hear_result(self, command: do.HearResult, before: int) -> None:
        call = self.engine.calls.get(command.call_id)
        if call is None:
            self.emit(ev.Error("no_such_call", f"no function was called as {command.call_id!r}"))
            return
        result = ToolResult(call, command.call_id, command.output)
        if self.turns.listening:  # it goes before what the user is saying
            number = self.turns.number()
            for conversation in self.engine.branches():
                conversation.insert(conversation.results_turn(number, [result]))
            self.engine.unread = True
            return
        turns = self.conversation.turns
        if turns and turns[-1].results and turns[-1].answer is None:  # of the same answer
            last = turns.pop()
            self.conversation.cache.crop(min(self.conversation.length, last.start))
            steps = self.conversation.read_results(last.number, [*last.results, result])
        else:
            steps = self.conversation.read_results(self.turns.number(), [result])
        self.tasks.start_input(steps)

    # --- commands at once ---

    def _interrupt(self, command: do.Interrupt, before: None) -> None:
        if self.engine.reply is None:
            self.emit(ev.Error("no_reply", "no reply is made or played"))
            return
        overlap = self.state is DialogueState.OVERLAP
        self.engine.stop_reply("client")
        self.turns.go(Event.REPLY_DONE if overlap else Event.STOP)

    def _played(self, command: do.Played, before: None) -> None:
        reply = self.engine.reply
        if reply is not None and command.turn in (None, reply.number):
            reply.playback.tell(command.position)

    def _configure(self, command: do.Configure, before: None) -> None:
        engine = self.engine
        if command.turn is not None:
            self.turns.configure(command.turn)
        if command.voice is not None:
            for conversation in engine.branches():
                conversation.voice = self.model.find_voice(command.voice)
        change = functools.partial(self._use, command.system, command.tools)
        engine.after_reply.append(change)
        if self.tasks.reply is None:  # the running reply keeps its own
            engine.settle_changes()
        if command.temperature is not None:
            sampling = replace(engine.cfg.sampling, temperature=command.temperature)
            engine.cfg = replace(engine.cfg, sampling=sampling)
        engine.speak = engine.speak if command.speak is None else command.speak
        engine.max_tokens = command.max_tokens or engine.max_tokens
        self.emit(ev.Configured())

    def _use(self, system: str | None, tools: ToolConfig | None) -> None:
        """Have another system text and other functions; None: what there is."""
        if system is None and tools is None:
            return
        for conversation in self.engine.branches():
            text = conversation.system if system is None else system
            self.engine.unread |= conversation.use(text, tools or conversation.tools)

    def _for_one_reply(self, system: str | None, tools: ToolConfig | None) -> None:
        before = self.conversation.system, self.conversation.tools

        def restore() -> None:
            for conversation in self.engine.branches():
                self.engine.unread |= conversation.use(*before)

        if system is not None or tools is not None:
            self._use(system, tools)
            self.engine.after_reply.append(restore)

    def _delete(self, command: do.Delete, before: None) -> None:
        found = self.conversation.find(command.turn)
        if found is None:
            self.emit(ev.Error("no_such_turn", f"the history has no turn {command.turn}"))
        elif self.tasks.reply is not None and found is self.conversation.turns[-1]:
            self.emit(ev.Error("reply_active", "the turn is being answered: interrupt it first"))
        else:
            for conversation in self.engine.branches():
                conversation.delete(command.turn, command.role)
            self.engine.unread = True
            self.emit(ev.Deleted(command.turn))

    def _truncate(self, command: do.Truncate, before: None) -> None:
        number, reply = command.turn, self.engine.reply
        turn, spoken = self.conversation.find(number), self.engine.spoken.get(number)
        if turn is None or spoken is None or turn.answer is None:
            if self.tasks.reply is not None and reply is not None and reply.number == number:
                reply.playback.truncate(command)  # cut when nothing more is made of it
            else:
                self.emit(ev.Error("no_such_turn", f"turn {number} has no spoken answer"))
            return
        tokenizer, rate = self.model.llm.tokenizer, self.model.codec.sample_rate
        tokens = tokens_heard(turn, spoken, max(command.samples, 0), rate, tokenizer)
        for conversation in self.engine.branches():
            self.engine.stale |= not conversation.cut_answer(number, tokens)
        self.emit(ev.Truncated(number, turn.answer.text))

    _handlers: dict[type, Callable[..., None]] = {
        do.Commit: _commit,
        do.Clear: _clear,
        do.HearText: _hear_text,
        do.SayText: _say_text,
        do.HearResult: _hear_result,
        do.Respond: _respond,
        do.Interrupt: _interrupt,
        do.Played: _played,
        do.Truncate: _truncate,
        do.Configure: _configure,
        do.Delete: _delete,
    }
