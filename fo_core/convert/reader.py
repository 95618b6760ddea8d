"""Reading and writing the files of a published checkpoint without running code or filling memory.

PyTorch files are opened with ``weights_only`` and memory-mapped: tensors are pages of the file
until they are touched. :class:`SafetensorsWriter` writes one tensor at a time, so that a conversion
needs no second copy of a file.
"""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import pickle
import struct
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from fo_core.errors import CheckpointError, first_line
from fo_core.io.files import replacing

TYPES = {
    torch.float64: ("F64", 8),
    torch.float32: ("F32", 4),
    torch.float16: ("F16", 2),
    torch.bfloat16: ("BF16", 2),
    torch.int64: ("I64", 8),
    torch.int32: ("I32", 4),
    torch.int16: ("I16", 2),
    torch.int8: ("I8", 1),
    torch.uint8: ("U8", 1),
    torch.bool: ("BOOL", 1),
}
VARIANCE_FLOOR = 1e-20  # of a feature's variance, in the published statistics


def read_pt(path: str | Path) -> dict[str, Any]:
    """Open a PyTorch file as a (nested) mapping of memory-mapped tensors and plain values.

    Raises:
        CheckpointError: The file is missing, cut short, not in PyTorch's zip format, holds anything
            but tensors and plain values (such a pickle is never run), or is not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no file {path}", do="check the checkpoint folder")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors (its pickle would run code): {first_line(error)}",
            possible="a file written by torch.save of a dict of tensors",
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError, OverflowError, ...
        raise CheckpointError(
            f"{path} is not a whole PyTorch file: {first_line(error)}",
            do="download or copy the file again",
        ) from error
    if not isinstance(data, dict):
        raise CheckpointError(
            f"{path} holds a {type(data).__name__}", possible="a mapping of names to tensors"
        )
    return data


def tensors_of(data: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """A mapping that must hold tensors only.

    Raises:
        CheckpointError: An entry is something else; it is named.
    """
    for name, value in data.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{source}: {name} is a {type(value).__name__}, not a tensor")
    return dict(data)


def read_cmvn(path: str | Path) -> tuple[Tensor, Tensor]:
    """Mean and reciprocal standard deviation, both [80] float32, of a ``global_cmvn`` file.

    Raises:
        CheckpointError: The file is missing or is not JSON, or a field is missing or malformed.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"no file {path}", do="add the feature statistics") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {first_line(error)}") from error
    fields = ("mean_stat", "var_stat", "frame_num")
    missing = [name for name in fields if not isinstance(data, dict) or name not in data]
    if missing:
        raise CheckpointError(f"{path}: missing {', '.join(missing)}")
    try:
        mean, var = (torch.tensor(data[name], dtype=torch.float64) for name in fields[:2])
        frames = float(data["frame_num"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {first_line(error)}") from error
    if mean.shape != (80,) or var.shape != (80,) or not frames > 0:
        raise CheckpointError(
            f"{path}: mean_stat {list(mean.shape)}, var_stat {list(var.shape)}, frame_num {frames}",
            possible="80 numbers each and a positive frame_num",
        )
    mean = mean / frames
    variance = (var / frames - mean * mean).clamp_min(VARIANCE_FLOOR)
    return mean.float(), (1.0 / variance.sqrt()).float()


class SafetensorsWriter:
    """Writes a safetensors file whose tensors are produced one at a time.

    Args:
        path: Target; it appears only when all went well.
        shapes: Name → (dtype, shape), known before.
        meta: Kept as JSON in the header, as :func:`fo_core.io.checkpoint.save_tensors` does.
        mapped: Names whose tensors come from :func:`read_pt`; their pages are given back once they
            are written, so that memory does not grow with the file.
    """

    def __init__(
        self,
        path: str | Path,
        shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
        meta: Any = None,
        mapped: Container[str] = (),
    ) -> None:
        self.path, self.shapes, self.meta, self.mapped = Path(path), shapes, meta, mapped

    def write(self, produce: Callable[[str], Tensor]) -> None:
        """Ask ``produce`` for every tensor by name, in the file's order, and write it at once."""
        order = sorted(self.shapes, key=lambda name: (-TYPES[self.shapes[name][0]][1], name))
        header: dict[str, Any] = {"__metadata__": {"meta": json.dumps(self.meta)}}
        offset = 0
        for name in order:
            dtype, shape = self.shapes[name]
            kind, size = TYPES[dtype]
            end = offset + size * math.prod(shape)
            header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            file.write(struct.pack("<Q", len(text)))
            file.write(text)
            for name in order:
                self._put(file, name, produce(name))

    def _put(self, file: BinaryIO, name: str, tensor: Tensor) -> None:
        assert (tensor.dtype, tuple(tensor.shape)) == self.shapes[name], name
        if tensor.numel():
            raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            file.write(raw.numpy().data)
            if name in self.mapped:
                _release(tensor)


def _release(tensor: Tensor) -> None:
    """Let go of the memory pages of a tensor that is mapped from a file."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    page, start, size = mmap.PAGESIZE, tensor.data_ptr(), tensor.nbytes
    first, last = -(-start // page) * page, (start + size) // page * page
    if last > first:
        libc = ctypes.CDLL(None)
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)
