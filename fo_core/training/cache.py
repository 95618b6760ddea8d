"""Values of frozen parts, computed once per item and kept in memory for the rest of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fo_core.training.stage import Batch


class ItemCache:
    """Fills batches with what a stage's ``precompute`` gives, calling it for unseen items only.

    Args:
        compute: ``Stage.precompute``; None leaves batches as they are.
    """

    def __init__(self, compute: Callable[[Any, Batch], Mapping[str, list[Tensor]]] | None) -> None:
        self.compute = compute
        self._kept: dict[str, dict[str, Tensor]] = {}

    def fill(self, model: Any, batch: Batch) -> Batch:
        """Put ``{name: [tensor of item 0, tensor of item 1, ...]}`` into a batch and return it."""
        if self.compute is None:
            return batch
        ids = [item.id for item in batch["items"]]
        if any(i not in self._kept for i in ids):
            with torch.no_grad():
                computed = self.compute(model, batch)
            for row, item_id in enumerate(ids):
                self._kept[item_id] = {name: rows[row] for name, rows in computed.items()}
        names = self._kept[ids[0]].keys()
        return batch | {name: [self._kept[i][name] for i in ids] for name in names}
