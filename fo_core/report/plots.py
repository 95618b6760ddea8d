"""Pictures of reports, as bytes of a file: curves, histograms, intervals, sounds."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fo_core.streaming import CHUNK_SECONDS

GREY, BLUE, INK, GRID = "#9aa5b1", "#0b6e99", "#1f2933", "#e4e7eb"
STATES = {"continue": GREY, "respond": "#0b8a6f", "dismiss": "#c2410c"}
COUNTS = 60  # most bars of whole numbers in a histogram
Points = Sequence[tuple[float, float]]


def points(records: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """(step, value) of the records that have a finite value of that key."""
    return [
        (float(r["step"]), float(r[key]))
        for r in records
        if r.get(key) is not None and math.isfinite(r[key])
    ]


def curves(panels: Mapping[str, tuple[Points, Points]], kind: str = "svg") -> bytes:
    """One small panel a name: training (grey, smoothed) and held-out values (blue, marked).

    Args:
        panels: Name to the (step, value) of training and of held-out items; either may be empty.
        kind: Of the file: svg or png.
    """
    figure, grid = _grid(len(panels), 3.5, 2.5)
    for panel, (name, (train, held)) in zip(grid, panels.items(), strict=False):
        if train:
            steps, values = zip(*train, strict=True)
            panel.plot(steps, values, color=GREY, alpha=0.35, linewidth=0.8)
            panel.plot(steps, _smooth(values), color=GREY, linewidth=1.6, label="training")
        if held:
            steps, values = zip(*held, strict=True)
            panel.plot(
                steps, values, color=BLUE, linewidth=1.8, marker="o", ms=3.5, label="held-out"
            )
        panel.set_title(name, loc="left", fontsize=10, fontweight="bold", color=INK)
        panel.set_xlabel("step", fontsize=8, color=INK)
        panel.grid(color=GRID, linewidth=0.6)
        if train or held:
            panel.legend(fontsize=7, frameon=False, loc="upper right")
    return _saved(figure, kind)


def lines(
    series: Mapping[str, Points], x: str, y: str, marked: tuple[float, float] | None = None
) -> bytes:
    """Lines over one pair of axes: SVG.

    Args:
        series: Name to its points, in the order in which they are joined.
        x: What the horizontal axis shows.
        y: What the vertical axis shows.
        marked: A point with a ring around it.
    """
    figure, (panel,) = _grid(1, 7.0, 4.0)
    shades = np.linspace(0.25, 1.0, max(1, len(series)))
    for shade, (name, joined) in zip(shades, series.items(), strict=True):
        if joined:
            across, up = zip(*joined, strict=True)
            panel.plot(across, up, color=BLUE, alpha=float(shade), marker="o", ms=3, label=name)
    if marked is not None:
        panel.plot(*marked, marker="o", ms=12, mfc="none", mec=STATES["dismiss"], mew=2)
    panel.set_xlabel(x, fontsize=8, color=INK)
    panel.set_ylabel(y, fontsize=8, color=INK)
    panel.grid(color=GRID, linewidth=0.6)
    panel.legend(fontsize=7, frameon=False)
    return _saved(figure, "svg")


def histograms(values: Mapping[str, Sequence[float]]) -> bytes:
    """One panel a name, without what is empty: SVG."""
    from matplotlib.ticker import MaxNLocator

    shown = {name: list(v) for name, v in values.items() if v}
    figure, grid = _grid(len(shown), 3.5, 2.2)
    for panel, (name, numbers) in zip(grid, shown.items(), strict=False):
        bins: Any = min(40, max(5, len(set(numbers))))
        low, high = min(numbers), max(numbers)
        if high - low <= COUNTS and all(float(n).is_integer() for n in numbers):
            bins = np.arange(low - 0.5, high + 1.0)  # a bar for each count
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.hist(numbers, bins=bins, color=BLUE)
        panel.set_title(f"{name} (median {np.median(numbers):.3g})", fontsize=9, color=INK)
    return _saved(figure, "svg")


def intervals(bars: Sequence[tuple[str, float, float | None, float | None]]) -> bytes:
    """Scores as horizontal bars with their intervals, the first on top: SVG.

    Args:
        bars: (name, value, low, high) in per cent; no interval where low or high is None.
    """
    figure, (panel,) = _grid(1, 8, 0.9 + 0.36 * len(bars))
    places = range(len(bars))
    panel.barh(places, [bar[1] for bar in bars], color=BLUE, height=0.6)
    for place, (_, value, low, high) in zip(places, bars, strict=True):
        if low is not None and high is not None:
            panel.plot([low, high], [place, place], color=INK, linewidth=1.4, marker="|", ms=7)
        end = max(value, high or 0.0)
        panel.annotate(f"{value:.1f}", (end, place), (5, 0), textcoords="offset points",
                       va="center", fontsize=8, color=INK)  # fmt: skip
    panel.set_yticks(list(places), [bar[0] for bar in bars], fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.12)
    panel.set_xlim(left=0)
    panel.set_xlabel("%", fontsize=8, color=INK)
    panel.grid(axis="x", color=GRID, linewidth=0.6)
    panel.set_axisbelow(True)
    return _saved(figure, "svg")


@dataclass(frozen=True)
class Recording:
    """A recording, the dialogue state of each chunk, and where its speech ends, in seconds."""

    title: str
    wave: np.ndarray  # [S]
    rate: int
    states: Sequence[int]
    speech_end: float


def recordings(shown: Sequence[Recording]) -> bytes:
    """Waveforms over the colours of their states, one below the other: PNG."""
    from matplotlib.patches import Patch

    figure, grid = _grid(len(shown), 10, 1.25, columns=1, more=0.5)
    colours = dict(enumerate(STATES.values()))
    for panel, each in zip(grid, shown, strict=False):
        for chunk, state in enumerate(each.states):
            panel.axvspan(chunk * CHUNK_SECONDS, (chunk + 1) * CHUNK_SECONDS,
                          color=colours.get(state, "#fff"), alpha=0.45, lw=0)  # fmt: skip
        panel.plot(np.arange(len(each.wave)) / each.rate, each.wave, color=INK, lw=0.4)
        panel.axvline(each.speech_end, color=BLUE, lw=1, ls="--")
        panel.set_title(each.title, fontsize=8, loc="left")
        panel.set_xlim(0, len(each.wave) / each.rate)
        panel.set_yticks([])
    marks = [Patch(color=c, alpha=0.45, label=f"{i} {name}")
             for i, (name, c) in enumerate(STATES.items())]  # fmt: skip
    figure.legend(handles=marks, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return _saved(figure, "png")


def spectrograms(waves: Sequence[tuple[str, np.ndarray, int]]) -> bytes:
    """Log spectrograms above each other on one time axis in seconds: PNG.

    Args:
        waves: (title, samples float32 [S], rate in Hz) for each panel.
    """
    figure, grid = _grid(len(waves), 9, 1.9, columns=1, sharex=True)
    longest = max((len(wave) / rate for _, wave, rate in waves), default=0.0)
    for panel, (title, wave, rate) in zip(grid, waves, strict=True):
        power, seconds = _log_power(wave, rate)
        panel.imshow(
            power,
            origin="lower",
            aspect="auto",
            cmap="magma",
            extent=(0.0, seconds, 0.0, rate / 2000),
            vmin=-70,
            vmax=0,
        )
        panel.set_facecolor("#000004")
        panel.set_xlim(0, max(longest, 0.1))
        panel.set_ylim(0, min(8.0, rate / 2000))
        panel.set_title(title, loc="left", fontsize=9, color=INK)
        panel.set_ylabel("kHz", fontsize=8, color=INK)
    grid[-1].set_xlabel("seconds", fontsize=8, color=INK)
    return _saved(figure, "png")


def state_strip(states: Sequence[Sequence[float]]) -> str:
    """Dialogue states of a question, a bar for each chunk of 160 ms, as an inline SVG.

    Args:
        states: Probabilities of continue, respond and dismiss for each chunk.
    """
    width, height, bars = 10, 40, []
    for place, chunk in enumerate(states):
        low = float(height)
        for part, colour in zip(chunk, STATES.values(), strict=False):
            low -= part * height
            bars.append(
                f'<rect x="{place * width}" y="{low:.1f}" width="{width - 1}" '
                f'height="{part * height:.1f}" fill="{colour}"/>'
            )
    best = [int(np.argmax(chunk)) for chunk in states]
    changes = [i for i, state in enumerate(best) if not i or state != best[i - 1]]
    said = "; ".join(f"{CHUNK_SECONDS * i:.2f} s: {tuple(STATES)[best[i]]}" for i in changes)
    key = ", ".join(f'<span style="color:{colour}">■</span> {n}' for n, colour in STATES.items())
    return (
        f'<figure><svg role="img" aria-label="Dialogue states: {said}" '
        f'viewBox="0 0 {max(1, len(states)) * width} {height}" '
        f'style="max-width:{max(1, len(states)) * 1.6}rem;width:100%;height:auto">'
        f"{''.join(bars)}</svg><figcaption>Dialogue state of each 160 ms: {key}. {said}."
        "</figcaption></figure>"
    )


def _grid(
    count: int, width: float, height: float, columns: int = 3, more: float = 0.0, **how: Any
) -> tuple[Any, list[Any]]:
    """A figure of panels of so many inches each, and its panels."""
    from matplotlib.figure import Figure

    columns = min(columns, max(1, count))
    rows = max(1, -(-count // columns))
    figure = Figure(figsize=(width * columns, height * rows + more), layout="constrained", dpi=110)
    panels = list(np.atleast_1d(figure.subplots(rows, columns, **how)).ravel())
    for panel in panels:
        panel.tick_params(labelsize=8, colors=INK)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels


def _log_power(wave: np.ndarray, rate: int) -> tuple[np.ndarray, float]:
    """[bins, frames] in dB under the loudest bin, and the length in seconds."""
    window = int(0.025 * rate)
    hop = max(1, int(0.010 * rate))
    padded = np.pad(wave.astype(np.float32), (0, max(0, window - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)).T ** 2
    decibel = 10 * np.log10(power + 1e-10)
    return decibel - decibel.max(), len(padded) / rate


def _smooth(values: Sequence[float]) -> list[float]:
    """A running mean that starts at the first value and forgets over about 10 records."""
    held, result = values[0], []
    for value in values:
        held = 0.85 * held + 0.15 * value
        result.append(held)
    return result


def _saved(figure: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else {})
    return buffer.getvalue()
