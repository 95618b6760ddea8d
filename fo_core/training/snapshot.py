"""Checkpoints of a run: atomic folders that hold only what training changes, and no pickles.

``checkpoints/step-000100/`` holds ``weights.safetensors`` (trained parameters and buffers),
``optim.safetensors`` (moments, named after their parameters), ``rng.safetensors`` and
``state.json``. A folder gets its name when it is complete, so kill -9 leaves at worst a
``.tmp`` folder that the next save removes.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fo_core.checkpoint import load_tensors, read_json, save_tensors
from fo_core.errors import CheckpointError
from fo_core.files import write_json

_STEP = "step-"


@dataclass
class Snapshot:
    """One complete checkpoint, read from disk."""

    path: Path
    weights: dict[str, Tensor]  # name -> trained parameter or buffer
    optim: dict[str, Tensor]  # "objective|parameter|moment" -> tensor
    rng: dict[str, Tensor]
    state: dict[str, Any]  # step, loader position, seconds, ...


def save(
    folder: Path,
    step: int,
    weights: Mapping[str, Tensor],
    optim: Mapping[str, Tensor],
    state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write ``folder/step-N``, then forget all but the newest ``keep``.

    Raises:
        CheckpointError: The folder cannot be written; older checkpoints are left as they are.
    """
    final = folder / f"{_STEP}{step:08d}"
    temporary = folder / f".{final.name}.tmp"
    try:
        for leftover in folder.glob(".step-*.tmp"):
            shutil.rmtree(leftover)
        temporary.mkdir(parents=True)
        save_tensors(temporary / "weights.safetensors", weights)
        save_tensors(temporary / "optim.safetensors", optim)
        save_tensors(temporary / "rng.safetensors", rng_state())
        write_json(temporary / "state.json", {**state, "step": step})
        for file in temporary.iterdir():
            _sync(file)
        if final.exists():
            shutil.rmtree(final)
        os.rename(temporary, final)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"cannot write checkpoint {final}: {error}",
            do="free space there and run again: the last complete checkpoint is kept",
        ) from error
    for old in complete(folder)[: -max(1, keep)]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def complete(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    found = (p for p in folder.iterdir() if p.is_dir() and p.name.startswith(_STEP))
    return sorted(p for p in found if (p / "state.json").is_file())


def newest(folder: Path) -> Snapshot | None:
    """The newest complete checkpoint, or None."""
    folders = complete(folder)
    if not folders:
        return None
    path = folders[-1]
    return Snapshot(
        path=path,
        weights=load_tensors(path / "weights.safetensors"),
        optim=load_tensors(path / "optim.safetensors"),
        rng=load_tensors(path / "rng.safetensors"),
        state=read_json(path / "state.json"),
    )


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy saved tensors into the model's own parameters and buffers, bit for bit.

    Raises:
        CheckpointError: A tensor has no place in the model, or another shape.
    """
    own = model.state_dict(keep_vars=True)
    for name, value in weights.items():
        if name not in own:
            raise CheckpointError(f"{source} holds {name!r}, which the model does not have")
        if own[name].shape != value.shape:
            raise CheckpointError(
                f"{source}: {name} has shape {list(value.shape)}, expected {list(own[name].shape)}"
            )
        own[name].data.copy_(value)


def optimizer_state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], name: str
) -> dict[str, Tensor]:
    """Moments of an optimiser as flat tensors ``"name|parameter|moment"``."""
    return {
        f"{name}|{key}|{moment}": torch.as_tensor(value)
        for key, parameter in parameters.items()
        for moment, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    name: str,
    tensors: Mapping[str, Tensor],
) -> None:
    """Put back what :func:`optimizer_state` took."""
    for key, value in tensors.items():
        objective, parameter, moment = key.split("|")
        if objective == name and parameter in parameters:
            owner = parameters[parameter]
            device = value.device if moment == "step" else owner.device
            optimizer.state[owner][moment] = value.clone().to(device)


def rng_state() -> dict[str, Tensor]:
    """State of every random generator that training uses, as tensors."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    assert version == 3 and kind == "MT19937"
    states = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "numpy_rest": torch.tensor([position, has_gauss, cached], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        states |= {f"cuda.{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return states


def set_rng_state(states: Mapping[str, Tensor]) -> None:
    """Put back what :func:`rng_state` took."""
    torch.set_rng_state(states["torch"])
    gauss = states["python_gauss"].tolist()
    random.setstate((3, tuple(states["python"].tolist()), gauss[0] if gauss else None))
    position, has_gauss, cached = states["numpy_rest"].tolist()
    keys = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), cached))  # noqa: NPY002
    cuda = [states[k] for k in sorted(k for k in states if k.startswith("cuda."))]
    if cuda and torch.cuda.device_count() == len(cuda):
        torch.cuda.set_rng_state_all(cuda)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
