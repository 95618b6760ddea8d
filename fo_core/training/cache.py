"""Values of frozen parts, computed once per item and kept in memory for the rest of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fo_core.training.stage import Batch


class ItemCache:
    """Fills batches with what a stage's ``precompute`` gives, calling it for unseen items only.

    It is called for one item at a time: the values do not depend on the batch that an item came
    in, so a resumed run computes the same bits.

    Args:
        compute: ``Stage.precompute``; None leaves batches as they are.
        limit_mb: Memory to use at most, MB; what comes after is computed every time.
    """

    def __init__(
        self,
        compute: Callable[[Any, Batch], Mapping[str, Tensor]] | None,
        limit_mb: float = 2048.0,
    ) -> None:
        self.compute, self.free = compute, int(limit_mb * 2**20)
        self._kept: dict[str, Mapping[str, Tensor]] = {}

    def fill(self, model: Any, batch: Batch) -> Batch:
        """Put ``{name: [tensor of item 0, tensor of item 1, ...]}`` into a batch and return it."""
        if self.compute is None:
            return batch
        rows = []
        for row, item in enumerate(batch["items"]):
            found = self._kept.get(item.id)
            if found is None:
                with torch.no_grad():
                    found = self.compute(model, one_item(batch, row))
                size = sum(t.numel() * t.element_size() for t in found.values())
                if size <= self.free:
                    self.free -= size
                    self._kept[item.id] = found
            rows.append(found)
        return batch | {name: [row[name] for row in rows] for name in rows[0]}


def one_item(batch: Batch, row: int) -> Batch:
    """A batch of one row, its wave without padding."""
    alone: Batch = {
        key: value[row : row + 1] if isinstance(value, Tensor | list | tuple) else value
        for key, value in batch.items()
    }
    if "wave" in alone:
        alone["wave"] = alone["wave"][:, : int(alone["wave_lens"])]
    return alone
