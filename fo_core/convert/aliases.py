"""Copies of the frozen LLM inside a published checkpoint: they must be the LLM, bit for bit.

The published model registers its LLM under several names, so a checkpoint may carry the weights
once or more. Where they differ from the LLM's own folder the checkpoint was made with another one.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from fo_core.errors import CheckpointError
from fo_core.models.llm import source as llm_source

PREFIX = "llm_decoder."
SPELLINGS = [
    (re.compile(r"^transformer\."), "model."),
    (re.compile(r"^model\.h\."), "model.layers."),
    (re.compile(r"^model\.wte\."), "model.embed_tokens."),
]


def plain_name(name: str) -> str:
    """Hugging Face's name of an alias: ``llm_decoder.transformer.h.0.x`` → ``model.layers.0.x``."""
    name = name.removeprefix(PREFIX)
    for pattern, text in SPELLINGS:
        name = pattern.sub(text, name)
    return name


def check_aliases(tensors: dict[str, Tensor], llm: Path, source: Path) -> list[str]:
    """Take the LLM's copies out of ``tensors``.

    Args:
        tensors: Name → tensor of ``audiollm/final.pt``; the copies are removed from it.
        llm: The LLM's folder.
        source: The file, for messages.

    Returns:
        The names that were removed.

    Raises:
        CheckpointError: A copy is unknown to the LLM's folder, or differs from it.
    """
    aliases: dict[str, list[str]] = {}
    for name in [n for n in tensors if n.startswith(PREFIX)]:
        aliases.setdefault(plain_name(name), []).append(name)
    removed = {name: tensors.pop(name) for names in aliases.values() for name in names}
    if not aliases:
        return []
    embedding: Tensor | None = None
    for key, own in llm_source.weights(llm):
        embedding = own if key == "model.embed_tokens.weight" else embedding
        for name in aliases.pop(key, []):
            _check_equal(removed[name], own, f"{source}: {name} differs from {key} of {llm}")
    for name in aliases.pop("lm_head.weight", []) if embedding is not None else []:  # a tied head
        message = f"{source}: {name} differs from the tied embeddings of {llm}"
        _check_equal(removed[name], embedding, message)
    if aliases:
        names = next(iter(aliases.values()))
        raise CheckpointError(f"{source}: unknown tensor {names[0]} (not in {llm})")
    return list(removed)


def _check_equal(copy: Tensor, own: Tensor | None, message: str) -> None:
    if own is None or copy.shape != own.shape or not torch.equal(copy.to(own.dtype), own):
        raise CheckpointError(message, do="name the LLM that the checkpoint was trained with")
