"""What a frozen LLM's folder says of it beside its weights, and the names of dtypes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fo_core.errors import CheckpointError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def read_dtype(name: str | torch.dtype) -> torch.dtype:
    """A torch dtype from its name.

    Raises:
        CheckpointError: Another name than float32, bfloat16, float16.
    """
    if isinstance(name, torch.dtype):
        return name
    if name not in DTYPES:
        raise CheckpointError(f"unknown dtype {name!r}", possible=", ".join(DTYPES))
    return DTYPES[name]


@dataclass(frozen=True)
class LLMFacts:
    """Facts that a loader found."""

    architecture: str = ""  # name of the model's class
    why: str = ""  # why it runs on our own layers, or why it does not
    context: int | None = None  # positions it was made for; None = no limit is known
    ends: tuple[int, ...] = ()  # tokens that end an answer, by its generation config
    quantised: str = ""  # method of the quantisation; "" = none
