"""What ``fo eval duplex`` shows."""

from __future__ import annotations

from eval.duplex.turn_taking import OVERLAPS
from eval.report.results import Metric, Overview, Page, metric_table
from fo_core.report.document import Section, Table

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
