"""Sounds of a stage at every validation: what held-out items sound like now, and how that looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fo_core.io import audio
from fo_core.io.files import replacing
from fo_core.training.draws import seed_draws
from fo_core.training.feed import to_device
from fo_core.training.held_out import HeldOut, model_device
from fo_core.training.run_config import TrainConfig
from fo_core.training.stage import Sounds, Stage


def write_samples(
    stage: Stage,
    model: nn.Module,
    held_out: HeldOut,
    folder: Path | None,
    step: int,
    cfg: TrainConfig,
) -> None:
    """Write ``samples/step-N/ITEM-NAME.wav`` and one picture of all spectrograms.

    Args:
        stage: Its ``samples`` make the sounds.
        model: The model; it is left in eval mode.
        held_out: The first items of its data are used.
        folder: Run folder; None computes (with processes that share an LLM) and writes nothing.
        step: Names the folder.
        cfg: How many items, and the seed.
    """
    if stage.samples is None:
        return
    model.eval()
    held_out.loader.load_state_dict(held_out.start)
    device = next(model.parameters()).device
    for raw in held_out.loader:
        seed_draws(cfg.seed, step)
        with torch.no_grad(), torch.autocast(model_device(model), enabled=False):
            sounds = stage.samples(model, to_device(raw, device), cfg.samples)
        break
    held_out.loader.load_state_dict(held_out.start)
    if folder is None or not sounds:
        return
    place = folder / "samples" / f"step-{step:08d}"
    place.mkdir(parents=True, exist_ok=True)
    for name, (wave, rate) in sounds.items():
        audio.write(place / f"{_plain(name)}.wav", wave, rate)
    draw_spectrograms(place / "spectrograms.png", sounds)


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def draw_spectrograms(path: Path, sounds: Sounds) -> None:
    """Log spectrograms of some sounds, one above the other, in one picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.9 * len(sounds)), layout="constrained")
    FigureCanvasAgg(figure)
    for row, (name, (wave, rate)) in enumerate(sounds.items()):
        axes = figure.add_subplot(len(sounds), 1, row + 1)
        axes.imshow(
            _spectrogram(wave, rate),
            origin="lower",
            aspect="auto",
            extent=(0, len(wave) / rate, 0, rate / 2000),
            vmin=-80,
            vmax=0,
        )
        axes.set_title(name, fontsize=9)
        axes.set_ylabel("kHz", fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=90)


def _spectrogram(wave: Any, rate: int) -> np.ndarray:
    """Power in dB under the loudest, [frequency, time]: windows of 32 ms every 8 ms."""
    size, hop = round(0.032 * rate), round(0.008 * rate)
    padded = np.pad(np.asarray(wave, np.float32), (0, max(0, size - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames)).T ** 2
    decibels: np.ndarray = 10 * np.log10(power / max(float(power.max()), 1e-12) + 1e-12)
    return decibels
