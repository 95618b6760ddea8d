"""How natural speech sounds, by networks that were trained on listeners' scores (1 to 5).

``utmos`` is UTMOS22 (strong), the column of most papers: from a TorchScript file (``--utmos FILE``,
``$FO_UTMOS``) or through the package ``utmos-pytorch``, which fetches its weights from the hub.
``distillmos`` is Microsoft's Distill-MOS, whose weights are in its wheel (MIT). One that cannot
work here is named with its reason, and skipped.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fo_core.errors import EngineError, first_line

RATE = 16000
LEAST = RATE  # samples: shorter sound is repeated
Score = Callable[[np.ndarray], float]  # float32 [S] at 16 kHz -> 1 .. 5


def _looped(wave: np.ndarray) -> np.ndarray:
    times = -(-LEAST // max(1, len(wave)))
    return np.tile(wave, times) if times > 1 else wave


def utmos_file(file: str | None) -> str:
    """The TorchScript file of UTMOS: the one that was named, or ``$FO_UTMOS``; "" for none."""
    return file or os.environ.get("FO_UTMOS", "")


@functools.cache
def utmos(file: str = "") -> Score:
    """UTMOS22.

    Args:
        file: TorchScript that takes float32 [1, S] at 16 kHz; "": the package utmos-pytorch.

    Raises:
        EngineError: The file is none, or there is neither file nor package nor weights.
    """
    import torch

    if file:
        if not Path(file).is_file():
            raise EngineError(f"no UTMOS file {file}", possible="a TorchScript file of UTMOS22")
        try:
            network = torch.jit.load(file, map_location="cpu").eval()
        except RuntimeError as error:
            raise EngineError(
                f"{file} is no TorchScript file: {first_line(error)}",
                possible="utmos_scripted.pt of Blinorot/UTMOS-PyTorch on the hub",
            ) from error
    else:
        try:
            network = importlib.import_module("utmos_pytorch").UTMOSScoreTorch(device="cpu").score
        except Exception as error:  # a missing package, or what the hub's client raises
            raise EngineError(
                f"UTMOS has no weights here ({first_line(error)})",
                possible="--utmos FILE or $FO_UTMOS (utmos_scripted.pt), or pip install "
                "utmos-pytorch where the hub can be reached",
            ) from error

    def score(wave: np.ndarray) -> float:
        with torch.inference_mode():
            found = network(torch.from_numpy(_looped(wave))[None])
        return float(torch.as_tensor(found).flatten()[0])

    return score


@functools.cache
def distillmos() -> Score:
    """Distill-MOS.

    Raises:
        EngineError: The package is not installed.
    """
    import torch

    # Only its command line uses torchaudio, whose wheels do not load beside every build of torch.
    try:
        importlib.import_module("torchaudio")
        absent = False
    except (ImportError, OSError):
        absent = True
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    try:
        with _quiet():
            network = importlib.import_module("distillmos").ConvTransformerSQAModel().eval()
    except ImportError as error:
        raise EngineError(
            f"Distill-MOS is not installed ({first_line(error)})",
            do="pip install --no-deps distillmos xls-r-sqa",
        ) from error
    finally:
        if absent:
            del sys.modules["torchaudio"]

    def score(wave: np.ndarray) -> float:
        with torch.inference_mode():
            return float(network(torch.from_numpy(_looped(wave))[None])[0])

    return score


def _quiet() -> contextlib.redirect_stdout[io.StringIO]:
    """It says on stdout where its weights are."""
    return contextlib.redirect_stdout(io.StringIO())
