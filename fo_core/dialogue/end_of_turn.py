"""Endpointing: whether, and how, a user's turn ends with the chunk that was just heard."""

from __future__ import annotations

from fo_core.dialogue.ear import Heard, Voice
from fo_core.dialogue.events import How
from fo_core.dialogue.states import Event
from fo_core.dialogue.turns import WINDOW_MS, TurnConfig


def end_of_turn(
    cfg: TurnConfig, event: Event, heard: Heard, voice: Voice, judging: bool, full: bool
) -> How | None:
    """How the turn ends with a chunk; None: it goes on.

    Args:
        cfg: Who ends turns: the state head, silence, or neither.
        event: What the state head said of the chunk.
        heard: The chunk.
        voice: Where the voice is after it.
        judging: The bot speaks too.
        full: The turn is as long as a turn may be.
    """
    if cfg.detect == "semantic":
        if event is Event.ANSWER:
            return "answer"
        if event is Event.IGNORE:
            return "ignore"
        if voice.quiet * WINDOW_MS >= cfg.patience_ms:
            return "lost" if judging else "patience"
    if cfg.detect == "server" and heard.stopped:
        return "silence"
    return "too_long" if full else None
