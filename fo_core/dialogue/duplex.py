"""One user's duplex dialogue: sound and commands in, events out, no clock and no threads.

``push`` and the commands only take note; :meth:`run` (or a pool) does the work. Commands that
concern the user's speech take effect behind the sound that was pushed before them, the others at
once. What an event means and in which order they come: :mod:`fo_core.dialogue.events`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from fo_core.dialogue import events as ev
from fo_core.dialogue.duplex_core import DuplexCore
from fo_core.dialogue.history import Turn, tokens_heard
from fo_core.dialogue.states import DialogueState, Event
from fo_core.dialogue.turns import TurnConfig
from fo_core.dialogue.writer import Answer
from fo_core.models.chat import encode
from fo_core.models.steps import Steps

HEARING = (DialogueState.LISTENING, DialogueState.JUDGING)


class Duplex(DuplexCore):
    """The dialogue with its commands."""

    # --- behind the sound that was pushed before ---

    def commit(self, answer: bool = True) -> None:
        """End the user's turn here.

        Args:
            answer: False: no reply until :meth:`respond`.
        """

        def command(before: int) -> bool:
            manual = self.turn.detect == "manual"
            if manual and self.replying:
                return False
            if self.state in HEARING or (manual and before):
                self.work(self._commit(before, answer))
            else:
                self.emit(ev.Error("empty_commit", "nothing was heard since the last turn"))
            return True

        self.inbox.put(command)

    def clear(self) -> None:
        """Drop the sound that nobody heard yet and the turn that is not finished."""

        def command(before: int) -> bool:
            self.ear.position += self.inbox.take(before).size
            self._drop_spoken_turn()
            self.ear.look_back()
            self.emit(ev.Cleared())
            return True

        self.inbox.put(command)

    def hear_text(self, text: str, answer: bool = True) -> None:
        """A typed message of the user.

        Args:
            text: Its words.
            answer: Answer at once, and stop a reply that is on its way; False: after that reply,
                and wait for :meth:`respond`.
        """

        def command(before: int) -> bool:
            if not text.strip():
                self.emit(ev.Error("empty_text", "the message has no words"))
                return True
            if self.replying and not answer:
                return False
            self._drop_spoken_turn()
            if answer and self.play is not None:
                self.stop_reply("turn_detected")
            self.work(self._read_message(text, answer))
            return True

        self.inbox.put(command)

    def say_text(self, text: str) -> None:
        """A message of the assistant for the history; it is not spoken."""

        def command(before: int) -> bool:
            if not text.strip():
                self.emit(ev.Error("empty_text", "the message has no words"))
                return True
            if self.replying:
                return False
            self._add_answer(text)
            return True

        self.inbox.put(command)

    # --- at once ---

    def respond(
        self, speak: bool | None = None, max_tokens: int | None = None, system: str | None = None
    ) -> None:
        """Answer the history as it stands.

        Args:
            speak: Whether this reply is spoken; None: as configured.
            max_tokens: Its longest text, LLM tokens.
            system: System text for this reply; where nothing waits for an answer it is what to do.
        """

        def command(before: int) -> bool:
            if self.replying:
                self.emit(ev.Error("reply_active", "a reply is on its way"))
            elif self.state in HEARING:
                self.emit(ev.Error("nothing_to_answer", "the user is speaking"))
            elif self.session.take_up():
                if system is not None:
                    self._for_one_reply(system)
                self.enter(DialogueState.SPEAKING)
                self.start_reply(speak, max_tokens)
            elif system:
                self.work(self._read_message(system, True, speak, max_tokens))
            else:
                self.emit(ev.Error("nothing_to_answer", "no turn waits for an answer"))
            return True

        def check() -> None:
            if self.replying:
                self.emit(ev.Error("reply_active", "a reply is on its way"))
            else:
                self.inbox.put(command)

        self.at_once(check)

    def interrupt(self) -> None:
        """Stop the reply that is made or played."""

        def command() -> None:
            if self.play is None:
                self.emit(ev.Error("no_reply", "no reply is made or played"))
                return
            judging = self.state is DialogueState.JUDGING
            self.stop_reply("client")
            self.go(Event.REPLY_DONE if judging else Event.STOP)

        self.at_once(command)

    def played(self, position: int, turn: int | None = None) -> None:
        """The user interface has played so many samples of the reply (absolute, 24 kHz).

        Args:
            position: Samples since the beginning of the reply.
            turn: Whose reply; None: the running one.
        """

        def command() -> None:
            if self.play is not None and turn in (None, self.play.turn):
                self.play.tell(position)

        self.at_once(command)

    def truncate(self, turn: int, samples: int) -> None:
        """Let the history keep of an answer what is heard in its first ``samples`` (24 kHz)."""
        self.at_once(lambda: self._truncate(turn, samples))

    def configure(
        self,
        turn: TurnConfig | None = None,
        system: str | None = None,
        voice: Sequence[int] | None = None,
        speak: bool | None = None,
        max_tokens: int | None = None,
    ) -> None:
        """Change settings from the next turn on; what is None stays.

        Args:
            turn: Turn taking.
            system: System text; the history is read again (a prefill) before the next answer.
            voice: Global tokens of the voice.
            speak: Whether replies are spoken.
            max_tokens: Longest answer, LLM tokens.

        Raises:
            ConfigError: The voice does not fit the codec.
        """
        self.model.check_voice(voice)

        def command() -> None:
            if turn is not None:
                self.turn = self.ear.turn = turn
            if voice is not None:
                self.session.voice = tuple(voice)
            if system is not None:
                self._set_system(system)
            self.speak = self.speak if speak is None else speak
            self.max_tokens = self.max_tokens if max_tokens is None else max_tokens
            self.emit(ev.Configured())

        self.at_once(command)

    def delete(self, turn: int, role: Literal["user", "assistant", "both"] = "both") -> None:
        """Forget a turn, or one side of it."""

        def command() -> None:
            found = self.find(turn)
            if found is None:
                self.emit(ev.Error("no_such_turn", f"the history has no turn {turn}"))
            elif self.replying and found is self.session.turns[-1]:
                self.emit(ev.Error("reply_active", "the turn is being answered"))
            else:
                self._forget(found, role)

        self.at_once(command)

    # --- how ---

    def _commit(self, before: int, answer: bool) -> Steps[None]:
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
        ids = encode(self.model.llm.tokenizer, text)
        for session in {id(s): s for s in (self.session, self.active)}.values():
            answer = Answer(session.length, list(ids), ended=True, text=text)
            running = session.state is DialogueState.LISTENING
            before = session.turns[:-1] if running else session.turns
            if before and before[-1].answer is None and before[-1].event is not Event.IGNORE:
                before[-1].answer = answer
            else:
                turn = Turn(start=session.length, number=self.new_number(), answer=answer)
                session.turns.insert(len(before), turn)
        self.unread = True

    def _for_one_reply(self, system: str) -> None:
        before = self.session.parts

        def restore() -> None:
            self.session.parts, self.unread = before, True

        self.session.parts, self.unread = self.model.chat_for(system), True
        self.after_reply = restore

    def _set_system(self, system: str) -> None:
        parts = self.model.chat_for(system)

        def change() -> None:
            self.session.parts, self.unread = parts, True

        if self.replying:  # the running reply keeps its own
            self.after_reply = change
        else:
            change()

    def _truncate(self, number: int, samples: int) -> None:
        turn, play = self.find(number), self.play
        spoken = self.spoken.get(number)
        if turn is None or spoken is None or turn.answer is None:
            if self.replying and play is not None and play.turn == number:
                self.emit(ev.Error("reply_active", "the reply is on its way: interrupt it first"))
            else:
                self.emit(ev.Error("no_such_turn", f"turn {number} has no spoken answer"))
            return
        tokenizer, rate = self.model.llm.tokenizer, self.model.codec.sample_rate
        tokens = tokens_heard(turn, spoken, max(samples, 0), rate, tokenizer)
        if tokens < len(turn.answer.token_ids):
            if turn is self.session.turns[-1] and self.judge is None:
                self.session.forget_after(tokens)
            else:
                self._cut_everywhere(number, tokens)
        self.emit(ev.Truncated(number, turn.answer.text))

    def _cut_everywhere(self, number: int, tokens: int) -> None:
        decode: Callable[..., str] = self.model.llm.tokenizer.decode
        sessions = [self.session] if self.judge is None else [self.session, self.judge]
        for turn in (turn for session in sessions for turn in session.turns):
            if turn.number == number and turn.answer is not None:
                ids = turn.answer.token_ids[:tokens]
                turn.cut(tokens, decode(ids, skip_special_tokens=True))
        self.stale = True

    def _forget(self, turn: Turn, role: str) -> None:
        if role != "assistant":
            turn.heard.clear()
            if turn.answer is None:  # nothing is left of it to answer
                role = "both"
        if role != "user" and turn.answer is not None:
            turn.cut(0, "")
        if role == "both":
            self.session.turns.remove(turn)
        self.unread = True
