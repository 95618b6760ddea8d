"""GGUF files become Hugging Face folders, once, in the cache.

Families whose tensors need no more than another name are read tensor by tensor, so that an LLM of
gigabytes takes the memory of one shard; the rest goes through transformers' own reader.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fo_core.errors import CheckpointError, EngineError, first_line
from fo_core.io.files import cache_dir
from fo_core.models.llm.folder import building

SHARD = 1 << 29  # bytes of a file of weights, about
RENAMED = {"qwen2"}  # architectures that are read tensor by tensor
PLACES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert_gguf(path: Path, dtype: torch.dtype = torch.float32, name: str = "") -> Path:
    """A Hugging Face folder of a GGUF file, made on first use.

    Two processes may ask at once: one converts, the other waits. A killed conversion leaves
    nothing that could be taken for a model.

    Args:
        path: The file.
        dtype: Of the weights that are written.
        name: Of the folder in the cache; "": by the file's name and content.

    Raises:
        CheckpointError: The file is not a GGUF LLM that can be converted, or cannot be written.
        EngineError: A package that reads such files is missing.
    """
    target = cache_dir() / "llm" / (name or f"{path.stem}-{_mark(path)}")
    if (target / "config.json").is_file():
        return target
    with building(target) as folder:
        if folder is not None:
            _convert(path, folder, dtype)
    return target


def _mark(path: Path) -> str:
    """A short name for a file's content: its size, its first and its last mebibyte."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(1 << 20))
        file.seek(max(0, size - (1 << 20)))
        digest.update(file.read())
    return digest.hexdigest()[:12]


def _convert(path: Path, folder: Path, dtype: torch.dtype) -> None:
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            write = _write_renamed if _architecture(path) in RENAMED else _write_converted
            config = write(path, folder, dtype)
    except ImportError as error:
        raise EngineError(
            f"reading {path.name}: {error}", do="pip install gguf accelerate"
        ) from error
    except (CheckpointError, EngineError):
        raise
    except Exception as error:  # whatever a damaged or foreign file does to the reader
        reason = first_line(error)
        raise CheckpointError(f"{path} cannot be read as a GGUF LLM: {reason}") from error
    config.pop("quantization_config", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2, default=str))


def _architecture(path: Path) -> str:
    from gguf import GGUFReader

    return str(GGUFReader(str(path)).fields["general.architecture"].contents())


def _write_converted(path: Path, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Tokenizer and weights by transformers' reader; the config."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:  # a tied head is stored once, under its first name
            seen.add(tensor.data_ptr())
            tensors[key] = tensor.contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    return model.config.to_dict() | {"architectures": [type(model).__name__]}


def _write_renamed(path: Path, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """The same tensor by tensor, in shards."""
    from transformers import AutoConfig, AutoTokenizer

    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name).to_dict()
    kept: dict[str, Tensor] = {}
    files: dict[str, str] = {}
    total = 0

    def flush() -> None:
        name = f"model-{len(set(files.values())) + 1:05d}.safetensors"
        save_file(kept, folder / name, metadata={"format": "pt"})
        files.update(dict.fromkeys(kept, name))
        kept.clear()

    for name, tensor in _tensors(path):
        kept[name] = tensor.to(dtype)
        total += kept[name].nbytes
        if sum(t.nbytes for t in kept.values()) >= SHARD:
            flush()
    if kept:
        flush()
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return config | {
        "architectures": ["Qwen2ForCausalLM"],
        "tie_word_embeddings": "lm_head.weight" not in files,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a GGUF file by Hugging Face's names, as float32."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    read: Callable[..., Any] = dequantize
    for tensor in GGUFReader(str(path)).tensors:
        layer = re.match(r"blk\.(\d+)\.", tensor.name)
        place, _, kind = tensor.name[layer.end() if layer else 0 :].rpartition(".")
        if place not in PLACES:
            raise CheckpointError(f"{path} holds an unknown tensor, {tensor.name}")
        before = f"model.layers.{layer[1]}." if layer else ""
        values = read(tensor.data, tensor.tensor_type)
        yield f"{before}{PLACES[place]}.{kind}", torch.from_numpy(values)
