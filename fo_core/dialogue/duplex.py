"""One user's duplex dialogue: sound and commands in, events out, no clock and no threads.

``push`` and ``send`` only take note; :meth:`run` (or a pool) does the work. What can be asked:
:mod:`fo_core.dialogue.commands`; what an event means and in which order they come:
:mod:`fo_core.dialogue.events`.
"""

from __future__ import annotations

from collections.abc import Callable

from fo_core.config import replace
from fo_core.dialogue import commands as do
from fo_core.dialogue import events as ev
from fo_core.dialogue.context import forget_after
from fo_core.dialogue.duplex_core import DuplexCore
from fo_core.dialogue.history import Turn, tokens_heard
from fo_core.dialogue.session import Session
from fo_core.dialogue.states import DialogueState, Event
from fo_core.dialogue.tool_calls import ToolConfig
from fo_core.dialogue.writer import Answer
from fo_core.models.llm.chat import encode
from fo_core.models.llm.tools import ToolResult
from fo_core.models.steps import Steps

HEARING = (DialogueState.LISTENING, DialogueState.JUDGING)


class Duplex(DuplexCore):
    """The dialogue with its commands."""

    def send(self, command: do.Command) -> None:
        """Take note of a command.

        Raises:
            ConfigError: A voice does not fit the codec.
        """
        if isinstance(command, do.Configure):
            self.model.check_voice(command.voice)
        if isinstance(command, do.Respond):  # refused at once while a reply is made, then queued
            self._at_once.append(command)
        else:
            super().send(command)

    def blocked(self, command: do.Queued) -> bool:
        """Whether a command has to wait for the reply that is being made."""
        if not self.replying:
            return False
        if isinstance(command, do.Commit):
            return self.turn.detect == "manual"
        return isinstance(command, do.SayText | do.HearResult) or (
            isinstance(command, do.HearText) and not command.answer
        )

    def carry_out(self, command: do.Command, before: int | None) -> None:
        """Do what a command says.

        Args:
            command: With a handler below.
            before: Samples that nobody heard yet before it; None: it comes before any other work.
        """
        self._handlers[type(command)](self, command, before)

    # --- behind the sound that was pushed before ---

    def _commit(self, command: do.Commit, before: int) -> None:
        if self.state in HEARING or (self.turn.detect == "manual" and before):
            self.work(self._commit_steps(before, command.answer))
        else:
            self.emit(ev.Error("empty_commit", "nothing was heard since the last turn"))

    def _clear(self, command: do.Clear, before: int) -> None:
        self.ear.position += self.inbox.take(before).size
        self._drop_spoken_turn()
        self.ear.look_back()
        self.emit(ev.Cleared())

    def _hear_text(self, command: do.HearText, before: int) -> None:
        if not command.text.strip():
            self.emit(ev.Error("empty_text", "the message has no words"))
            return
        self._drop_spoken_turn()
        if command.answer and self.play is not None:
            self.stop_reply("turn_detected")
        self.work(self._read_message(command.text, command.answer))

    def _say_text(self, command: do.SayText, before: int) -> None:
        if command.text.strip():
            self._add_answer(command.text)
        else:
            self.emit(ev.Error("empty_text", "the message has no words"))

    def _respond(self, command: do.Respond, before: int | None) -> None:
        speak, max_tokens, system = command.speak, command.max_tokens, command.system
        tools = command.tools
        if self.replying:
            self.emit(ev.Error("reply_active", "a reply is on its way"))
        elif before is None:
            self.inbox.put(command)
        elif self.state in HEARING:
            self.emit(ev.Error("nothing_to_answer", "the user is speaking"))
        elif self.session.take_up():
            if system is not None or tools is not None:
                self._for_one_reply(system, tools)
            self.enter(DialogueState.SPEAKING)
            self.start_reply(speak, max_tokens)
        elif system:
            if tools is not None:
                self._for_one_reply(None, tools)
            self.work(self._read_message(system, True, speak, max_tokens))
        else:
            self.emit(ev.Error("nothing_to_answer", "no turn waits for an answer"))

    def _hear_result(self, command: do.HearResult, before: int) -> None:
        call = self.calls.get(command.call_id)
        if call is None:
            self.emit(ev.Error("no_such_call", f"no function was called as {command.call_id!r}"))
            return
        result = ToolResult(call, command.call_id, command.output)
        if self.state in HEARING:  # it goes before what the user is saying
            number = self.new_number()
            for session in self._sessions():
                running = session.state is DialogueState.LISTENING
                turn = session.results_turn(number, [result])
                session.turns.insert(len(session.turns) - running, turn)
            self.unread = True
        else:
            self.work(self._read_result(result))

    def _read_result(self, result: ToolResult) -> Steps[None]:
        session, results, number = self.session, [result], None
        last = session.turns[-1] if session.turns else None
        if last is not None and last.results and last.answer is None:  # of the same answer
            results, number = [*last.results, result], last.number
            session.cache.crop(min(session.length, last.start))
            session.turns.pop()
        number = self.new_number() if number is None else number
        yield from session.results_steps(number, results)
        session.leave_turn()

    # --- at once ---

    def _interrupt(self, command: do.Interrupt, before: None) -> None:
        if self.play is None:
            self.emit(ev.Error("no_reply", "no reply is made or played"))
            return
        judging = self.state is DialogueState.JUDGING
        self.stop_reply("client")
        self.go(Event.REPLY_DONE if judging else Event.STOP)

    def _played(self, command: do.Played, before: None) -> None:
        if self.play is not None and command.turn in (None, self.play.turn):
            self.play.tell(command.position)

    def _configure(self, command: do.Configure, before: None) -> None:
        if command.turn is not None:
            self.turn = self.ear.turn = command.turn
        if command.voice is not None:
            self.session.voice = tuple(command.voice)
        if command.system is not None or command.tools is not None:
            self._set_parts(command.system, command.tools)
        if command.temperature is not None:
            sampling = replace(self.cfg.sampling, temperature=command.temperature)
            self.cfg = replace(self.cfg, sampling=sampling)
        self.speak = self.speak if command.speak is None else command.speak
        self.max_tokens = self.max_tokens if command.max_tokens is None else command.max_tokens
        self.emit(ev.Configured())

    def _delete(self, command: do.Delete, before: None) -> None:
        found = self.find(command.turn)
        if found is None:
            self.emit(ev.Error("no_such_turn", f"the history has no turn {command.turn}"))
        elif self.replying and found is self.session.turns[-1]:
            self.emit(ev.Error("reply_active", "the turn is being answered: interrupt it first"))
        else:
            for session in self._sessions():
                self._forget(session, command.turn, command.role)
            self.unread = True
            self.emit(ev.Deleted(command.turn))

    # --- how ---

    def _commit_steps(self, before: int, answer: bool) -> Steps[None]:
        heard = self.ear.hear(self.inbox.take(before))
        if self.state not in HEARING:
            if self.state is DialogueState.SPEAKING:
                self.leave_reply()
            yield from self.begin(False)
        if heard.wave.numel():
            yield from self.listen(heard)
        if self.state in HEARING:
            self.end("commit", answer)

    def _drop_spoken_turn(self) -> None:
        self.ear.voice.forget()
        if self.state in HEARING:
            self.judge = None
            if self.state is DialogueState.LISTENING:
                self.session.drop_turn()
            self.go(Event.SPEECH_LOST)

    def _read_message(
        self, text: str, answer: bool, speak: bool | None = None, max_tokens: int | None = None
    ) -> Steps[None]:
        number, session = self.new_number(), self.session
        session.begin(number)
        yield from session.text_steps(text)
        self.emit(ev.TurnEnded(number, "text", self.ear.position, self.ear.position))
        self.emit(ev.Transcript(number, text))
        if answer:
            self.enter(DialogueState.SPEAKING)
            self.start_reply(speak, max_tokens)
        else:
            session.leave_turn()

    def _add_answer(self, text: str) -> None:
        """Put an answer into the history: of the turn that waits for one, or of an empty turn."""
        ids, number = encode(self.model.llm.tokenizer, text), None
        for session in self._sessions():
            answer = Answer(session.length, list(ids), ended=True, text=text)
            running = session.state is DialogueState.LISTENING
            before = session.turns[:-1] if running else session.turns
            if before and before[-1].answer is None and before[-1].event is not Event.IGNORE:
                before[-1].answer = answer
            else:
                number = self.new_number() if number is None else number
                turn = Turn(start=session.length, number=number, answer=answer)
                session.turns.insert(len(before), turn)
        self.unread = True

    def _for_one_reply(self, system: str | None, tools: ToolConfig | None) -> None:
        before = self.session.system, self.session.tools

        def restore() -> None:
            self._use(*before)

        now = self.session
        self._use(now.system if system is None else system, tools or now.tools)
        self.after_reply.append(restore)

    def _set_parts(self, system: str | None, tools: ToolConfig | None) -> None:
        def change() -> None:
            now = self.session
            self._use(now.system if system is None else system, tools or now.tools)

        if self.replying:  # the running reply keeps its own
            self.after_reply.append(change)
        else:
            change()

    def _use(self, system: str | None, tools: ToolConfig) -> None:
        """Have another system text and other functions; the context is read again if it differs."""
        for session in self._sessions():
            parts = session.parts_for(system, tools)
            self.unread |= parts.system_ids != session.parts.system_ids
            session.system, session.tools, session.parts = system, tools, parts

    def _truncate(self, command: do.Truncate, before: None) -> None:
        number, samples = command.turn, command.samples
        turn, play = self.find(number), self.play
        spoken = self.spoken.get(number)
        if turn is None or spoken is None or turn.answer is None:
            if self.replying and play is not None and play.turn == number:
                play.truncate(command)  # cut when nothing more is made of it
            else:
                self.emit(ev.Error("no_such_turn", f"turn {number} has no spoken answer"))
            return
        tokenizer, rate = self.model.llm.tokenizer, self.model.codec.sample_rate
        tokens = tokens_heard(turn, spoken, max(samples, 0), rate, tokenizer)
        if tokens < len(turn.answer.token_ids):
            if turn is self.session.turns[-1] and self.judge is None:
                forget_after(self.session, turn, tokens)
            else:
                self._cut_everywhere(number, tokens)
        self.emit(ev.Truncated(number, turn.answer.text))

    def _cut_everywhere(self, number: int, tokens: int) -> None:
        decode: Callable[..., str] = self.model.llm.tokenizer.decode
        for turn in (turn for session in self._sessions() for turn in session.turns):
            if turn.number == number and turn.answer is not None:
                ids = turn.answer.token_ids[:tokens]
                turn.cut(tokens, decode(ids, skip_special_tokens=True))
        self.stale = True

    def _sessions(self) -> list[Session]:
        """The session, and the one that hears the user while the bot speaks."""
        return [self.session] if self.judge is None else [self.session, self.judge]

    @staticmethod
    def _forget(session: Session, number: int, role: str) -> None:
        for turn in [turn for turn in session.turns if turn.number == number]:
            if role != "assistant":
                turn.heard.clear()
            if role != "user" and turn.answer is not None:
                turn.cut(0, "")
            if role == "both" or (
                role == "user" and turn.answer is None
            ):  # nothing is left of it to answer
                session.turns.remove(turn)

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
