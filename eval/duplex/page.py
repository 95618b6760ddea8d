"""What ``fo eval duplex`` and ``fo models calibrate`` show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.duplex.turn_taking import OVERLAPS
from eval.report.results import Metric, Overview, Page, metric_table
from fo_core.dialogue.calibration import Calibration, CurvePoint
from fo_core.dialogue.states import StateRule
from fo_core.report.document import Picture, Section, Table

_TASKS = {
    "pause_handling": "lower is better: the user only pauses",
    "backchannel": "lower is better: the user goes on",
    "smooth_turn_taking": "higher is better: the user has finished",
    "user_interruption": "higher is better: the interruption is answered",
}
METRICS = (
    *(Metric(f"{t}/take_over", f"{t.replace('_', ' ')}: turn taken", m) for t, m in _TASKS.items()),
    Metric("backchannel/per_second", "backchannels a second", "in all recordings", ""),
    Metric("smooth_turn_taking/latency", "smooth turn: latency", "user's end to first word", "s"),
    Metric("user_interruption/latency", "interruption: latency", "its end to first word", "s"),
    Metric(
        "user_interruption/stop_latency",
        "interruption: stop latency",
        "the user's voice begins to the model is silent",
        "s",
    ),
    *(
        Metric(f"{task}/{key}", f"{task.replace('_', ' ')}: {name}", meaning, unit)
        for task in OVERLAPS
        for key, name, meaning, unit in (
            (
                "talking",
                "model was talking",
                "when the other voice began",
                "%",
            ),
            ("held", "went on", "higher is better: what came between was not meant for it", "%"),
            ("silence", "gave way for", "until it went on", "s"),
            ("answered", "answered", "lower is better: what was not meant for it", "%"),
            ("stop_latency", "stop latency", "the other voice begins to the model is silent", "s"),
            ("spoke_again", "spoke again", "after it had stopped", "%"),
            ("response_latency", "response latency", "the other voice's end to that speech", "s"),
        )
    ),
    *(
        Metric(f"states/{name}/{kind}", f"{name}: {kind}", "chunks of 160 ms")
        for name in ("continue", "respond", "dismiss")
        for kind in ("precision", "recall", "f1")
    ),
    Metric("states/decision_latency", "decision latency", "end of speech to state 1", "s"),
    Metric("states/cut_in", "questions cut off", "state 1 before the end of speech"),
    Metric("states/undecided", "questions never ended", "no state 1 at all"),
)
# as its authors report them for the published model (Full-Duplex-Bench v1)
PUBLISHED = Table(
    ("Freeze-Omni, published model", "turn taken", "latency, s"),
    (
        ("pause handling, synthetic", "64.2 %", ""),
        ("pause handling, Candor", "48.1 %", ""),
        ("backchannel", "63.6 %", ""),
        ("smooth turn taking", "33.6 %", "0.953"),
        ("user interruption", "86.7 %", "1.409"),
    ),
    (1, 2),
)


def duplex_page(overview: Overview) -> Page:
    """Scores with intervals, and the published model's."""
    clock = overview["about"].get("clock", "")
    how = "the time of computing counts" if clock == "wall" else "computing takes no time"
    known = tuple(m for m in METRICS if m.key in overview["metrics"])
    sections = [
        Section(
            "Scores",
            f"Clock: {clock} ({how}). Intervals: bootstrap over the items.",
            (metric_table(overview, known),),
        ),
    ]
    if any(m.key.split("/")[0] in _TASKS for m in known):
        text = "On its own recordings."
        sections.append(Section("Full-Duplex-Bench, as published", text, (PUBLISHED,)))
    shares = [(m.key, m.name) for m in known if m.unit == "%"]
    return Page("Full duplex", f"{overview['items']} items.", sections, shares)


def calibration_page(
    overview: Overview,
    curves: Mapping[int, Sequence[CurvePoint]],
    now: tuple[StateRule, CurvePoint],
    best: tuple[StateRule, Calibration],
) -> Page:
    """The settings that were found beside those of now, and the curves.

    Args:
        overview: Of the run, at the settings of now.
        curves: Smoothing -> a point for every threshold.
        now: The model's rule and what it does to the turns.
        best: The rule that was found, and how.
    """
    from fo_core.report.plots import lines

    rule, found = best
    chosen = next(p for p in found.curve if p.threshold == rule.respond_threshold)
    head = ("", "threshold", "smoothing", "false cuts", "mean delay, ms", "no decision")
    rows = [(name, *_point_cells(each.smoothing, p))
            for name, each, p in (("now", *now), ("found", rule, chosen))]  # fmt: skip
    series = {f"smoothing {smoothing}": [(100 * p.false_cuts, p.delay_ms) for p in points]
              for smoothing, points in curves.items()}  # fmt: skip
    words = (f"False cuts against mean delay for every threshold; found: {found.false_cuts:.1%} "
             f"and {found.delay_ms:.0f} ms.")  # fmt: skip
    picture = lines(series, "turns answered before they end, %", "mean delay of the others, ms",
                    (100 * found.false_cuts, found.delay_ms))  # fmt: skip
    every = [_point_cells(smoothing, p) for smoothing, points in curves.items() for p in points]
    sections = [
        Section(
            "End of turn",
            f"{found.turns} turns of held-out talk; wanted: at most {found.wanted:.1%} false cuts. "
            "The delay runs from the end of speech to the end of the chunk that decides.",
            (Table(head, rows, (1, 2, 3, 4, 5)),),
        ),
        Section(
            "Curve", words, (Table(head[1:], every, (0, 1, 2, 3, 4)),), (Picture(picture, words),)
        ),  # fmt: skip
        Section("At the settings of now", "", (metric_table(overview, _calibrated(overview)),)),
    ]
    return Page("End of turn, calibrated", f"{overview['items']} recordings.", sections)


def _point_cells(smoothing: int, p: CurvePoint) -> tuple[str, ...]:
    shares = (f"{p.false_cuts:.1%}", f"{p.delay_ms:.0f}", f"{p.missed:.1%}")
    return (f"{p.threshold:g}", str(smoothing), *shares)


def _calibrated(overview: Overview) -> list[Metric]:
    """Every measure of the run, under its own name."""
    return [Metric(key, key.replace("/", ": "), "", "s" if key.endswith("delay") else "%")
            for key in overview["metrics"]]  # fmt: skip
