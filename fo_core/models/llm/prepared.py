"""LLMs as they were loaded once, kept beside the LLM in the cache for a quick start.

Loading an LLM imports transformers, converts and joins its weights and hashes all of them, seconds
of processor time for what is the same every time. What came of it is written down: shape and facts,
the tokenizer, the weights (memory-mapped from then on) and their fingerprint.

When it is taken
    It was made from the files that lie there now (size and times of each), by this code and these
    versions of transformers and tokenizers. Its own files are hashed when they are first read;
    after that, size and times of the weights stand for their hash. The time of the last change of
    a file's state (ctime) is among them, which no program can set: whatever writes to the file
    changes it, so the fingerprint that was computed once still is that of these bytes.

What is damaged is made anew, with a note. A cache that can't be written is no error.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fo_core.errors import CheckpointError, FoError
from fo_core.io.checkpoint import load_tensors, save_tensors
from fo_core.io.files import (
    cache_dir,
    draft_folder,
    mark_of,
    read_json,
    sha256_of,
    write_json,
    write_text,
)
from fo_core.layers.kv_cache import LayerKind, LlamaConfig
from fo_core.layers.rope import Rope
from fo_core.models.llm.backbone import LlamaBackbone
from fo_core.models.llm.facts import LLMFacts
from fo_core.models.llm.families import Family, Fit
from fo_core.models.llm.tokenizer import StandaloneTokenizer, TokenizerFacts, describe, difference

log = logging.getLogger(__name__)
FrozenLLM = Any  # of frozen_llm.py, which imports this file

LARGEST = 1 << 29  # bytes of weights that are written once more; those of a larger LLM are not
CODE = ("backbone", "families", "weight_names", "prepared", "source", "tokenizer")
FACTS, TOKENIZER, WEIGHTS, SEEN = "llm.json", "tokenizer.json", "weights.safetensors", "seen.json"


@dataclass(frozen=True)
class Prepared:
    """A prepared LLM."""

    backbone: LlamaBackbone
    tokenizer: StandaloneTokenizer
    facts: LLMFacts
    fingerprint: str  # of its weights, as it was computed when it was prepared


def place(folder: Path, dtype: torch.dtype) -> Path | None:
    """Where a folder's prepared LLM lies; None for folders outside of the cache.

    A folder of the cache is ours: what belongs to it goes when it goes.
    """
    if (cache_dir() / "llm").resolve() != folder.resolve().parent:
        return None
    return folder / f"prepared-{str(dtype).removeprefix('torch.')}"


def read(folder: Path, dtype: torch.dtype) -> Prepared | None:
    """The prepared LLM of a folder; None where there is none that holds (any more)."""
    where = place(folder, dtype)
    if where is None or not (where / FACTS).is_file():
        return None
    try:
        found = read_json(where / FACTS)
        if found["of"] != _source(folder) or found["by"] != _code():
            return None
        _check(where, found)
        return _load(folder, where, found, dtype)
    except (FoError, KeyError, TypeError, ValueError, OSError) as error:
        log.warning("the prepared LLM %s is damaged and is made anew: %s", where, error)
        shutil.rmtree(where, ignore_errors=True)
        return None


def write(folder: Path, llm: FrozenLLM) -> str:
    """Keep an LLM that was loaded on our own layers; its fingerprint, or "" where it can't be.

    Args:
        folder: What it was loaded from.
        llm: In the dtype that it is to be kept in, on the CPU.
    """
    where = place(folder, llm.dtype)
    tokenizer = describe(llm.tokenizer)
    if where is None or tokenizer is None or not isinstance(llm.backbone, LlamaBackbone):
        return ""
    if difference(StandaloneTokenizer(*tokenizer), llm.tokenizer):
        return ""
    fingerprint = llm.fingerprint()
    try:
        with draft_folder(where) as made:
            _write(made, folder, llm.backbone, llm.facts, tokenizer, fingerprint)
            made.chmod(0o755)
            shutil.rmtree(where, ignore_errors=True)
            os.replace(made, where)
    except (OSError, FoError) as error:  # full, say; or another process was quicker
        log.info("the LLM is not kept prepared: %s", error)
    return fingerprint


def _write(
    made: Path,
    folder: Path,
    backbone: LlamaBackbone,
    facts: LLMFacts,
    tokenizer: tuple[str, TokenizerFacts],
    fingerprint: str,
) -> None:
    write_text(made / TOKENIZER, tokenizer[0])
    kept = [TOKENIZER]
    if sum(p.nbytes for p in backbone.parameters()) <= LARGEST:
        save_tensors(made / WEIGHTS, backbone.joined())
        write_json(made / SEEN, _state(made / WEIGHTS))
        kept.append(WEIGHTS)
    assert backbone.fit is not None, "it was loaded"
    found = {
        "of": _source(folder),
        "by": _code(),
        "fingerprint": fingerprint,
        "fit": dataclasses.asdict(dataclasses.replace(backbone.fit, tied=backbone.tied)),
        "ropes": [
            rope and {"inv_freq": rope.inv_freq.tolist(), "scale": rope.scale}
            for rope in backbone.ropes
        ],
        "facts": dataclasses.asdict(facts),
        "tokenizer": dataclasses.asdict(tokenizer[1]),
        "sha256": {name: sha256_of(made / name) for name in kept},
    }
    write_json(made / FACTS, found | {"digest": _digest(found)})


def _check(where: Path, found: dict[str, Any]) -> None:
    """Refuse files that are not what was written.

    Raises:
        CheckpointError: One is not.
    """
    known = dict(found)
    if known.pop("digest") != _digest(known):
        raise CheckpointError(f"{FACTS} was changed")
    names = list(found["sha256"])
    if WEIGHTS in names and _seen(where) == _state(where / WEIGHTS):
        names.remove(WEIGHTS)
    for name in names:
        if sha256_of(where / name) != found["sha256"][name]:
            raise CheckpointError(f"{name} is not what was written")
    if WEIGHTS in names:
        try:
            write_json(where / SEEN, _state(where / WEIGHTS))
        except FoError:
            log.debug("%s is not noted: the cache can't be written", where)


def _seen(where: Path) -> Any:
    """The state of the weights' file when it was hashed; None: it never was."""
    try:
        return read_json(where / SEEN)
    except FoError:
        return None


