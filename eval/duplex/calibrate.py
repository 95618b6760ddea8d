"""End-of-turn threshold and smoothing for a wanted share of false cuts, from held-out talk.

A recording with state labels is heard once; what the state head says of every chunk is kept. Each
pair of ``states.respond_threshold`` and ``states.smoothing`` is then tried on that by the
dialogue's own rule (:func:`fo_core.dialogue.states.decide`). A *false cut* is a turn of the user
that is answered before it ends; the *delay* of the others runs from the end of speech to the end of
the chunk that decides, and is the timeout where none does. Of the pairs with no more false cuts
than wanted, the one with the least mean delay is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from eval.harness import Evaluation, Pass, Row, Score
from fo_core.config import replace
from fo_core.dialogue.calibration import Calibration, CurvePoint
from fo_core.dialogue.settings import DialogueConfig
from fo_core.dialogue.states import Event, StateProbabilities, StateRule, decide
from fo_core.io import audio
from fo_core.streaming import CHUNK_SAMPLES, SAMPLE_RATE

CHUNK_SECONDS = CHUNK_SAMPLES / SAMPLE_RATE
SMOOTHINGS = (1, 2, 3, 4)
THRESHOLDS = (*(n / 10 for n in range(1, 9)), 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995)
SILENCE = 2.0  # s that are heard behind the end of speech
How = Literal["cut", "answered", "dismissed", "missed"]


@dataclass(frozen=True)
class Talk:
    """What the state head said of a recording."""

    probabilities: tuple[StateProbabilities, ...]  # a chunk each
    end: float | None  # of the user's turn, s; None: nothing in it wants an answer


@dataclass(frozen=True)
class Outcome:
    """How a recording ended."""

    how: How
    delay: float = 0.0  # s from the end of speech


def outcome(rule: StateRule, talk: Talk) -> Outcome:
    """How a rule ends a recording; "answered" of a talk that wants no answer is a false one."""
    needed = max(rule.smoothing, rule.min_chunks, 1)
    for last in range(1, len(talk.probabilities) + 1):
        event = decide(rule, list(talk.probabilities[max(0, last - needed) : last]))
        if event is Event.CONTINUE:
            continue
        at = last * CHUNK_SECONDS
        if event is Event.DISMISS:
            return Outcome("dismissed")
        if talk.end is not None and at < talk.end:
            return Outcome("cut")
        return Outcome("answered", at - (talk.end or 0.0))
    return Outcome("missed")


def point(rule: StateRule, turns: Sequence[Talk], timeout: float) -> CurvePoint:
    """What a rule does to turns of users.

    Args:
        rule: With the threshold and smoothing to try.
        turns: At least one; each has an end.
        timeout: s of silence that end a turn without a decision.
    """
    found = [outcome(rule, turn) for turn in turns]
    late = [o.delay if o.how == "answered" else timeout for o in found if o.how != "cut"]
    missed = sum(o.how in ("missed", "dismissed") for o in found)
    return CurvePoint(
        threshold=rule.respond_threshold,
        false_cuts=round(sum(o.how == "cut" for o in found) / len(found), 4),
        delay_ms=round(1000 * float(np.mean(late)), 1) if late else 0.0,
        missed=round(missed / len(found), 4),
    )


def sweep(rule: StateRule, turns: Sequence[Talk], timeout: float) -> dict[int, list[CurvePoint]]:
    """Smoothing -> a point for every threshold, everything else as in ``rule``."""
    return {
        smoothing: [
            point(replace(rule, respond_threshold=t, smoothing=smoothing), turns, timeout)
            for t in THRESHOLDS
        ]
        for smoothing in SMOOTHINGS
    }


def choose(curves: Mapping[int, Sequence[CurvePoint]], wanted: float) -> tuple[int, CurvePoint]:
    """The smoothing and point with the least delay among those with few enough false cuts.

    Where none has so few, the one with the fewest; of equals the smaller smoothing and threshold.
    """
    every = [(smoothing, p) for smoothing, points in curves.items() for p in points]
    enough = [one for one in every if one[1].false_cuts <= wanted]
    if enough:
        return min(enough, key=lambda one: (one[1].delay_ms, one[0], one[1].threshold))
    return min(every, key=lambda one: (one[1].false_cuts, one[1].delay_ms, one[0]))


def calibration(
    curves: Mapping[int, Sequence[CurvePoint]], rule: StateRule, wanted: float, turns: int
) -> tuple[StateRule, Calibration]:
    """The rule to write, and how it was found."""
    smoothing, best = choose(curves, wanted)
    states = replace(rule, respond_threshold=best.threshold, smoothing=smoothing)
    curve = tuple(curves[smoothing])
    return states, Calibration(wanted, turns, best.false_cuts, best.delay_ms, curve)


def talk_of(row: Row) -> Talk:
    """A row of the pass ``hear``; a turn that breaks off wants no answer."""
    probabilities = tuple(StateProbabilities(*found) for found in row["probabilities"])
    return Talk(probabilities, row.get("speech_end"))


def turns_of(rows: Sequence[Row]) -> list[Talk]:
    """The users' turns among rows."""
    return [talk_of(row) for row in rows if "speech_end" in row]


