"""Voice activity: how likely each 32 ms window of 16 kHz sound holds speech.

``SileroVad`` runs the ONNX model of the ``silero-vad`` wheel by onnxruntime alone (importing the
wheel's own module changes torch's number of threads, so it is not imported). ``EnergyVad`` needs
nothing and hears loudness only. Both follow the streaming contract; a chunk of 160 ms is five
windows.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from fo_core.engines.onnx_cpu import open_network
from fo_core.errors import EngineError
from fo_core.streaming import SAMPLE_RATE

WINDOW = 512  # samples
SILERO_CONTEXT = 64  # samples of the window before that the model wants in front


@dataclass
class VadState:
    """What a detector keeps between windows."""

    context: Tensor  # [B, 64] last samples (silero)
    hidden: Tensor  # [B, 2, 128] the network's memory (silero)
    floor: Tensor  # [B] noise level, dB (energy)


class Vad(Protocol):
    """What a voice activity detector does."""

    def init_state(self, batch_size: int) -> VadState:
        """The state before the first sample."""
        ...

    def step(self, wave: Tensor, state: VadState) -> tuple[Tensor, VadState]:
        """``[B, 512 n]`` in [-1, 1] -> probabilities of speech ``[B, n]`` and the next state."""
        ...


class SileroVad:
    """Silero's network (MIT licence), on the CPU with one thread.

    Raises:
        EngineError: silero-vad or onnxruntime is not installed.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec("silero_vad")
        folders = list(spec.submodule_search_locations or []) if spec else []
        path = Path(folders[0], "data", "silero_vad.onnx") if folders else None
        if path is None or not path.is_file():
            raise EngineError(
                "the voice activity detector needs the package 'silero-vad'",
                possible="EnergyVad, which needs nothing",
                do="pip install silero-vad",
            )
        try:
            self._session = open_network(path)
        except ModuleNotFoundError as error:
            raise EngineError(
                "the voice activity detector needs the package 'onnxruntime'",
                do="pip install onnxruntime",
            ) from error

    def init_state(self, batch_size: int) -> VadState:
        """The state before the first sample."""
        return VadState(
            torch.zeros(batch_size, SILERO_CONTEXT),
            torch.zeros(batch_size, 2, 128),
            torch.zeros(batch_size),
        )

    def step(self, wave: Tensor, state: VadState) -> tuple[Tensor, VadState]:
        """``[B, 512 n]`` in [-1, 1] -> probabilities of speech ``[B, n]`` and the next state."""
        assert wave.shape[1] % WINDOW == 0, "a step takes whole windows of 512 samples"
        rate = torch.tensor(SAMPLE_RATE).numpy()
        context, hidden, found = state.context, state.hidden.transpose(0, 1).numpy(), []
        for window in wave.float().cpu().split(WINDOW, 1):
            sound = torch.cat([context, window], 1)
            inputs = {"input": sound.numpy(), "state": hidden, "sr": rate}
            probability, hidden = self._session.run(None, inputs)
            found.append(torch.from_numpy(probability))
            context = sound[:, -SILERO_CONTEXT:]
        state = replace(state, context=context, hidden=torch.from_numpy(hidden).transpose(0, 1))
        return torch.cat(found, 1), state


class EnergyVad:
    """Loudness over a slowly rising noise floor; a stand-in where silero-vad is missing.

    Args:
        margin: dB above the floor at which speech is as likely as not.
        quietest: dB relative to full scale below which nothing is speech.
    """

    RISE = 0.1  # dB a window by which the floor follows louder sound (3 dB a second)

    def __init__(self, margin: float = 12.0, quietest: float = -55.0) -> None:
        self.margin, self.quietest = margin, quietest

    def init_state(self, batch_size: int) -> VadState:
        """The state before the first sample: a floor at ``quietest``."""
        floor = torch.full((batch_size,), self.quietest)
        return VadState(torch.zeros(batch_size, 0), torch.zeros(batch_size, 0), floor)

    def step(self, wave: Tensor, state: VadState) -> tuple[Tensor, VadState]:
        """``[B, 512 n]`` in [-1, 1] -> probabilities of speech ``[B, n]`` and the next state."""
        assert wave.shape[1] % WINDOW == 0, "a step takes whole windows of 512 samples"
        power = wave.float().unfold(1, WINDOW, WINDOW).square().mean(-1)
        level = 10 / math.log(10) * power.clamp_min(1e-10).log()  # [B, n] dB
        floor, found = state.floor, []
        for now in level.unbind(1):
            floor = torch.minimum(now, floor + self.RISE).clamp_min(self.quietest)
            found.append(torch.sigmoid((now - floor - self.margin) / 2))
        return torch.stack(found, 1), replace(state, floor=floor)


def make_vad(name: str = "auto") -> SileroVad | EnergyVad:
    """ "silero", "energy", or "auto": silero where it is installed.

    Raises:
        EngineError: silero is asked for and missing, or the name is unknown.
    """
    if name not in ("auto", "silero", "energy"):
        raise EngineError(f"unknown VAD {name!r}", possible="auto, silero, energy")
    if name == "energy":
        return EnergyVad()
    try:
        return SileroVad()
    except EngineError:
        if name == "silero":
            raise
        return EnergyVad()
