"""The silence behind the voice, and the decisions it makes: live as calibrated, in any blocks."""

from __future__ import annotations

import numpy as np
import pytest

from eval.duplex.calibrate import Talk, outcome
from fo_core.config import replace
from fo_core.dialogue import events as ev
from fo_core.dialogue.duplex import Duplex
from fo_core.dialogue.settings import TurnConfig
from fo_core.dialogue.states import LEAST, StateProbabilities, StateRule
from tests.support.duplex_talk import CFG, CHUNK, hear, loud, of, quiet

NEVER = StateRule(respond_threshold=1.0, dismiss_threshold=1.0)
SOUND = np.concatenate([quiet(3), loud(6), quiet(4), loud(3), quiet(14)])


def heard(model, vad, rule: StateRule, detect: str, block: int) -> tuple[list[ev.ChunkState], bool]:
    """The chunks of the first turn, and whether a decision ended it."""
    turn = TurnConfig(detect=detect, answer=False)
    duplex = Duplex(model, replace(CFG, states=rule), speak=False, vad=vad, turn=turn)
    events = hear(duplex, SOUND, block=block)
    return of(events, ev.ChunkState, 0), bool(of(events, ev.TurnEnded, 0))


def test_silence_is_counted_behind_the_voice_of_the_turn(tiny_model, vad):
    chunks, ended = heard(tiny_model, vad, NEVER, "manual", CHUNK)
    assert len(chunks) == 30 and not ended
    found = [round(each.quiet_ms / 160) for each in chunks]
    assert found[:9] == [0] * 9  # none before the first voice, and none in it
    assert found[9:13] == [1, 2, 3, 4] and found[13:16] == [0, 0, 0]
    assert found[16:] == list(range(1, 15))


def test_a_live_talk_decides_where_the_calibration_says_in_blocks_of_any_size(tiny_model, vad):
    every, _ = heard(tiny_model, vad, NEVER, "semantic", CHUNK)
    said = [StateProbabilities(e.continue_, e.respond, e.dismiss) for e in every]
    talk = Talk(tuple(said), None, tuple(e.quiet_ms for e in every))
    level = min(p.respond for p in said[-10:]) - 1e-4
    found = {}
    for wait in (0.25, 0.9, 1.5, 9.0):  # s of silence after which the threshold is at the level
        rule = StateRule(level + 5 * wait, 5.0, dismiss_threshold=1.0)
        assert rule.respond_after(1000 * wait) == pytest.approx(max(level, LEAST))
        calibrated = outcome(rule, talk)
        found[wait] = calibrated.how, round(calibrated.delay / 0.16)
        for block in (CHUNK, 640, 7777):
            chunks, ended = heard(tiny_model, vad, rule, "semantic", block)
            assert (("answered", len(chunks)) if ended else ("missed", 0)) == found[wait]
    if level > LEAST:
        assert found[9.0][0] == "missed" and found[0.25][0] == found[1.5][0] == "answered"
        assert found[0.25][1] < found[1.5][1]