def evaluation(
    folder: str, key: Mapping[str, Any], dialogue: DialogueConfig, about: Mapping[str, Any],
    device: str,
) -> Evaluation:  # fmt: skip
    """Hear every recording; scores are those of the model's present settings.

    Args:
        folder: The model.
        key: What the state head's probabilities depend on.
        dialogue: How the model talks now.
        about: For the results.
        device: Where it runs.
    """
    timeout = dialogue.duplex.turn.end_of_turn_timeout_ms / 1000

    def hearing() -> Any:
        from eval.systems.probe import ModelProbe

        probe = ModelProbe(folder, device)

        def one(row: Row) -> Row:
            wave = audio.read(row["audio"], SAMPLE_RATE, start=row["start"],
                              duration=row["seconds"], channel=row.get("channel"))  # fmt: skip
            wave = with_silence(wave, row.get("speech_end"))
            found = probe.probabilities(wave, -(-len(wave) // CHUNK_SAMPLES))
            return {"probabilities": [[round(p, 5) for p in each] for each in found]}

        return lambda rows: [one(row) for row in rows]

    def score(row: Row) -> dict[str, Score]:
        return scores(row, dialogue.states, timeout)

    return Evaluation("calibrate", [Pass("hear", key, hearing, model=True)], score, about)


def with_silence(wave: np.ndarray, end: float | None) -> np.ndarray:
    """A wave [S] at 16 kHz with at least two seconds behind the end of speech (s; None: its own).

    What is missing is the recording's own background, turned round and repeated.
    """
    if end is None:
        return wave
    behind = wave[round(end * SAMPLE_RATE) + SAMPLE_RATE // 20 :]
    missing = round((end + SILENCE) * SAMPLE_RATE) - len(wave)
    if missing <= 0:
        return wave
    more = np.resize(np.concatenate([behind[::-1], behind]), missing)
    return np.concatenate([wave, more if len(behind) else np.zeros(missing, np.float32)])


def scores(row: Row, rule: StateRule, timeout: float) -> dict[str, Score]:
    """One recording's part of every measure."""
    talk, kind = talk_of(row), row.get("said") or "other"
    found = outcome(rule, talk)
    if talk.end is None:
        return {f"answered/{kind}": (float(found.how == "answered"), 1.0)}
    scored = {"turns/false_cuts": (float(found.how == "cut"), 1.0),
              "turns/dismissed": (float(found.how == "dismissed"), 1.0),
              "turns/missed": (float(found.how == "missed"), 1.0)}  # fmt: skip
    if found.how != "cut":
        scored["turns/delay"] = (found.delay if found.how == "answered" else timeout, 1.0)
    return scored