def _load(folder: Path, where: Path, found: dict[str, Any], dtype: torch.dtype) -> Prepared:
    data = dict(found["fit"])
    shape = data["shape"]
    kinds = tuple(LayerKind(**kind) for kind in shape["kinds"])
    data["shape"] = LlamaConfig(**{**shape, "kinds": kinds})
    fit = Fit(**{**data, "family": Family(**data["family"])})
    main, local = (None if rope is None else _read_rope(rope) for rope in found["ropes"])
    assert main is not None, "the digest says that it was written"
    if WEIGHTS in found["sha256"]:
        backbone = LlamaBackbone.mapped(load_tensors(where / WEIGHTS), fit, (main, local))
    else:
        backbone = LlamaBackbone.load(folder, fit, (main, local), dtype)
    names = found["tokenizer"]
    tokenizer = StandaloneTokenizer(
        (where / TOKENIZER).read_text(encoding="utf-8"),
        TokenizerFacts(names["template"], tuple(names["specials"]), names["names"]),
    )
    facts = LLMFacts(**{**found["facts"], "ends": tuple(found["facts"]["ends"])})
    return Prepared(backbone, tokenizer, facts, found["fingerprint"])


def _read_rope(data: dict[str, Any]) -> Rope:
    frequencies = torch.tensor(data["inv_freq"])
    return Rope(2 * len(frequencies), inv_freq=frequencies, scale=data["scale"])


def _state(path: Path) -> dict[str, int]:
    """What changes when a file is written to."""
    found = path.stat()
    return {"size": found.st_size, "mtime": found.st_mtime_ns, "ctime": found.st_ctime_ns}


def _source(folder: Path) -> dict[str, dict[str, int]]:
    """State of every file of a folder that an LLM is read from."""
    return {path.name: _state(path) for path in sorted(folder.iterdir()) if path.is_file()}


@functools.cache
def _code() -> str:
    """A mark of the code and of the packages that make a prepared LLM."""
    packages = (importlib.metadata.version(name) for name in ("transformers", "tokenizers"))
    code = mark_of(Path(__file__).with_name(f"{name}.py") for name in CODE)
    return f"{code} {' '.join(packages)}"


def _digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
