"""Pictures of the data's report: histograms, and recordings with their states."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_prep.steps.label_states import CHUNK, RATE
from fo_core.data.manifest import Item

COUNTS = 60  # most bars of whole numbers
INK, BAR, GRID = "#1f2933", "#0b6e99", "#e4e7eb"
STATES = {0: "#cbd2d9", 1: "#12664f", 2: "#b54708"}  # of the states
NAMES = {0: "0 continue", 1: "1 respond", 2: "2 dismiss"}


def histograms(values: Mapping[str, Sequence[float]]) -> bytes:
    """One panel a name, without what is empty: SVG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = {name: list(v) for name, v in values.items() if v}
    columns = min(3, max(1, len(shown)))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.5 * columns, 2.2 * max(1, rows)), layout="constrained")
    for place, (name, numbers) in enumerate(shown.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        bins: Any = min(40, max(5, len(set(numbers))))
        low, high = min(numbers), max(numbers)
        if high - low <= COUNTS and all(float(n).is_integer() for n in numbers):
            bins = np.arange(low - 0.5, high + 1.0)  # a bar for each count
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.hist(numbers, bins=bins, color=BAR)
        axes.set_title(f"{name} (median {np.median(numbers):.3g})", fontsize=9, color=INK)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return _saved(figure, "svg")


def states(items: Sequence[Item]) -> bytes:
    """Waveforms over the colours of their states, one below the other: PNG.

    Raises:
        AudioError: A recording cannot be read.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(10, 1.25 * len(items) + 0.5), layout="constrained")
    for place, item in enumerate(items, 1):
        axes = figure.add_subplot(len(items), 1, place)
        wave = item.load_audio(RATE)
        for chunk, state in enumerate(item.states):
            axes.axvspan(chunk * CHUNK / RATE, (chunk + 1) * CHUNK / RATE,
                         color=STATES.get(state, "#fff"), alpha=0.45, lw=0)  # fmt: skip
        axes.plot(np.arange(len(wave)) / RATE, wave, color=INK, lw=0.4)
        axes.axvline(item.speech_end, color=BAR, lw=1, ls="--")
        said = item.text or str(item.extra.get("whole_text", item.extra.get("noise", "")))
        said = said if len(said) < 90 else said[:87] + "..."
        axes.set_title(f"{item.kind}: {said}", fontsize=8, loc="left")
        axes.set_xlim(0, len(wave) / RATE)
        axes.set_yticks([])
        axes.tick_params(labelsize=7)
    marks = [Patch(color=colour, alpha=0.45, label=NAMES[s]) for s, colour in STATES.items()]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return _saved(figure, "png")


def _saved(figure: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=110)
    return buffer.getvalue()
