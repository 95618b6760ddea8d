"""Speaker similarity: the cosine of two voices as Resemblyzer's network hears them.

The weights (a d-vector network of 4 M parameters, Apache-2.0) come in the wheel ``resemblyzer``;
the package itself is not imported, since it would want librosa and webrtcvad for one mel
spectrogram. 1.0 is the same voice, other voices of one sex are mostly at 0.6 to 0.8.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from fo_core.errors import EngineError

RATE = 16000
WINDOW, HOP, BANDS = 400, 160, 40
PART, STEP = 160, 77  # frames of 10 ms that are heard at once (1.6 s), and from one to the next
LEAST = 0.75  # share of a last part that must be covered to count
LOUDNESS = 10 ** (-30 / 20)  # quieter speech is made as loud (root mean square)


@functools.cache
def _network() -> Any:
    """LSTM and projection.

    Raises:
        EngineError: The wheel is not installed.
    """
    import torch

    found = importlib.util.find_spec("resemblyzer")
    if found is None or not found.submodule_search_locations:
        raise EngineError(
            "speaker similarity needs the weights in the package resemblyzer",
            do="pip install --no-deps resemblyzer",
        )
    path = Path(list(found.submodule_search_locations)[0]) / "pretrained.pt"
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    lstm, linear = torch.nn.LSTM(BANDS, 256, 3, batch_first=True), torch.nn.Linear(256, 256)
    for name, module in (("lstm", lstm), ("linear", linear)):
        own = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(name)}
        module.load_state_dict(own)
    return lstm.eval(), linear.eval()


def check() -> None:
    """Whether voices can be compared here.

    Raises:
        EngineError: The weights are not installed.
    """
    _network()


@functools.cache
def _filters() -> Any:
    from fo_core.features import slaney_filters

    return slaney_filters(BANDS, WINDOW).numpy()


def embedding(wave: np.ndarray) -> np.ndarray:
    """The voice of a wave float32 [S] at 16 kHz: ``[256]`` of length 1.

    Raises:
        EngineError: The weights are not installed.
    """
    mean = embeddings(wave).mean(0)
    return mean / max(float(np.linalg.norm(mean)), 1e-9)


def embeddings(wave: np.ndarray) -> np.ndarray:
    """The voice of every 1.6 s, 0.77 s apart, of a wave float32 [S] at 16 kHz: ``[N, 256]``.

    Raises:
        EngineError: The weights are not installed.
    """
    import torch

    lstm, linear = _network()
    level = float(np.sqrt(np.mean(np.square(wave)))) if len(wave) else 0.0
    if 0 < level < LOUDNESS:
        wave = wave * (LOUDNESS / level)
    frames = len(wave) // HOP + 1
    starts = [0]
    while starts[-1] + STEP + LEAST * PART <= frames:
        starts.append(starts[-1] + STEP)
    samples = (starts[-1] + PART) * HOP
    padded = np.pad(wave, (WINDOW // 2, max(0, samples - len(wave)) + WINDOW // 2))
    cut = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: starts[-1] + PART]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    mel = (np.abs(np.fft.rfft(cut * window, axis=1)) ** 2) @ _filters()
    parts = torch.from_numpy(np.stack([mel[s : s + PART] for s in starts]).astype(np.float32))
    with torch.inference_mode():
        _, (hidden, _) = lstm(parts)
        found = torch.relu(linear(hidden[-1])).numpy()
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of the voices of two waves float32 [S] at 16 kHz."""
    return float(embedding(one) @ embedding(other))
