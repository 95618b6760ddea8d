"""A client that sends no sound any more while the bot stands still for its user."""

from __future__ import annotations

import time

import numpy as np
import pytest
from duplex_talk import CFG, CHUNK, loud, quiet

from fo_core.config import replace
from fo_core.dialogue import events as ev
from fo_core.dialogue.sessions.pool import Pool, PoolConfig
from fo_core.dialogue.settings import TurnConfig

SHORT = replace(CFG, segmenter=replace(CFG.segmenter, max_tokens=20))  # answers of 2 to 3 s


@pytest.mark.parametrize(
    ("verdict", "kinds"),
    [
        ([], [ev.Resumed, ev.TurnEnded]),  # no decision, as after any silence
        (["continue", "respond"], [ev.TurnEnded, ev.Interrupted, ev.ReplyStarted]),
    ],
)
def test_a_voice_whose_sound_stops_coming_is_followed_by_silence(
    tiny_model, vad, head, monkeypatch, verdict, kinds
):
    """A client that sends nothing any more: the bot stood still until the session ended."""
    monkeypatch.setattr("fo_core.dialogue.sessions.pool.SILENT_SECONDS", 0.2)
    turn = TurnConfig(silence_ms=200, end_of_turn_timeout_ms=400)
    head[:] = ["continue", "respond"]
    with Pool(tiny_model, SHORT, PoolConfig(max_sessions=1), vad) as pool:
        talk = pool.open(turn=turn)

        def until(kind):
            while not isinstance(event := talk.get(timeout=20), kind):
                assert event is not None, f"no {kind.__name__}"

        talk.push(np.concatenate([quiet(1), loud(2), quiet(2)]))
        until(ev.AudioDelta)
        (slot,) = pool._slots.values()
        heard = slot.duplex.turns.audio
        assert heard.position == 5 * CHUNK
        time.sleep(0.8 + 0.4)
        assert heard.position == 5 * CHUNK  # nobody stands still: nothing is missed
        head[:] = verdict
        talk.push(loud(1, 1))
        until(ev.Yielded)
        touched = slot.touched
        for kind in kinds:
            until(kind)
        assert slot.touched == touched  # the session is idle all the same
