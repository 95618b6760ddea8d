"""Checkpoints of a run: atomic folders that hold only what training changes, and no pickles.

``checkpoints/step-000100/`` holds ``weights.safetensors`` (trained parameters and buffers),
``optim.safetensors`` (moments and running means, named after their parameters) and ``state.json``
(step, place in the data, history). Random generators need no place in it (``seed_draws``). A folder
gets its name when it is complete, so kill -9 leaves at worst a ``.tmp`` folder that the next save
removes. ``checkpoints/best-000100/`` holds the weights that did best on held-out data.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fo_core.errors import CheckpointError, FoError
from fo_core.io.checkpoint import load_tensors, read_json, save_tensors
from fo_core.io.files import write_json

_STEP = "step-"


_BEST = "best-"


_OLD = ".old"  # ending of a checkpoint that is being replaced


@dataclass
class Snapshot:
    """One complete checkpoint, read from disk."""

    path: Path
    weights: dict[str, Tensor]  # name -> trained parameter or buffer
    optim: dict[str, Tensor]  # "objective|parameter|moment" -> tensor
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
    tensors = {"weights": weights, "optim": optim}
    final = _write(folder, f"{_STEP}{step:08d}", tensors, {**state, "step": step})
    for old in complete(folder)[: -max(1, keep)]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def save_best(
    folder: Path, step: int, weights: Mapping[str, Tensor], state: Mapping[str, Any]
) -> Path:
    """Write ``folder/best-N``, then forget the best before it.

    Raises:
        CheckpointError: The folder cannot be written; the best before is left as it is.
    """
    final = _write(folder, f"{_BEST}{step:08d}", {"weights": weights}, {**state, "step": step})
    for old in complete(folder, _BEST):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)
    return final


def best(folder: Path) -> Path | None:
    """The folder of the best weights, or None."""
    _recover(folder)
    found = complete(folder, _BEST)
    return found[-1] if found else None


def forget_best_after(folder: Path, step: int) -> None:
    """Remove best weights of steps that a run with other settings will not come by."""
    for path in complete(folder, _BEST):
        if int(path.name.removeprefix(_BEST)) > step:
            shutil.rmtree(path, ignore_errors=True)


def _write(
    folder: Path, name: str, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> Path:
    final, temporary = folder / name, folder / f".{name}.tmp"
    _recover(folder)
    try:
        for leftover in folder.glob(".*.tmp"):
            shutil.rmtree(leftover)
        temporary.mkdir(parents=True)
        for kind, held in tensors.items():
            save_tensors(temporary / f"{kind}.safetensors", held)
        write_json(temporary / "state.json", dict(state))
        for file in temporary.iterdir():
            _sync(file)
        aside = folder / f".{name}{_OLD}"
        if final.exists():
            os.rename(final, aside)
        os.rename(temporary, final)
        _sync(folder)
        shutil.rmtree(aside, ignore_errors=True)
    except (OSError, SafetensorError, FoError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"cannot write checkpoint {final}: {error}",
            do="free space there and run again: the last complete checkpoint is kept",
        ) from error
    return final


def _recover(folder: Path) -> None:
    """A checkpoint that a killed save had put aside for a new one takes its place again."""
    for aside in folder.glob(f".*{_OLD}"):
        final = folder / aside.name.removeprefix(".").removesuffix(_OLD)
        with contextlib.suppress(OSError):  # another process has done it
            if final.exists():
                shutil.rmtree(aside)
            else:
                os.rename(aside, final)


def complete(folder: Path, kind: str = _STEP) -> list[Path]:
    """Complete checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    found = (p for p in folder.iterdir() if p.is_dir() and p.name.startswith(kind))
    return sorted(p for p in found if (p / "state.json").is_file())


def newest_step(folder: Path) -> int:
    """Step of the newest complete checkpoint; 0 without one."""
    _recover(folder)
    folders = complete(folder)
    return int(folders[-1].name.removeprefix(_STEP)) if folders else 0


def newest(folder: Path) -> Snapshot | None:
    """The newest complete checkpoint, or None."""
    _recover(folder)
    folders = complete(folder)
    if not folders:
        return None
    path = folders[-1]
    return Snapshot(
        path=path,
        weights=load_tensors(path / "weights.safetensors"),
        optim=load_tensors(path / "optim.safetensors"),
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
