"""Calibration: outcomes by the dialogue's own rule, the choice, what is heard behind the end."""

from __future__ import annotations

import numpy as np
import pytest

from eval.duplex.calibrate import (
    FALLS,
    SMOOTHINGS,
    THRESHOLDS,
    Outcome,
    Talk,
    outcome,
    point,
    scores,
    sweep,
    with_silence,
)
from eval.duplex.trade_off import (
    Family,
    Wanted,
    best_of_all,
    calibration,
    choose,
    trade_offs,
    unmet,
)
from fo_core.dialogue.calibration import Calibration, CurvePoint
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
            float(draw.uniform(0.3, 1.2)), float(draw.choice((0.0, 0.4))),
            float(draw.uniform(0.3, 0.9)), int(draw.integers(1, 5)), int(draw.integers(0, 5)),
        )  # fmt: skip
        waits = tuple(np.cumsum(draw.uniform(0, 300, 12)).tolist())
        ends = [decide(rule, chunks[: k + 1], waits[k]) for k in range(12)]
        first = next((k for k, event in enumerate(ends) if event is not Event.CONTINUE), None)
        found = outcome(rule, Talk(tuple(chunks), 0.0, waits))
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
    assert {family.smoothing for family in curves} == set(SMOOTHINGS)
    assert {family.fall for family in curves} == set(FALLS)
    assert [p.threshold for p in curves[Family(1, 0.0)]] == list(THRESHOLDS)
    found = choose(curves, Wanted(0.0, 0.0))
    assert (found.family, found.point.threshold) == ((1, 0.0), 0.8)
    assert found.point.false_cuts == 0
    assert found.point.delay_ms == pytest.approx(160, abs=0.1)
    assert choose(curves, Wanted(0.3, 0.0)).point.threshold == 0.1


def test_a_threshold_that_falls_in_silence_is_found_where_no_other_does() -> None:
    """The pause looks more like an end than the end does: only its length tells them apart."""
    said = talk(0.1, 0.1, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, *[0.5] * 12, end=1.44)
    waits = (0, 0, 160, 320, 480, 0, 0, 0, 0, *(160.0 * n for n in range(1, 13)))
    turns = [Talk(said.probabilities, 1.44, waits)] * 20
    curves = sweep(RULE, turns, 4.0)
    without = {family: points for family, points in curves.items() if not family.fall}
    assert unmet(without, Wanted(), 20).startswith("no setting has at most 5.0% false cuts")
    found = choose(curves, Wanted())
    assert found.family.fall > 0 and (found.point.false_cuts, found.point.missed) == (0, 0)
    assert unmet(curves, Wanted(), 20) == ""
    assert outcome(found.rule(RULE), turns[0]).how == "answered"


def test_missed_turns_count_so_that_a_threshold_nothing_exceeds_is_not_taken() -> None:
    """The one with the fewest cuts left 77 % of the turns without a decision."""
    points = [CurvePoint(0.5, 0.43, 1326, 0.16), CurvePoint(0.8, 0.09, 1400, 0.09),
              CurvePoint(0.95, 0.033, 1300, 0.767)]  # fmt: skip
    curves = {Family(4, 0.0): points}
    assert choose(curves, Wanted(0.1, 0.1)).point == points[1]
    assert choose(curves, Wanted(0.05, 0.1)).point == points[1]  # the nearest to both
    assert choose(curves, Wanted(0.05, 1.0)).point == points[2]
    assert unmet(curves, Wanted(0.1, 0.1), 120) == ""
    found = trade_offs(curves, Wanted(0.05, 0.1))
    assert (found["few cuts"].point, found["few missed"].point) == (points[2], points[1])
    assert unmet(curves, Wanted(0.05, 0.1), 120) == (
        "no setting has at most 5.0% false cuts and at most 10.0% missed turns; nearest: "
        "9.0% cut, 9.0% missed, 1400 ms; with so few false cuts: 3.3% cut, 76.7% missed, 1300 ms"
    )
    assert "few missed" not in trade_offs(curves, Wanted(0.05, 0.01))
    assert unmet(curves, Wanted(1.0, 1.0), 19).startswith("19 turns are too few")


def test_what_is_written_holds_both_rates_and_the_curve() -> None:
    points = [CurvePoint(0.5, 0.2, 300, 0.0), CurvePoint(0.9, 0.04, 500, 0.08)]
    curves = {Family(2, 0.3): points, Family(1, 0.0): [CurvePoint(0.9, 0.3, 500, 0.5)]}
    found = choose(curves, Wanted())
    assert found.rule(StateRule(dismiss_threshold=0.7)) == StateRule(0.9, 0.3, 0.7, 2)
    assert calibration(curves, found, Wanted(), 50) == Calibration(
        0.05, 50, 0.04, 500, wanted_missed=0.1, missed=0.08, curve=tuple(points)
    )


def test_the_best_are_those_that_nothing_beats() -> None:
    few, many = CurvePoint(0.9, 0.1, 500, 0.2), CurvePoint(0.5, 0.3, 200, 0.0)
    beaten = CurvePoint(0.7, 0.3, 600, 0.2)
    curves = {Family(1, 0.0): [many, beaten], Family(2, 0.0): [few, many]}
    assert [(s.family.smoothing, s.point) for s in best_of_all(curves)] == [(2, few), (1, many)]


def test_of_nothing_good_the_nearest_is_taken() -> None:
    curves = {Family(1, 0.0): [CurvePoint(0.5, 0.4, 100, 0), CurvePoint(0.9, 0.2, 300, 0)],
              Family(2, 0.0): [CurvePoint(0.9, 0.2, 250, 0)]}  # fmt: skip
    assert choose(curves, Wanted(0.1)).point == curves[Family(2, 0.0)][0]


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
