"""What ``fo eval duplex`` and ``fo models calibrate`` show."""

from __future__ import annotations

from collections.abc import Callable

from eval.duplex.trade_off import Curves, Family, Setting, Wanted, best_of_all, trade_offs
from eval.duplex.turn_taking import OVERLAPS
from eval.report.results import Metric, Overview, Page, metric_table
from fo_core.dialogue.calibration import CurvePoint
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
    curves: Curves,
    now: tuple[StateRule, CurvePoint],
    chosen: Setting,
    wanted: Wanted,
    turns: int,
) -> Page:
    """The settings that were found beside those of now, and the curves.

    Args:
        overview: Of the run, at the settings of now.
        curves: A point for every threshold of every family.
        now: The model's rule and what it does to the turns.
        chosen: What was found.
        wanted: The limits; where ``chosen`` is over them, what each limit costs is shown as well.
        turns: That were heard.
    """
    rule, at_now = now
    met = not wanted.excess(chosen.point)
    rows = [("now", *_cells(Setting(Family(rule.smoothing, rule.respond_fall), at_now)))]
    rows += [("found" if met else "nearest", *_cells(chosen))]
    others = {} if met else trade_offs(curves, wanted)
    rows += [(name, *_cells(one)) for name, one in others.items() if one != chosen]
    head = ("", "threshold", "fall a second", "smoothing", "false cuts", "missed", "mean delay, ms")
    numbers = tuple(range(1, len(head)))
    limits = f"at most {wanted.false_cuts:.1%} false cuts and {wanted.missed:.1%} missed turns"
    words = (f"Every threshold at smoothing {chosen.family.smoothing}, a line for each fall; "
             f"ringed: {chosen.point.false_cuts:.1%} false cuts, {chosen.point.missed:.1%} missed, "
             f"{chosen.point.delay_ms:.0f} ms.")  # fmt: skip
    best = [_cells(setting) for setting in best_of_all(curves)]
    sections = [
        Section(
            "End of turn",
            f"{turns} turns of held-out talk; wanted: {limits}. "
            f"{'' if met else 'No setting meets both. '}A missed turn is dismissed or never "
            "decided. The delay runs from the end of speech to the end of the chunk that decides.",
            (Table(head, rows, numbers),),
        ),
        Section("Curve", words, (), (*(Picture(each, words) for each in _curves(curves, chosen)),)),
        Section(
            "Best settings",
            "No other one has fewer false cuts, fewer missed turns and less delay.",
            (Table(head[1:], best, tuple(range(len(head) - 1))),),
        ),
        Section("At the settings of now", "", (metric_table(overview, _calibrated(overview)),)),
    ]
    return Page("End of turn, calibrated", f"{overview['items']} recordings.", sections)


def _curves(curves: Curves, chosen: Setting) -> tuple[bytes, bytes]:
    """False cuts against delay, and against missed turns; a line for each fall."""
    from fo_core.report.plots import lines

    smoothing, mine = chosen.family.smoothing, chosen.point
    shown = {f.fall: points for f, points in curves.items() if f.smoothing == smoothing}

    def drawn(what: str, cost: Callable[[CurvePoint], float]) -> bytes:
        series = {f"fall {fall:g}": [(100 * p.false_cuts, cost(p)) for p in points]
                  for fall, points in shown.items()}  # fmt: skip
        marked = (100 * mine.false_cuts, cost(mine))
        return lines(series, "turns answered before they end, %", what, marked)

    return (
        drawn("mean delay of the others, ms", lambda p: p.delay_ms),
        drawn("missed turns, %", lambda p: 100 * p.missed),
    )


def _cells(setting: Setting) -> tuple[str, ...]:
    (smoothing, fall), p = setting.family, setting.point
    costs = (f"{p.false_cuts:.1%}", f"{p.missed:.1%}", f"{p.delay_ms:.0f}")
    return (f"{p.threshold:g}", f"{fall:g}", str(smoothing), *costs)


def _calibrated(overview: Overview) -> list[Metric]:
    """Every measure of the run, under its own name."""
    return [Metric(key, key.replace("/", ": "), "", "s" if key.endswith("delay") else "%")
            for key in overview["metrics"]]  # fmt: skip
