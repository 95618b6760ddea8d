"""Training of the state head: logits of every chunk, labels, cross-entropy, F1 of every state.

The state head reads the frozen LLM (paper, section 3.3); ``input-3`` trains it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.state_head import STATES
from fo_core.training.losses.llm_rows import Rows, run_with_partials
from fo_core.training.stage import Batch, Ratio


def read_states(model: FreezeOmni, batch: Batch, rows: Rows) -> tuple[Tensor, Tensor]:
    """One pass of the LLM over its rows: states of the rows, and at the end of every chunk.

    Args:
        model: Gives ``llm``.
        batch: ``seen`` (``[C]`` an item: speech vectors before each chunk's end), ``partial``
            (``[P, H]``: those of the words that were not complete at some chunk's end, chunk after
            chunk) and ``partials`` (``[C]``: how many of them are each chunk's).
        rows: N vectors a row.

    Returns:
        ``[B, N, H]`` and ``[B, C, H]``.
    """
    seen = pad_sequence(list(batch["seen"]), batch_first=True)
    parts = [
        held.split(counts.tolist())
        for held, counts in zip(batch["partial"], batch["partials"], strict=True)
    ]
    return run_with_partials(model, rows, seen, parts)


def state_logits(model: FreezeOmni, batch: Batch, at_chunks: Tensor) -> Tensor:
    """Logits ``[B, C, 3]`` of the states ``[B, C, H]`` that the LLM has at every chunk's end.

    Args:
        model: Gives ``state_head``.
        batch: ``chunks`` (``[C, 4, E]`` an item: encoder frames) for a recurrent head.
        at_chunks: As of :func:`read_states`.
    """
    frames = None
    if model.state_head.gru is not None:
        frames = pad_sequence(list(batch["chunks"]), batch_first=True)
    return model.state_head(at_chunks, frames)[..., : len(STATES)].float()


def state_loss(batch: Batch, logits: Tensor, class_weights: Sequence[float]) -> dict[str, Tensor]:
    """``state_loss`` and ``state_accuracy`` of labelled chunks; empty where there is none.

    Args:
        batch: ``states [B, C]``.
        logits: ``[B, C, 3]``.
        class_weights: Weight of each state in the cross-entropy.
    """
    labels = state_labels(batch, logits)
    known = labels >= 0
    if not bool(known.any()):
        return {}
    weights = logits.new_tensor(class_weights)
    loss = F.cross_entropy(logits[known], labels[known], weights)
    right = logits[known].argmax(-1) == labels[known]
    return {"state_loss": loss, "state_accuracy": right.float().mean()}


@dataclass(frozen=True)
class StateMetrics:
    """F1 of every state over the held-out chunks.

    Attributes:
        logits: Gives state logits ``[B, C, 3]`` of a model and a batch, or None.
    """

    logits: Callable[[FreezeOmni, Batch], Tensor | None]

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Ratio | float]:
        logits = self.logits(model, batch)
        if logits is None:
            return {}
        labels = state_labels(batch, logits)
        guess = logits.argmax(-1)
        found: dict[str, Ratio | float] = {}
        for state, name in enumerate(STATES):
            told, true = (guess == state) & (labels >= 0), labels == state
            hits = 2.0 * int((told & true).sum())
            found[f"f1_{name}"] = (hits, float(int(told.sum()) + int(true.sum())))
        return found


def state_labels(batch: Batch, logits: Tensor) -> Tensor:
    """Labels ``[B, C]`` for logits ``[B, C, 3]``; -1 where there is none."""
    B, C, _ = logits.shape
    given = batch["states"].to(logits.device)[:, :C]
    labels = torch.full((B, C), -1, dtype=torch.long, device=logits.device)
    labels[:, : given.shape[1]] = given
    return labels.masked_fill(labels >= len(STATES), -1)
