"""Weights of a model: safetensors, written atomically, strict loading, fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fo_core.errors import CheckpointError, DataError
from fo_core.io import files
from fo_core.io.files import replacing


def read_json(path: str | Path) -> Any:
    """Read a JSON file of a model.

    Raises:
        CheckpointError: The file is missing or is not JSON.
    """
    try:
        return files.read_json(path)
    except DataError as error:
        raise CheckpointError(error.what, do="check the folder") from error


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], meta: Any = None) -> None:
    """Write tensors as one safetensors file, atomically; ``meta`` is kept as JSON in its header."""
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    seen: dict[int, str] = {}
    for name, tensor in held.items():  # safetensors refuses two names for one storage
        if tensor.numel() and seen.setdefault(tensor.data_ptr(), name) != name:
            held[name] = tensor.clone()
    with replacing(path) as temporary:
        save_file(held, temporary, metadata={"meta": json.dumps(meta)})


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: The file is missing, cut short or not safetensors.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"no file {path}", do="check the folder") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict strictly.

    Raises:
        CheckpointError: A tensor is missing, extra or misshapen; all of them are named (up to six).
    """
    own = module.state_dict()
    faults = [f"missing {name}" for name in own if name not in tensors]
    faults += [f"unknown {name}" for name in tensors if name not in own]
    faults += [
        f"{name} has shape {list(tensors[name].shape)}, expected {list(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if faults:
        more = f" and {len(faults) - 6} more" if len(faults) > 6 else ""
        raise CheckpointError(f"{source}: " + ", ".join(faults[:6]) + more)
    module.load_state_dict(dict(tensors), strict=True)


def fingerprint(weights: nn.Module | Mapping[str, Tensor], dtype: torch.dtype | None = None) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a module's state dict, in name order.

    Args:
        weights: A module, or tensors by name.
        dtype: Numbers with a point are looked at in this one; None: in their own.
    """
    tensors = weights.state_dict() if isinstance(weights, nn.Module) else weights
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        if hasattr(tensor, "full_tensor"):  # sharded over processes: each must ask for it
            tensor = tensor.full_tensor()
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        tensor = tensor.cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{list(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"
