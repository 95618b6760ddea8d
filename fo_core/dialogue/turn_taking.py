"""Turn taking of one user: voice activity, endpointing, dialogue state. No model, no clock."""

from __future__ import annotations

from collections.abc import Callable

from fo_core.dialogue import events as ev
from fo_core.dialogue.audio_input import WINDOW_MS, AudioChunk, VadSegmenter
from fo_core.dialogue.settings import TurnConfig
from fo_core.dialogue.states import (
    DialogueState,
    Event,
    StateProbabilities,
    StateRule,
    decide,
    transition,
)
from fo_core.streaming import SAMPLE_RATE


class TurnTaking:
    """Who speaks, and when a turn of the user begins and ends.

    Args:
        cfg: Who ends turns, and thresholds.
        rule: When the state head's probabilities end a turn.
        audio: Cuts the user's sound and finds the voice in it.
        emit: Takes what happens.
    """

    def __init__(
        self,
        cfg: TurnConfig,
        rule: StateRule,
        audio: VadSegmenter,
        emit: Callable[[ev.DuplexEvent], None],
    ) -> None:
        self.cfg, self.audio, self.state = cfg, audio, DialogueState.IDLE
        self._rule, self._emit = rule, emit
        self._recent: list[StateProbabilities] = []  # of the running turn
        self._voiced = False  # ... whether there was voice in it
        self._numbers = 0  # turns begun
        self._idle_since: int | None = None  # user sample since which nobody speaks

    @property
    def listening(self) -> bool:
        """Whether the user speaks."""
        return self.state in (DialogueState.LISTENING, DialogueState.OVERLAP)

    def configure(self, cfg: TurnConfig) -> None:
        """Other settings, from now on."""
        self.cfg = self.audio.cfg = cfg

    def go(self, event: Event) -> None:
        """Move to the next state."""
        before, self.state = self.state, transition(self.state, event)
        self._idle_since = self.audio.position if self.state is DialogueState.IDLE else None
        if self.state is not before:
            self._emit(ev.StateChanged(self.state))

    def number(self) -> int:
        """The number of the turn that begins."""
        self._numbers += 1
        return self._numbers - 1

    def begin(self, voiced: bool) -> int:
        """The user's turn begins, with a voice or with any sound; its number."""
        number, voice = self.number(), self.audio.voice
        self._recent, self._voiced = [], voiced or voice.speaking
        if voiced:
            self._emit(ev.SpeechStarted(number, voice.began))
        elif not voice.speaking:
            voice.began = voice.ended = self.audio.position
        return number

    def end_of_turn(
        self, turn: int, chunk: AudioChunk, probabilities: StateProbabilities, full: bool
    ) -> ev.How | None:
        """How a turn ends with a chunk; None: it goes on.

        Args:
            turn: Its number.
            chunk: What was heard.
            probabilities: What the state head says of it.
            full: The turn is as long as a turn may be.
        """
        p, cfg, voice = probabilities, self.cfg, self.audio.voice
        overlap = self.state is DialogueState.OVERLAP
        self._recent.append(p)
        self._voiced |= chunk.voiced
        quiet = voice.quiet * WINDOW_MS if self._voiced else 0.0
        self._emit(ev.ChunkState(turn, p.continue_, p.respond, p.dismiss, overlap, quiet))
        if chunk.stopped and cfg.by_voice:
            self._emit(ev.SpeechStopped(turn, voice.ended))
        if cfg.detect in ("semantic", "file"):
            event = decide(self._rule, self._recent, quiet)
            if event is not Event.CONTINUE:
                return "respond" if event is Event.RESPOND else "dismiss"
        if cfg.detect == "semantic" and voice.quiet * WINDOW_MS >= cfg.end_of_turn_timeout_ms:
            return "no_decision" if overlap else "timeout"
        if cfg.detect == "server" and chunk.stopped:
            return "silence"
        return "too_long" if full else None

    def end(self, turn: int, how: ev.How) -> None:
        """A turn of the user is over."""
        voice = self.audio.voice
        self._emit(ev.TurnEnded(turn, how, voice.began, voice.ended))
        voice.forget()

    def check_idle(self) -> None:
        """Say once that the user has said nothing for as long as was asked for."""
        since, limit = self._idle_since, self.cfg.idle_ms / 1000 * SAMPLE_RATE
        if limit and since is not None and self._numbers and self.audio.position - since >= limit:
            self._idle_since = None
            self._emit(ev.IdleTimeout())
