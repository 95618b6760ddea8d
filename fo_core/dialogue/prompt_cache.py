"""What the LLM made of a system text, kept on disk for the next start.

A system text with its example turns is the same at every start, and so are the keys and values that
the LLM leaves of it. They are kept by all that they depend on: weights, ids, kernels, code. A file
that is damaged is made anew with a note; a cache that can't be written is no error.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fo_core import layers
from fo_core.errors import CheckpointError, FoError
from fo_core.io.checkpoint import fingerprint, load_tensors, save_tensors
from fo_core.io.files import cache_dir, mark_of
from fo_core.layers.kv_cache import KVCache
from fo_core.models.llm.backbone import LlamaBackbone
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.state import LLMState

log = logging.getLogger(__name__)

NEWEST = 16  # files that are kept
SHORTEST = 16  # ids; fewer are read as quickly as a file


def restore(llm: FrozenLLM, ids: Sequence[int], state: LLMState, size: int) -> bool:
    """Put what is known of ids into an empty state; whether there was any."""
    path = _path(llm, ids, size)
    if path is None or not path.is_file():
        return False
    assert isinstance(state.cache, KVCache) and not state.length, "a system text comes first"
    try:
        held = load_tensors(path)
        if held.pop("mark").tolist() != list(_mark(held)):
            raise CheckpointError(f"{path} is not what was written")
        state.cache.append(held["keys"], held["values"])
    except (FoError, KeyError, RuntimeError) as error:
        log.warning("a kept system text is damaged and is read anew: %s", error)
        with contextlib.suppress(OSError):
            path.unlink()
        return False
    return True


def keep(llm: FrozenLLM, ids: Sequence[int], state: LLMState, size: int) -> None:
    """Keep what a state holds after it has read nothing but ids."""
    path = _path(llm, ids, size)
    if path is None:
        return
    assert isinstance(state.cache, KVCache), "other states have no path"
    used = slice(0, state.length)
    held = {"keys": state.cache.keys[:, :, :, used], "values": state.cache.values[:, :, :, used]}
    held = {name: part.contiguous() for name, part in held.items()}
    try:
        save_tensors(path, {**held, "mark": torch.tensor(list(_mark(held)), dtype=torch.uint8)})
        files = sorted(path.parent.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
        for old in files[:-NEWEST]:
            old.unlink(missing_ok=True)
    except (FoError, OSError) as error:
        log.debug("the system text is not kept: %s", error)


def _path(llm: FrozenLLM, ids: Sequence[int], size: int) -> Path | None:
    """Where it lies; None where it is not kept: short, on a GPU, or of weights not known."""
    backbone = llm.backbone
    if not llm.loaded or not isinstance(backbone, LlamaBackbone) or len(ids) < SHORTEST:
        return None
    if llm.device.type != "cpu":
        return None
    depends: list[object] = [llm.loaded, list(ids), size, str(llm.dtype), backbone.kernels, _code()]
    depends += [torch.__version__, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]
    name = hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:24]
    return cache_dir() / "prompts" / f"{name}.safetensors"


def _mark(held: dict[str, Tensor]) -> bytes:
    return bytes.fromhex(fingerprint(held).removeprefix("sha256:"))


@functools.cache
def _code() -> str:
    """A mark of the code that makes keys and values."""
    return mark_of(sorted(Path(layers.__path__[0]).glob("*.py")))
