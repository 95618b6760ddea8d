"""What end-of-turn settings do to held-out talk: false cuts, missed turns, delay.

A recording with state labels is heard once; what the state head says of every chunk is kept, with
the silence behind the voice. Each ``states.respond_threshold``, ``respond_fall`` and ``smoothing``
is then tried on that by the dialogue's own rule (:func:`fo_core.dialogue.states.decide`). A *false
cut* is a turn of the user that is answered before it ends, a *missed* turn one that is dismissed or
that nothing decides; the *delay* of those not cut runs from the end of speech to the end of the
chunk that decides, and is the timeout where none does. Which setting is taken:
:mod:`eval.duplex.trade_off`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from eval.duplex.trade_off import Family
from eval.harness import Evaluation, Pass, Row, Score
from fo_core.config import replace
from fo_core.dialogue.calibration import CurvePoint
from fo_core.dialogue.settings import DialogueConfig
from fo_core.dialogue.states import Event, StateProbabilities, StateRule, decide
from fo_core.io import audio
from fo_core.streaming import CHUNK_SAMPLES, SAMPLE_RATE

CHUNK_SECONDS = CHUNK_SAMPLES / SAMPLE_RATE
SMOOTHINGS = (1, 2, 3, 4)
THRESHOLDS = (*(n / 10 for n in range(1, 9)), 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995)
ABOVE = (1.1, 1.2, 1.5, 2.0)  # thresholds for falls only: none is exceeded without a silence
FALLS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # of the threshold, a second of silence
SILENCE = 2.0  # s that are heard behind the end of speech
How = Literal["cut", "answered", "dismissed", "missed"]


@dataclass(frozen=True)
class Talk:
    """What the state head said of a recording."""

    probabilities: tuple[StateProbabilities, ...]  # a chunk each
    end: float | None  # of the user's turn, s; None: nothing in it wants an answer
    quiet: tuple[float, ...] = ()  # ms without voice behind each chunk; none: always 0

    def quiet_ms(self, chunk: int) -> float:
        """Silence behind a chunk."""
        return self.quiet[chunk] if self.quiet else 0.0


@dataclass(frozen=True)
class Outcome:
    """How a recording ended."""

    how: How
    delay: float = 0.0  # s from the end of speech


def outcome(rule: StateRule, talk: Talk) -> Outcome:
    """How a rule ends a recording; "answered" of a talk that wants no answer is a false one."""
    needed = max(rule.smoothing, rule.min_chunks, 1)
    for last in range(1, len(talk.probabilities) + 1):
        recent = list(talk.probabilities[max(0, last - needed) : last])
        event = decide(rule, recent, talk.quiet_ms(last - 1))
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
        rule: With the settings to try.
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


def sweep(
    rule: StateRule,
    turns: Sequence[Talk],
    timeout: float,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> dict[Family, list[CurvePoint]]:
    """A point for every threshold of every family, everything else as in ``rule``."""
    families = [Family(smoothing, fall) for fall in FALLS for smoothing in SMOOTHINGS]
    found = {}
    for done, family in enumerate(families):
        progress("try", done, len(families))
        smoothing, fall = family
        found[family] = [
            point(
                replace(rule, respond_threshold=threshold, smoothing=smoothing, respond_fall=fall),
                turns,
                timeout,
            )
            for threshold in THRESHOLDS + (ABOVE if fall else ())
        ]
    progress("try", len(families), len(families))
    return found


def talk_of(row: Row) -> Talk:
    """A row of the pass ``hear``; a turn that breaks off wants no answer."""
    probabilities = tuple(StateProbabilities(*found) for found in row["probabilities"])
    return Talk(probabilities, row.get("speech_end"), tuple(row.get("quiet", ())))


def turns_of(rows: Sequence[Row]) -> list[Talk]:
    """The users' turns among rows."""
    return [talk_of(row) for row in rows if "speech_end" in row]


def evaluation(
    folder: str, weights: str, dialogue: DialogueConfig, about: Mapping[str, Any], device: str
) -> Evaluation:
    """Hear every recording; scores are those of the model's present settings.

    Args:
        folder: The model.
        weights: Their fingerprint.
        dialogue: How the model talks now.
        about: For the results.
        device: Where it runs.
    """
    turn = dialogue.duplex.turn
    timeout = turn.end_of_turn_timeout_ms / 1000
    key = {"weights": weights, "vad": dialogue.duplex.vad, "voice": turn.threshold}

    def hearing() -> Any:
        from eval.systems.probe import ModelProbe

        probe = ModelProbe(folder, device)

        def one(row: Row) -> Row:
            wave = audio.read(row["audio"], SAMPLE_RATE, start=row["start"],
                              duration=row["seconds"], channel=row.get("channel"))  # fmt: skip
            wave = with_silence(wave, row.get("speech_end"))
            found = probe.chunk_states(wave, -(-len(wave) // CHUNK_SAMPLES))
            kept = [(each.continue_, each.respond, each.dismiss) for each in found]
            return {"probabilities": [[round(p, 5) for p in each] for each in kept],
                    "quiet": [each.quiet_ms for each in found]}  # fmt: skip

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
