"""Pictures of a report, as bytes: loss curves of all stages (SVG), spectrograms (PNG)."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TRAIN, HELD_OUT = "#9aa5b1", "#0b6e99"
STATES = {"continue": "#9aa5b1", "respond": "#0b8a6f", "dismiss": "#c2410c"}
INK, GRID = "#1f2933", "#e4e7eb"


def loss_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """One small panel a stage: training loss (grey, smoothed) and held-out loss (blue, marked).

    Args:
        curves: Stage name to records ``{"step", "loss"?, "val_loss"?}``; where a stage has several
            objectives, its first ``NAME.loss`` is its training loss.

    Returns:
        An SVG file.
    """
    from matplotlib.figure import Figure

    columns = min(3, max(1, len(curves)))
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(3.5 * columns, 2.5 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for panel, (stage, records) in zip(panels, curves.items(), strict=False):
        train = _series(records, _training_key(records))
        held = _series(records, "val_loss")
        if train:
            steps, losses = zip(*train, strict=True)
            panel.plot(steps, losses, color=TRAIN, alpha=0.35, linewidth=0.8)
            panel.plot(steps, _smooth(losses), color=TRAIN, linewidth=1.6, label="training")
        if held:
            steps, losses = zip(*held, strict=True)
            panel.plot(
                steps, losses, color=HELD_OUT, linewidth=1.8, marker="o", ms=3.5, label="held-out"
            )
        panel.set_title(stage, loc="left", fontsize=10, fontweight="bold", color=INK)
        panel.set_xlabel("step", fontsize=8, color=INK)
        panel.tick_params(labelsize=8, colors=INK)
        panel.grid(color=GRID, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        if train or held:
            panel.legend(fontsize=7, frameon=False, loc="upper right")
    for panel in panels[len(curves) :]:
        panel.set_visible(False)
    return _saved(figure, "svg")


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
    said = "; ".join(f"{0.16 * i:.2f} s: {tuple(STATES)[best[i]]}" for i in changes)
    key = ", ".join(f'<span style="color:{colour}">■</span> {n}' for n, colour in STATES.items())
    return (
        f'<figure><svg role="img" aria-label="Dialogue states: {said}" '
        f'viewBox="0 0 {max(1, len(states)) * width} {height}" '
        f'style="max-width:{max(1, len(states)) * 1.6}rem;width:100%;height:auto">'
        f"{''.join(bars)}</svg><figcaption>Dialogue state of each 160 ms: {key}. {said}."
        "</figcaption></figure>"
    )


def spectrograms(waves: Sequence[tuple[str, np.ndarray, int]]) -> bytes:
    """Log spectrograms above each other on one time axis in seconds.

    Args:
        waves: (title, samples float32 [S], rate in Hz) for each panel.

    Returns:
        A PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.9 * len(waves)), layout="constrained", dpi=110)
    panels = np.atleast_1d(figure.subplots(len(waves), 1, sharex=True)).ravel()
    longest = max((len(wave) / rate for _, wave, rate in waves), default=0.0)
    for panel, (title, wave, rate) in zip(panels, waves, strict=True):
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
        panel.tick_params(labelsize=8, colors=INK)
    panels[-1].set_xlabel("seconds", fontsize=8, color=INK)
    return _saved(figure, "png")


def intervals(bars: Sequence[tuple[str, float, float | None, float | None]]) -> bytes:
    """Scores as horizontal bars with their intervals, the first on top.

    Args:
        bars: (name, value, low, high); no interval where low or high is None.

    Returns:
        An SVG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.9 + 0.36 * len(bars)), layout="constrained")
    panel = figure.subplots()
    places = range(len(bars))
    panel.barh(places, [bar[1] for bar in bars], color=HELD_OUT, height=0.6)
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
    panel.tick_params(labelsize=8, colors=INK)
    panel.grid(axis="x", color=GRID, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    return _saved(figure, "svg")


def _log_power(wave: np.ndarray, rate: int) -> tuple[np.ndarray, float]:
    """[bins, frames] in dB under the loudest bin, and the length in seconds."""
    window = int(0.025 * rate)
    hop = max(1, int(0.010 * rate))
    padded = np.pad(wave.astype(np.float32), (0, max(0, window - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)).T ** 2
    decibel = 10 * np.log10(power + 1e-10)
    return decibel - decibel.max(), len(padded) / rate


def _training_key(records: Sequence[Mapping[str, Any]]) -> str:
    keys = [key for record in records for key in record]
    ends = (key for key in keys if key.endswith(".loss") and not key.startswith("val_"))
    return "loss" if "loss" in keys else next(ends, "loss")


def _series(records: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [
        (float(r["step"]), float(r[key]))
        for r in records
        if r.get(key) is not None and math.isfinite(r[key])
    ]


def _smooth(values: Sequence[float]) -> list[float]:
    """A running mean that starts at the first value and forgets over about 10 records."""
    held, result = values[0], []
    for value in values:
        held = 0.85 * held + 0.15 * value
        result.append(held)
    return result


def _saved(figure: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    meta = {"Date": None} if kind == "svg" else {}
    figure.savefig(buffer, format=kind, metadata=meta)
    return buffer.getvalue()
