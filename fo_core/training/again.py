"""How long a stage would take with an LLM that was put into a model, before there is any data."""

from __future__ import annotations

import time

import torch

from fo_core.models.freeze_omni import FreezeOmni
from fo_core.training.stages import recipe

POSITIONS = 64  # that are timed
A_SECOND = 8.0  # positions of the LLM for a second of speech: words of question and answer
AN_ITEM = 64  # positions of an item where a batch is counted in items
REST = 1.5  # the other parts' share on top, as a factor


def seconds_of(model: FreezeOmni, stage: str, size: str = "smol") -> float:
    """Seconds of a stage by the recipe of a size: steps, times positions, times the LLM's speed.

    A rough figure, as no data is read; ``fo train --dry-run --measure`` runs real steps.
    """
    train = recipe(stage, size).train
    batch = train.batch
    positions = batch.seconds * A_SECOND if batch.seconds else (batch.size or 1) * AN_ITEM
    return train.max_steps * train.accumulate * positions * _seconds_a_position(model) * REST


def _seconds_a_position(model: FreezeOmni) -> float:
    """Of a forward and a backward pass of the LLM, per vector."""
    llm = model.llm
    if not hasattr(llm, "_seconds_a_position"):
        embeds = torch.zeros(1, POSITIONS, llm.width, device=llm.device, requires_grad=True)
        began = time.perf_counter()
        llm(embeds.to(llm.dtype)).float().sum().backward()
        llm._seconds_a_position = (time.perf_counter() - began) / POSITIONS  # type: ignore[assignment]
    return float(llm._seconds_a_position)  # type: ignore[arg-type]
