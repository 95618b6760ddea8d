"""Giving way: at a voice the bot pauses, or ducks, before anybody knows what the voice wants.

A voice over the bot's own is a question, a back-channel, a cough or a word to somebody else. Until
the state head knows, the bot stands still; what it has not said stays as it is, so it goes on with
the sample after the last one. A voice that the state head dismissed while it sounds (background
speech) is talked over until it falls silent.
"""

from __future__ import annotations

from collections.abc import Callable

from fo_core.dialogue import events as ev
from fo_core.dialogue.audio_input import AudioChunk
from fo_core.dialogue.reply import ReplyJob
from fo_core.dialogue.turn_taking import TurnTaking
from fo_core.streaming import SAMPLE_RATE


class Yielding:
    """What the replies of one user do at a voice.

    Args:
        turns: Who speaks, and whether the bot gives way at all.
        emit: Takes what happens.
        now: Time in user samples, for playback positions.

    Attributes:
        reply: It has given way and not gone on.
        heard: Samples of it that were played when it gave way last.
        resumed: A reply has gone on since the user's turn began.
    """

    def __init__(
        self,
        turns: TurnTaking,
        emit: Callable[[ev.DuplexEvent], None],
        now: Callable[[], int],
    ) -> None:
        self.reply: ReplyJob | None = None
        self.heard, self.resumed = 0, False
        self._turns, self._emit, self._now = turns, emit, now
        self._talked_over: int | None = None  # user sample to which a dismissed voice has sounded

    def watches(self, reply: ReplyJob | None) -> bool:
        """Whether a reply would give way to a voice that begins now."""
        cfg = self._turns.cfg
        asked = cfg.interrupt == "yield" and cfg.yield_by != "none" and cfg.by_voice
        return asked and reply is not None and reply.speaks and self.reply is None

    def lasts(self, chunk: AudioChunk, reply: ReplyJob | None) -> bool:
        """The user's turn goes on over a reply: whether the bot has to stop for good."""
        if self.too_long:
            return True
        if chunk.stopped:
            self.go_on()
        elif chunk.started:
            self.give_way(reply, self._turns.audio.voice.began)
        return False

    def give_way(self, reply: ReplyJob | None, onset: int) -> None:
        """A voice began, at a user sample, over a reply."""
        by = self._turns.cfg.yield_by
        if reply is None or by == "none" or not self.watches(reply) or self._is_talked_over(onset):
            return
        self.reply, self.heard = reply, reply.playback.position(self._now())
        if by == "pause":
            reply.playback.pause(self._now())
        self._emit(ev.Yielded(reply.number, by, onset, self.heard))

    def go_on(self) -> None:
        """The voice wanted nothing, or fell silent, or the reply is over."""
        reply, self.reply = self.reply, None
        if reply is not None:
            self.resumed = True
            reply.playback.resume(self._now())
            self._emit(ev.Resumed(reply.number, reply.playback.position(self._now())))

    def end(self) -> None:
        """The reply was stopped for good."""
        self.reply = None

    def dismiss(self) -> None:
        """The state head wants nothing of the voice; one that still sounds is talked over."""
        voice = self._turns.audio.voice
        self._talked_over = voice.ended if voice.run else None

    def follow(self) -> None:
        """A chunk was heard: does the voice that is talked over go on?"""
        if self._talked_over is not None:
            ended = self._turns.audio.voice.ended
            self._talked_over = ended if self._is_talked_over(ended) else None
            if self._turns.audio.position - ended >= self._silence:
                self._talked_over = None

    @property
    def undecided(self) -> bool:
        """A reply stands still for the user, or did in the turn that still goes on."""
        return self.reply is not None or (self.resumed and self._turns.listening)

    @property
    def too_long(self) -> bool:
        """Whether the voice goes on for so long that the bot has to stop for good."""
        cfg, audio = self._turns.cfg, self._turns.audio
        if cfg.interrupt != "yield" or not audio.voice.speaking or self._talked_over is not None:
            return False
        return audio.position - audio.voice.began >= cfg.yield_ms / 1000 * SAMPLE_RATE

    @property
    def _silence(self) -> float:
        """Samples without voice after which another voice begins."""
        return self._turns.cfg.silence_ms / 1000 * SAMPLE_RATE

    def _is_talked_over(self, sample: int) -> bool:
        return self._talked_over is not None and sample - self._talked_over < self._silence
