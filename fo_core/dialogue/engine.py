"""Hearing and replying: who is heard, who speaks, and what the history keeps.

The user is heard chunk by chunk whatever the bot does. While it speaks, the user is heard on a
fork of the conversation, a candidate for barge-in (paper, section 2.4): state 1 makes the fork the
conversation, stops the speech and answers; state 2 drops the fork. Until then the bot gives way
(:mod:`fo_core.dialogue.yielding`), if it is asked to. The fork knows of the running answer what had
been played when the user began to speak, so the history never holds what nobody heard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from fo_core.config import replace
from fo_core.dialogue import events as ev
from fo_core.dialogue.apart import conversation_apart
from fo_core.dialogue.audio_input import AudioChunk
from fo_core.dialogue.commands import Respond
from fo_core.dialogue.conversation import Conversation, Prefixes
from fo_core.dialogue.history import Spoken
from fo_core.dialogue.recent import Recent
from fo_core.dialogue.reply import Calls, ReplyJob
from fo_core.dialogue.settings import DialogueConfig
from fo_core.dialogue.speculation import Speculation
from fo_core.dialogue.speech.writer import Answer
from fo_core.dialogue.states import DialogueState, Event
from fo_core.dialogue.task_scheduler import Kind, TaskScheduler
from fo_core.dialogue.turn_taking import TurnTaking
from fo_core.dialogue.yielding import Yielding
from fo_core.models.steps import Steps
from fo_core.streaming import CHUNK_SAMPLES, CHUNK_SECONDS

KEPT_REPLIES = 64  # replies that can still be truncated, and calls that can get a result


class DialogueEngine:
    """Both sides of one user's dialogue.

    Args:
        cfg: How it talks.
        conversation: What the LLM has read, nothing at first.
        turns: Who speaks.
        tasks: Runs replies.
        emit: Takes what happens.
        now: Time in user samples, for playback positions.
        prefixes: System texts that were read already.
        speak: False: replies are text only.

    Attributes:
        candidate: The fork that hears the user while the bot speaks.
        reply: The newest reply, while it is made or played.
        max_tokens: Of an answer; None: the config's.
        unread: The context has to be read before anything is answered.
        stale: ... when there is time.
        after_reply: Changes that wait for the running reply to end.
    """

    def __init__(
        self,
        cfg: DialogueConfig,
        conversation: Conversation,
        turns: TurnTaking,
        tasks: TaskScheduler,
        emit: Callable[[ev.DuplexEvent], None],
        now: Callable[[], int],
        prefixes: Prefixes,
        speak: bool,
    ) -> None:
        self.cfg, self.conversation, self.speak = cfg, conversation, speak
        self.candidate: Conversation | None = None
        self.reply: ReplyJob | None = None
        self.max_tokens: int | None = None
        self.unread, self.stale = True, False
        self.after_reply: list[Callable[[], None]] = []
        self.spoken: Recent[int, list[Spoken]] = Recent(KEPT_REPLIES)  # where replies' audio lies
        self.calls: Calls = Recent(KEPT_REPLIES)
        self._turns, self._tasks, self._emit, self._now = turns, tasks, emit, now
        self._prefixes = prefixes
        self.speculation = Speculation(
            tasks, turns, emit, lambda twin, held: self._job(twin, held=held), self._end_reply
        )
        self.yielding = Yielding(turns, emit, now)

    # --- what the scheduler asks for ---

    def input_due(self) -> Kind | None:
        """What can be done besides replying: hear a chunk, or read the context."""
        tasks, listening = self._tasks, self._turns.listening
        free = tasks.reply is None
        idle = free and tasks.input is None and not listening
        context = idle and (self.unread or self.stale or self.conversation.overfull)
        if context and self.unread:
            return "context"
        if tasks.queue.has_chunk() and (free or self._turns.cfg.by_voice):
            return "input"
        return "context" if context else None

    def input_steps(self, kind: Kind) -> Steps[None]:
        """Do that."""
        if kind == "context":
            return self._shorten_context()
        return self._hear(self._tasks.queue.take(CHUNK_SAMPLES))

    def reply_level(self) -> int:
        """1: the user waits for the bot's voice; 2: more than a second of it lies ready."""
        reply = self.reply
        return 2 if reply is not None and reply.playback.ahead(self._now()) > 1.0 else 1

    def played_out(self) -> bool:
        """Whether a reply was played to its end and nobody noticed yet."""
        return self.reply is not None and self.reply.playback.over(self._now())

    def poll(self) -> None:
        """Notice that a reply was played to its end."""
        if self.reply is not None and self.played_out():
            self.yielding.go_on()
            if self.reply.playback.made:
                self._emit(ev.Played(self.reply.number))
            self.leave_reply()

    def watch(self) -> None:
        """Give way to a voice as soon as it begins: before its chunk is whole."""
        reply = self.reply
        if not self.yielding.watches(reply):
            return
        onset = self._turns.audio.look(self._tasks.queue.first(CHUNK_SAMPLES))
        self.poll()  # time went on
        if onset is not None and self.reply is reply:
            self.yielding.give_way(reply, onset)

    def failed(self, kind: Kind, error: Exception) -> None:
        """A model step or what follows from it failed: the turn or the reply is given up."""
        if kind == "context":
            raise error
        if kind == "spare":
            return self.speculation.failed(error)
        self._emit(ev.Error("model", f"{type(error).__name__}: {error}"))
        if kind == "reply":
            self._end_reply("failed")
        else:
            self.drop_turn(Event.DROP)

    def branches(self) -> list[Conversation]:
        """The conversation, and the one that hears the user while the bot speaks."""
        return [self.conversation] + ([self.candidate] if self.candidate else [])

    # --- hearing ---

    def _hear(self, block: np.ndarray) -> Steps[None]:
        """The next chunk [S], S <= 2560."""
        turns, cfg = self._turns, self._turns.cfg
        chunk, speaking = turns.audio.push(block), turns.state is DialogueState.SPEAKING
        self.yielding.follow()
        if not turns.listening:
            deaf = speaking and cfg.interrupt == "never" and cfg.by_voice
            if deaf or (cfg.by_voice and not chunk.started):
                turns.audio.keep(chunk.wave)
                if deaf:
                    turns.audio.voice.forget()
                self.yielding.go_on()
                turns.check_idle()
                return
            yield from self._begin_turn(cfg.by_voice)
        yield from self._listen(chunk)

    def commit(self, block: np.ndarray, answer: bool) -> Steps[None]:
        """Hear the rest [S] of the user's turn, which ends with it."""
        chunk = self._turns.audio.push(block)
        if not self._turns.listening:
            yield from self._begin_turn(False)
        if block.size:
            yield from self._listen(chunk)
        if self._turns.listening:
            yield from self._end_turn("commit", answer)

    def _begin_turn(self, voiced: bool) -> Steps[None]:
        """The user's turn begins, with what was heard before the voice was noticed."""
        turns = self._turns
        if turns.state is DialogueState.SPEAKING and not voiced:
            self.leave_reply()
        number, self.yielding.resumed = turns.begin(voiced), False
        if turns.state is DialogueState.SPEAKING and turns.cfg.interrupt == "voice":
            self.stop_reply("turn_detected")
            turns.go(Event.STOP)
        if turns.state is DialogueState.SPEAKING:
            twin, reply = self.conversation.fork(), self.reply
            self.candidate = twin  # before anything is waited for: whatever happens, it is known
            self.yielding.give_way(reply, turns.audio.voice.began)
            if reply is not None:
                whole = reply.cut_to_heard(twin, reply.playback.position(self._now()))
                if not whole:
                    yield from self._refeed(twin)
        elif self.stale or self.unread:
            yield from self._read_context()
        turns.go(Event.SPEECH_START)
        active = self.candidate or self.conversation
        if active.turns:  # an answer that was stopped at once has not read its question's end
            yield from active.hear_rest()
        active.begin(number)
        before = turns.audio.look_back()
        if voiced:
            yield from active.hear_before(before)

    def _listen(self, chunk: AudioChunk) -> Steps[None]:
        """A chunk of the user's turn."""
        active, cfg = self.candidate or self.conversation, self._turns.cfg
        turn = active.turns[-1]
        turn.voiced |= chunk.voiced
        probabilities = yield from active.hear(chunk.wave)
        if chunk.voiced:
            turn.last_voice = active.length, len(turn.heard)
        if not self.unread:
            self.speculation.heard(self.cfg.speculate, active, chunk.voiced, probabilities)
        long = turn.chunks * CHUNK_SECONDS >= self.cfg.duplex.max_turn_seconds
        full = (long and cfg.detect != "file") or active.crowded
        how = self._turns.end_of_turn(turn.number, chunk, probabilities, full)
        if how == "respond" and cfg.detect == "file" and not active.was_heard():
            return  # nothing was asked yet
        if how is not None:
            yield from self._end_turn(how, cfg.answer)
        elif self._turns.state is DialogueState.OVERLAP and self.yielding.lasts(chunk, self.reply):
            self.stop_reply("turn_detected")
            self._turns.go(Event.REPLY_DONE)

    def _end_turn(self, how: ev.How, answer: bool) -> Steps[None]:
        """The user's turn is over."""
        active, turns = self.candidate or self.conversation, self._turns
        turn = active.turns[-1]
        if how not in ev.DISMISSED and not active.was_heard():
            how = "unheard"
        if how == "dismiss":
            self.yielding.dismiss()
        turns.end(turn.number, how)
        if how in ev.DISMISSED:
            self.drop_turn(Event.DISMISS if how == "dismiss" else Event.DROP)
            return
        if turns.state is DialogueState.OVERLAP:
            self.stop_reply("turn_detected")
        turn.open = False
        turns.go(Event.INPUT_END)
        self._emit(ev.Transcript(turn.number, active.words))
        if answer:
            job = None if self.unread else self.speculation.commit(active)
            if job is None:
                self.start_reply()
            else:  # begun before
                self.conversation, self.reply = job.conversation, job
                self._emit(ev.ReplyStarted(job.number, job.speculated))
                self.speculation.hand_over()
        else:
            self.speculation.drop("given_up")
            turns.go(Event.STOP)
            yield from active.hear_rest()

    def drop_turn(self, event: Event) -> None:
        """The user's running turn, if there is one, leaves no trace."""
        self.speculation.drop("given_up")
        turns = self.conversation.turns
        if turns and turns[-1].open:
            self.conversation.drop_turn()
        self.candidate = None
        if self._turns.listening:
            self._turns.go(event)
        self.yielding.go_on()

    # --- replying ---

    def start_reply(
        self,
        speak: bool | None = None,
        max_tokens: int | None = None,
        conversation: Conversation | None = None,
        voice: Sequence[int] | None = None,
    ) -> None:
        """Answer the newest turn, of another conversation than the user's if one is given.

        ``voice``: global tokens for this reply, instead of the conversation's.
        """
        self.speculation.drop("changed")
        talk = conversation or self.conversation
        self.reply = self._job(talk, speak, max_tokens, voice=voice)
        self._emit(ev.ReplyStarted(self.reply.number))
        self._tasks.start_reply(self._make_reply(self.reply))

    def _job(
        self,
        conversation: Conversation,
        speak: bool | None = None,
        max_tokens: int | None = None,
        voice: Sequence[int] | None = None,
        held: int | None = None,
    ) -> ReplyJob:
        cfg, limit = self.cfg, max_tokens or self.max_tokens
        if limit is not None:
            limit = min(limit, cfg.segmenter.max_tokens)
            cfg = replace(cfg, segmenter=replace(cfg.segmenter, max_tokens=limit))
        aloud = self.speak if speak is None else speak
        return ReplyJob(conversation, cfg, aloud, self.calls, self._emit, self._now, voice, held)

    def reply_apart(self, command: Respond) -> Steps[None]:
        """Answer on a copy of the conversation, which goes with the answer."""
        if self.unread:
            yield from self._read_context()
        number, size = self._turns.number(), self.cfg.duplex.refeed
        twin = yield from conversation_apart(
            self.conversation, command, number, size, self._prefixes
        )
        if twin is None:
            self._emit(ev.Error("nothing_to_answer", "no turn waits for an answer"))
            return
        self._turns.go(Event.REPLY_START)
        voice = self.conversation.model.find_voice(command.voice)
        self.start_reply(command.speak, command.max_tokens, twin, voice)

    def _make_reply(self, reply: ReplyJob) -> Steps[None]:
        if self.unread:
            yield from self._read_context()
        self._end_reply((yield from reply.steps()))

    def _end_reply(self, status: ev.Status) -> None:
        """Nothing more comes of the running reply."""
        reply = self.reply
        assert reply is not None
        play, usage = reply.playback, reply.usage()
        reply.turn.answer = reply.turn.answer or Answer(start=self.conversation.length)
        play.done = True
        self.spoken[reply.number] = play.spoken
        self._emit(ev.ReplyDone(reply.number, status, reply.text, play.made, usage))
        if play.truncated is not None:
            self._tasks.send(play.truncated)
        self.settle_changes()
        self.poll()

    def stop_reply(self, reason: Literal["turn_detected", "client"]) -> None:
        """Stop the reply that is being made or played; the history keeps what was heard of it.

        The state is left to the caller.
        """
        reply = self.reply
        assert reply is not None, "nothing to stop"
        play, text, usage = reply.playback, reply.text, reply.usage()
        played, made = play.position(self._now()), self._tasks.cancel_reply()
        self.spoken[reply.number] = play.spoken
        if self.candidate is not None:
            before, self.conversation, self.candidate = self.conversation, self.candidate, None
            if self.yielding.resumed:  # more was heard than the candidate knows of
                heard_last = played if self.yielding.reply is None else self.yielding.heard
                self.conversation.take_answer(before, reply.number)
                reply.cut_to_heard(self.conversation, heard_last)
                self.unread = True
        elif not reply.cut_to_heard(self.conversation, played):
            self.stale = True
        self.yielding.end()
        self.reply, turn = None, self.conversation.find(reply.number)  # None: deleted meanwhile
        heard = turn.answer.text if turn is not None and turn.answer is not None else ""
        self._emit(ev.Interrupted(reply.number, reason, played, heard))
        if made:
            self._emit(ev.ReplyDone(reply.number, "cancelled", text, play.made, usage))
        self.settle_changes()

    def leave_reply(self) -> None:
        """The bot has finished speaking."""
        self.yielding.go_on()  # else its player would stand still, or speak low, for good
        self.reply = None
        if self._turns.state in (DialogueState.SPEAKING, DialogueState.OVERLAP):
            if self.candidate is not None:
                self.conversation, self.candidate = self.candidate, None
            self._turns.go(Event.REPLY_DONE)

    def settle_changes(self) -> None:
        """Make the changes that waited for the reply to end."""
        while self.after_reply:
            self.after_reply.pop(0)()

    # --- the context ---

    def _shorten_context(self) -> Steps[None]:
        """Forget the oldest turns if the context is full, and read the rest again."""
        before = self.conversation.length
        dropped = self.conversation.drop_oldest(self.cfg.duplex.keep)
        yield from self._read_context()
        if dropped:
            self._emit(ev.ContextDropped(dropped, before, self.conversation.length))

    def _read_context(self) -> Steps[None]:
        self.unread = self.stale = False
        yield from self._refeed(self.conversation)

    def _refeed(self, conversation: Conversation) -> Steps[None]:
        try:
            yield from conversation.refeed(self.cfg.duplex.refeed, self._prefixes)
        except BaseException:  # given up half-way
            self.unread = True
            raise
