"""One talk as a Chrome trace (chrome://tracing, ui.perfetto.dev) and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.latency.talk import Span, Talk
from fo_core.io.files import replacing, write_json

LANES = ("ear", "LLM", "speech decoder", "codec", "playback")
COLOURS = dict(zip(LANES, ("C0", "C1", "C2", "C3", "0.6"), strict=True))


def chrome_trace(talk: Talk) -> dict[str, Any]:
    """Complete events in microseconds from the first chunk on; one thread a lane."""
    began = talk.spans[0].start
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": lane}}
        for tid, lane in enumerate(LANES)
    ]
    for span in talk.spans:
        events.append(
            {
                "ph": "X",
                "pid": 1,
                "tid": LANES.index(span.lane),
                "name": span.name,
                "cat": span.lane,
                "ts": 1e6 * (span.start - began),
                "dur": 1e6 * (span.end - span.start),
            }
        )
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def write_trace(path: Path, talk: Talk) -> None:
    """The Chrome trace as a JSON file."""
    write_json(path, chrome_trace(talk))


def write_timeline(path: Path, talk: Talk, title: str) -> None:
    """A picture (PNG): who worked when, from the last chunk of the question on."""
    from matplotlib.figure import Figure

    last = max(span.start for span in talk.spans if span.lane == "ear")
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots()
    for span in talk.spans:
        if span.end > last:
            _bar(axes, span, last, talk.total)
    axes.axvline(talk.total, color="k", linewidth=0.8)
    axes.annotate(f" first audio, {talk.total:.0f} ms", (talk.total, -0.45), fontsize=8)
    axes.set_yticks(range(len(LANES)), LANES)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * talk.total)
    axes.set_xlabel("ms after the last chunk arrived")
    axes.set_title(title, fontsize=9)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)


def _bar(axes: Any, span: Span, zero: float, total: float) -> None:
    left = max(0.0, 1000 * (span.start - zero))
    width = 1000 * (span.end - zero) - left
    axes.barh(LANES.index(span.lane), width, left=left, color=COLOURS[span.lane], edgecolor="w")
    if span.lane != "playback" and width > 0.02 * total:
        axes.annotate(f"{width:.0f}", (left + width / 2, LANES.index(span.lane)), fontsize=7,
                      ha="center", va="center")  # fmt: skip
