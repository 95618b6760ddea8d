"""Calibration: outcomes by the dialogue's own rule, the choice, what is heard behind the end."""

from __future__ import annotations

import numpy as np
import pytest

from eval.duplex.calibrate import (
    SMOOTHINGS,
    THRESHOLDS,
    Outcome,
    Talk,
    calibration,
    choose,
    outcome,
    point,
    scores,
    sweep,
    with_silence,
)
from fo_core.dialogue.calibration import CurvePoint
from fo_core.dialogue.states import Event, StateProbabilities, StateRule, decide

RULE = StateRule()


def talk(*respond: float, end: float | None = 0.32, dismiss: float = 0.0) -> Talk:
    """Chunks with these probabilities of state 1."""
    made = [StateProbabilities(1 - p - dismiss * (1 - p), p, dismiss * (1 - p)) for p in respond]
    return Talk(tuple(made), end)


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        (talk(0.1, 0.2, 0.3, 0.9), Outcome("answered", pytest.approx(0.32))),
        (talk(0.1, 0.9), Outcome("answered", 0.0)),  # the chunk in which the speech ends
        (talk(0.9, 0.1, 0.1), Outcome("cut")),
        (talk(0.1, 0.4, 0.5), Outcome("missed")),  # it must exceed the threshold
        (talk(0.1, 0.1, 0.2, dismiss=0.9), Outcome("dismissed")),
        (talk(0.1, 0.9, end=None), Outcome("answered", pytest.approx(0.32))),
    ],
)
def test_how_a_recording_ends(heard: Talk, expected: Outcome) -> None:
    assert outcome(RULE, heard) == expected


def test_outcomes_are_those_of_the_dialogue_s_rule() -> None:
    draw = np.random.default_rng(0)
    for _ in range(60):
        chunks = [StateProbabilities(*p) for p in draw.dirichlet((2, 1, 0.5), 12).tolist()]
        rule = StateRule(
            float(draw.uniform(0.3, 0.9)), float(draw.uniform(0.3, 0.9)),
            int(draw.integers(1, 5)), int(draw.integers(0, 5)),
        )  # fmt: skip
        ends = [decide(rule, chunks[: k + 1]) for k in range(12)]
        first = next((k for k, event in enumerate(ends) if event is not Event.CONTINUE), None)
        found = outcome(rule, Talk(tuple(chunks), 0.0))
        if first is None:
            assert found == Outcome("missed")
        elif ends[first] is Event.DISMISS:
            assert found == Outcome("dismissed")
        else:
            assert found == Outcome("answered", pytest.approx((first + 1) * 0.16))


def test_a_point_counts_cuts_delays_and_what_no_decision_ends() -> None:
    turns = [talk(0.9, 0.1), talk(0.1, 0.2, 0.9), talk(0.1, 0.1, 0.1), talk(0.1, 0.1, 0.1, 0.6)]
    found = point(RULE, turns, timeout=4.0)
    assert found == CurvePoint(0.5, 0.25, pytest.approx(1000 * (0.16 + 4.0 + 0.32) / 3, abs=0.1),
                               0.25)  # fmt: skip


def test_smoothing_and_threshold_are_the_quickest_that_cut_seldom_enough() -> None:
    pausing = [talk(0.1, 0.8, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9, end=0.8)] * 3
    plain = [talk(0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9, end=0.8)] * 7
    curves = sweep(RULE, pausing + plain, 4.0)
    assert tuple(curves) == SMOOTHINGS and [p.threshold for p in curves[1]] == list(THRESHOLDS)
    never, _ = calibration(curves, RULE, 0.0, 10), None
    rule, found = never
    assert (rule.smoothing, rule.respond_threshold) == (1, 0.8) and found.false_cuts == 0
    assert found.delay_ms == pytest.approx(160, abs=0.1) and found.turns == 10
    assert found.curve == tuple(curves[1])
    often, _ = choose(curves, 0.3)
    assert choose(curves, 0.3)[1].threshold == 0.1 and often == 1


def test_where_no_threshold_is_good_enough_the_fewest_cuts_are_taken() -> None:
    points = {1: [CurvePoint(0.5, 0.4, 100, 0), CurvePoint(0.9, 0.2, 300, 0)],
              2: [CurvePoint(0.9, 0.2, 250, 0)]}  # fmt: skip
    assert choose(points, 0.1) == (2, points[2][0])


def test_scores_of_turns_and_of_what_wants_no_answer() -> None:
    row = {"probabilities": [[0.1, 0.9, 0.0]] * 3, "said": "backchannel"}
    assert scores(row, RULE, 4.0) == {"answered/backchannel": (1.0, 1.0)}
    late = {"probabilities": [[0.9, 0.1, 0.0]] * 3, "said": "question", "speech_end": 0.2}
    assert scores(late, RULE, 4.0) == {
        "turns/false_cuts": (0.0, 1.0), "turns/dismissed": (0.0, 1.0), "turns/missed": (1.0, 1.0),
        "turns/delay": (4.0, 1.0),
    }  # fmt: skip


def test_two_seconds_are_heard_behind_the_end_in_the_recording_s_own_noise() -> None:
    noise = 0.01 * np.random.default_rng(0).standard_normal(24000).astype("f4")
    longer = with_silence(noise, 1.0)
    assert len(longer) == 3 * 16000 and np.array_equal(longer[:24000], noise)
    assert longer[24000:].std() == pytest.approx(0.01, rel=0.1)
    assert with_silence(noise, None) is noise
    enough = np.zeros(64000, "f4")
    assert with_silence(enough, 1.0) is enough
