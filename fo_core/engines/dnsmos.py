"""DNSMOS: how good speech sounds, as a network trained on listeners' scores guesses it.

Runs the two networks of the package speechmos (P.835: signal, background, overall; P.808: overall)
with its own windows and polynomials. The package itself is not imported: it would want librosa, for
one mel spectrogram.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from fo_core.engines.onnx_cpu import open_network
from fo_core.errors import EngineError

RATE = 16000
SECONDS = 9.01  # what the networks hear at once; shorter sound is repeated
MELS, WINDOW, HOP = 120, 321, 160
SIGNAL = np.poly1d([-0.08397278, 1.22083953, 0.0052439])
BACKGROUND = np.poly1d([-0.13166888, 1.60915514, -0.39604546])
OVERALL = np.poly1d([-0.06766283, 1.11546468, 0.04602535])
NAMES = ("dnsmos", "dnsmos_signal", "dnsmos_background", "dnsmos_p808")


@functools.cache
def _networks() -> tuple[Any, Any]:
    found = importlib.util.find_spec("speechmos")
    if importlib.util.find_spec("onnxruntime") is None:
        found = None
    if found is None or not found.submodule_search_locations:
        raise EngineError(
            "DNSMOS needs the packages speechmos and onnxruntime",
            possible="to go without: --no-dnsmos in fo eval, stage.dnsmos=false in output-1",
            do="pip install speechmos onnxruntime (the extra judge)",
        )
    folder = Path(list(found.submodule_search_locations)[0]) / "dnsmos_models"
    return open_network(folder / "sig_bak_ovr.onnx"), open_network(folder / "model_v8.onnx")


@functools.cache
def _filters() -> np.ndarray:
    """Slaney's triangles over the 161 bins of a window of 321 samples, ``[161, 120]``."""
    from fo_core.features import slaney_filters

    return slaney_filters(MELS, WINDOW).numpy()


def check() -> None:
    """Whether DNSMOS can be worked out here.

    Raises:
        EngineError: The networks are not installed.
    """
    _networks()


def mel(wave: np.ndarray) -> np.ndarray:
    """Log mel spectrogram [T, 120] of a wave [S], the loudest bin at 1.0, as DNSMOS wants it."""
    padded = np.pad(np.asarray(wave, dtype=np.float64), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]  # [T, 321]
    index = np.arange(WINDOW)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * index / WINDOW)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2  # [T, 161]
    found = np.maximum(power @ _filters(), 1e-10)
    decibel = 10 * np.log10(found) - 10 * np.log10(max(found.max(), 1e-10))
    return (np.maximum(decibel, -80.0) + 40) / 40


def dnsmos(wave: np.ndarray) -> dict[str, float]:
    """Scores of a wave float32 [S] at 16 kHz in [-1, 1], each from 1 (bad) to 5.

    Returns:
        The keys of :data:`NAMES`; empty for a wave without samples.

    Raises:
        EngineError: The networks are not installed.
    """
    if not len(wave):
        return {}
    three, one = _networks()
    length = int(SECONDS * RATE)
    wave = np.clip(np.asarray(wave, dtype=np.float32), -1, 1)
    while len(wave) < length:
        wave = np.append(wave, wave)
    rows = []
    for start in range(int(np.floor(len(wave) / RATE) - SECONDS) + 1):
        piece = wave[start * RATE : int((start + SECONDS) * RATE)]
        if len(piece) < length:
            continue
        sig, bak, ovr = three.run(None, {"input_1": piece[None]})[0][0]
        p808 = one.run(None, {"input_1": mel(piece[:-HOP])[None].astype(np.float32)})[0][0][0]
        rows.append((OVERALL(ovr), SIGNAL(sig), BACKGROUND(bak), p808))
    return dict(zip(NAMES, (float(v) for v in np.mean(rows, axis=0)), strict=True))
