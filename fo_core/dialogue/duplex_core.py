"""The core of a duplex dialogue: who is heard, who speaks, and what the history keeps.

The user is heard chunk by chunk whatever the bot does. While it speaks, the user is judged on a
fork of the session (paper, section 2.4): state 1 makes the fork the truth, stops the speech and
answers; state 2 drops the fork. The fork knows of the running answer what had been played when the
user began to speak, so the history never holds what nobody heard.

Work comes as model steps (:mod:`fo_core.models.steps`): :meth:`DuplexCore.resume` goes on to the
next one, whoever drives runs it. Hearing goes before speaking.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from fo_core.config import replace
from fo_core.dialogue import events as ev
from fo_core.dialogue.context import (
    Prefixes,
    drop_oldest,
    forget_unheard,
    fork_steps,
    new_prefixes,
    overfull,
    refeed_steps,
)
from fo_core.dialogue.ear import Ear, Heard
from fo_core.dialogue.end_of_turn import end_of_turn
from fo_core.dialogue.history import Spoken, Turn
from fo_core.dialogue.lanes import Lane, Lanes
from fo_core.dialogue.playback import Playback
from fo_core.dialogue.recent import Recent
from fo_core.dialogue.session import Session
from fo_core.dialogue.settings import DialogueConfig
from fo_core.dialogue.states import DialogueState, Event, transition
from fo_core.dialogue.turns import TurnConfig
from fo_core.dialogue.writer import Answer, Writer
from fo_core.engines.vad import Vad, make_vad
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.tools import ToolCall
from fo_core.models.steps import Steps
from fo_core.streaming import CHUNK_SAMPLES, CHUNK_SECONDS, SAMPLE_RATE

IDLE, LISTENING = DialogueState.IDLE, DialogueState.LISTENING
SPEAKING, JUDGING = DialogueState.SPEAKING, DialogueState.JUDGING
REMEMBERED = 64  # replies that can still be truncated, and calls that can get a result


class DuplexCore(Lanes):
    """One user; :class:`fo_core.dialogue.duplex.Duplex` adds the commands.

    Args:
        model: Shared; in eval mode.
        cfg: How it talks and takes turns.
        system: System text instead of the model's own.
        voice: Global tokens instead of the model's own voice.
        turn: Turn taking instead of the config's.
        speak: False: replies are text only.
        vad: Voice activity detector, shared; None makes the config's.
        now: Time in user samples, for the play head; None: the sound that was heard.
        eager: Make a reply to its end before more is heard, as if the model took no time: what
            comes out then depends on the sound alone.
        prefixes: System texts that were read already, shared by the sessions of a model.

    Raises:
        ConfigError: The voice does not fit the codec.
    """

    def __init__(
        self,
        model: FreezeOmni,
        cfg: DialogueConfig | None = None,
        *,
        system: str | None = None,
        voice: Sequence[int] | None = None,
        turn: TurnConfig | None = None,
        speak: bool = True,
        vad: Vad | None = None,
        now: Callable[[], int] | None = None,
        eager: bool = False,
        prefixes: Prefixes | None = None,
    ) -> None:
        super().__init__(eager)
        self.cfg = cfg or DialogueConfig()
        self.model, self.speak = model, speak
        model.check_voice(voice)
        if speak:
            model.require("speech_decoder", "codec")
        duplex = self.cfg.duplex
        self.turn = turn or duplex.turn
        self.session = Session(model, self.cfg, system, voice, read=False)
        self.judge: Session | None = None  # hears the user while the bot speaks
        self.state = IDLE
        self.play: Playback | None = None  # the reply that is being made or played
        self.max_tokens: int | None = None  # of an answer; None: the config's
        self.ear = Ear(vad or make_vad(duplex.vad), self.turn, self.cfg.history_chunks)
        self.spoken: Recent[int, list[Spoken]] = Recent(REMEMBERED)  # where replies' audio lies
        self.calls: Recent[str, ToolCall] = Recent(REMEMBERED)  # of functions, by the call's id
        self.stale = False  # ... when there is time
        self.after_reply: list[Callable[[], None]] = []
        self.now = now or (lambda: self.ear.position)
        self._prefixes = new_prefixes() if prefixes is None else prefixes
        self._numbers = 0  # turns begun
        self._quiet_since: int | None = None  # user sample since which nobody speaks

    def reply_level(self) -> int:
        """1: the user waits for the bot's voice; 2: more than a second of it lies ready."""
        return 2 if self.play is not None and self.play.ahead(self.now()) > 1.0 else 1

    def played_out(self) -> bool:
        """Whether a reply was played to its end and nobody noticed yet."""
        return self.play is not None and self.play.over(self.now())

    def may_hear(self) -> bool:
        """Whether a chunk can be heard now."""
        deaf = self.turn.detect == "manual" and self._reply is not None
        return not deaf and self.inbox.has_chunk()

    def hear_chunk(self) -> Steps[None]:
        """Hear the next chunk."""
        return self._hear(self.inbox.take(CHUNK_SAMPLES))

    def failed(self, lane: Lane, error: Exception) -> None:
        """A model step or what follows from it failed: the turn or the reply is given up."""
        if lane.kind == "context":
            raise error
        self.emit(ev.Error("model", f"{type(error).__name__}: {error}"))
        if lane.kind == "reply":
            self._end_reply("failed")
            return
        self.judge = None
        if self.session.state is LISTENING:
            self.session.drop_turn()
        if self.state in (LISTENING, JUDGING):
            self.go(Event.SPEECH_LOST)

    # --- what the commands need ---

    @property
    def active(self) -> Session:
        """The session that hears the user."""
        return self.judge or self.session

    def emit(self, event: ev.DuplexEvent) -> None:
        """Say that something happened."""
        event.at, event.cause = self.ear.position, event.cause or self.cause
        self._outbox.append(event)

    def go(self, event: Event) -> None:
        """Move to the next state."""
        self.enter(transition(self.state, event))

    def enter(self, state: DialogueState) -> None:
        """Be in a state."""
        before, self.state = self.state, state
        self._quiet_since = self.ear.position if state is IDLE else None
        if state is not before:
            self.emit(ev.StateChanged(state))

    def new_number(self) -> int:
        """The number of the turn that begins."""
        self._numbers += 1
        return self._numbers - 1

    def find(self, number: int) -> Turn | None:
        """A turn of the history."""
        turns = [t for t in self.session.turns if t.event is not Event.IGNORE]
        return next((turn for turn in turns if turn.number == number), None)

    def settle(self) -> None:
        """Notice that a reply was played to its end."""
        play = self.play
        if play is not None and play.over(self.now()):
            if play.made:
                self.emit(ev.Played(play.turn))
            self.leave_reply()

    def leave_reply(self) -> None:
        """The bot has finished speaking."""
        self.play = None
        if self.state in (SPEAKING, JUDGING):
            if self.judge is not None:
                self.session, self.judge = self.judge, None
            self.go(Event.REPLY_DONE)

    # --- hearing ---

    def _hear(self, block: np.ndarray) -> Steps[None]:
        manual = self.turn.detect == "manual"
        heard = self.ear.hear(block)
        if self.state in (LISTENING, JUDGING):
            yield from self.listen(heard)
            return
        if manual and self.state is SPEAKING:
            self.leave_reply()
        deaf = self.state is SPEAKING and self.turn.interrupt == "never"
        if deaf or not (manual or heard.started):
            self.ear.keep(heard.wave)
            if deaf:
                self.ear.voice.forget()
            self._check_idle()
            return
        yield from self.begin(not manual)
        yield from self.listen(heard)

    def begin(self, voiced: bool) -> Steps[None]:
        """The user's turn begins, with what was heard before the voice was noticed."""
        number = self.new_number()
        if voiced:
            self.emit(ev.SpeechStarted(number, self.ear.voice.began))
        elif not self.ear.voice.speaking:
            self.ear.voice.began = self.ear.voice.ended = self.ear.position
        if self.state is SPEAKING and self.turn.interrupt == "voice":
            self.stop_reply("turn_detected")
            self.go(Event.STOP)
        if self.state is SPEAKING:
            play, size = self.play, self.cfg.duplex.refeed
            played = play.head(self.now()) if play is not None else 0
            self.judge = yield from fork_steps(self.session, play, played, size)
        elif self.stale or self.unread:
            yield from self._read_context()
        self.go(Event.SPEECH_START)
        session = self.active
        session.begin(number)
        before = self.ear.look_back()
        if before and voiced:
            yield from session.onset_steps(before)

    def listen(self, heard: Heard) -> Steps[None]:
        """A chunk of the user's turn."""
        session = self.active
        turn = session.turns[-1]
        turn.voiced = bool(turn.voiced) or heard.voiced
        verdict = yield from session.listen_steps(heard.wave, may_end=False)
        p, number = verdict.probabilities, session.turns[-1].number
        judging = self.state is JUDGING
        self.emit(ev.ChunkState(number, p.listen, p.answer, p.ignore, judging))
        if heard.stopped and self.turn.detect != "manual":
            self.emit(ev.SpeechStopped(number, self.ear.voice.ended))
        seconds = session.turns[-1].chunks * CHUNK_SECONDS
        full = seconds >= self.cfg.duplex.max_turn_seconds or session.crowded
        how = end_of_turn(self.turn, verdict.event, heard, self.ear.voice, judging, full)
        if how is not None:
            self.end(how)

    def end(self, how: ev.How, answer: bool | None = None) -> None:
        """The user's turn is over."""
        session, voice = self.active, self.ear.voice
        number, committed = session.turns[-1].number, how == "commit"
        if how not in ev.DISMISSED and not session.was_heard():
            how = "unheard"
        self.emit(ev.TurnEnded(number, how, voice.began, voice.ended))
        voice.forget()
        if how in ev.DISMISSED:
            session.drop_turn()
            self.judge = None
            self.go(Event.IGNORE if how == "ignore" else Event.SPEECH_LOST)
            if committed:
                self.emit(ev.Error("empty_commit", "nothing was heard in the sound"))
            return
        if self.state is JUDGING:
            self.stop_reply("turn_detected")
        session.end_turn()
        self.go(Event.INPUT_END)
        self.emit(ev.Transcript(number, session.words))
        if self.turn.answer if answer is None else answer:
            self.start_reply()
        else:
            session.leave_turn()
            self.go(Event.STOP)

    def _check_idle(self) -> None:
        since, limit = self._quiet_since, self.turn.idle_ms / 1000 * SAMPLE_RATE
        if limit and self.state is IDLE and since is not None and self._numbers:
            if self.ear.position - since >= limit:
                self._quiet_since = None
                self.emit(ev.IdleTimeout())

    # --- speaking ---

    def start_reply(self, speak: bool | None = None, max_tokens: int | None = None) -> None:
        """Answer the newest turn."""
        number = self.session.turns[-1].number
        self.play = Playback(number, self.model.codec.sample_rate)
        self.emit(ev.ReplyStarted(number))
        aloud = self.speak if speak is None else speak
        work = self._answer(self.play, aloud, max_tokens or self.max_tokens)
        self._reply = Lane("reply", work, self.cause)

    def _answer(self, play: Playback, speak: bool, max_tokens: int | None) -> Steps[None]:
        if self.unread:
            yield from self._read_context()
        session = self.session
        segmenter = self.cfg.segmenter
        if max_tokens is not None:
            segmenter = replace(segmenter, max_tokens=min(max_tokens, segmenter.max_tokens))
        session.cfg = replace(self.cfg, segmenter=segmenter)
        job = session.reply_job(speak)
        yield from job.start()
        while not job.writer.done:
            for part in (yield from job.write()):
                self.emit(ev.TextDelta(play.turn, part.index, part.segment.text_raw))
                if job.speaker is not None:
                    play.begin_part()
                    yield from job.say(part, functools.partial(self._sound, play, part.index))
                    play.spoken[-1].whole = True
            self._call_functions(play.turn, job.writer)
        answer = job.writer.answer
        ended = answer.ended or (answer.calls and not session.tools.parallel)
        self._end_reply("completed" if ended else "incomplete")

    def _sound(self, play: Playback, part: int, audio: Tensor) -> None:
        """Audio [S] of a piece."""
        start = play.add(audio.numel(), self.now())
        self.emit(ev.AudioDelta(play.turn, part, start, audio.float().cpu().numpy()))

    def _call_functions(self, turn: int, writer: Writer) -> None:
        """Tell of the calls that the answer has made since the last time."""
        segmenter = writer.calls
        if segmenter is None:
            return
        for call in segmenter.new_calls():
            writer.answer.calls = True
            id_ = f"call_{secrets.token_hex(8)}"
            self.calls[id_] = call
            self.emit(ev.FunctionCall(turn, id_, call.name, call.arguments))
        while segmenter.faults:
            self.emit(ev.Error("bad_call", segmenter.faults.pop(0)))

    def _end_reply(self, status: ev.Status) -> None:
        """Nothing more comes of the running reply."""
        session, play = self.session, self.play
        assert play is not None
        turn = session.turns[-1]  # nothing is added while a reply is made
        turn.answer = turn.answer or Answer(start=session.length)
        session.state, play.done = IDLE, True
        self.spoken[play.turn] = play.spoken
        usage = session.usage(turn)
        self.emit(ev.ReplyDone(play.turn, status, turn.answer.text, play.made, usage))
        if play.truncated is not None:
            self._at_once.append(play.truncated)
        self._after()
        self.settle()

    def stop_reply(self, reason: Literal["turn_detected", "client"]) -> None:
        """Stop the reply that is being made or played; the history keeps what was heard of it.

        The state is left to the caller.
        """
        play, session, made = self.play, self.session, self._reply
        assert play is not None, "nothing to stop"
        played, turn = play.head(self.now()), self.find(play.turn)
        text = turn.answer.text if turn is not None and turn.answer is not None else ""
        usage = session.usage(turn) if turn is not None else ev.Usage()
        if made is not None:
            made.close()
            self._reply = None
            session.state = IDLE
        self.spoken[play.turn] = play.spoken
        if self.judge is not None:
            self.session, self.judge = self.judge, None
        elif not forget_unheard(session, play, played):
            self.stale = True
        turn = self.find(play.turn)  # None where it was deleted meanwhile
        self.play = None
        heard = turn.answer.text if turn is not None and turn.answer is not None else ""
        self.emit(ev.Interrupted(play.turn, reason, played, heard))
        if made is not None:
            self.emit(ev.ReplyDone(play.turn, "cancelled", text, play.made, usage))
        self._after()

    def _after(self) -> None:
        while self.after_reply:
            self.after_reply.pop(0)()

    # --- the context ---

    def context_due(self) -> bool:
        """Whether the context is to be read again, and can be."""
        busy = self._lane or self._reply or self.judge or self.state is LISTENING
        return not busy and (self.unread or self.stale or overfull(self.session))

    def read_context(self) -> Steps[None]:
        """Forget the oldest turns if the context is full, and read the rest again."""
        before = self.session.length
        dropped = drop_oldest(self.session, self.cfg.duplex.keep)
        yield from self._read_context()
        if dropped:
            self.emit(ev.ContextDropped(dropped, before, self.session.length))

    def _read_context(self) -> Steps[None]:
        self.unread = self.stale = False
        yield from refeed_steps(self.session, self.cfg.duplex.refeed, self._prefixes)
