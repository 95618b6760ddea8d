"""Values of frozen parts, computed once per item, kept in memory for a run or on disk for all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fo_core.checkpoint import load_tensors, save_tensors
from fo_core.training.stage import Batch
from fo_core.training.team import Team


class ItemCache:
    """Fills batches with what a stage's ``precompute`` gives, calling it for unseen items only.

    It is called for one item at a time: the values do not depend on the batch that an item came
    in, so a resumed run computes the same bits.

    Args:
        compute: ``Stage.precompute``; None leaves batches as they are.
        limit_mb: Memory to use at most, MB; what comes after is computed (or read) every time.
        folder: Where the values are also kept on disk, for later runs; None = nowhere.
    """

    def __init__(
        self,
        compute: Callable[[Any, Batch], Mapping[str, Tensor]] | None,
        limit_mb: float = 2048.0,
        folder: Path | None = None,
    ) -> None:
        self.compute, self.free = compute, int(limit_mb * 2**20)
        self.folder = folder
        self._kept: dict[str, Mapping[str, Tensor]] = {}

    def fill(self, model: Any, batch: Batch, team: Team | None = None) -> Batch:
        """Put ``{name: [tensor of item 0, tensor of item 1, ...]}`` into a batch and return it."""
        if self.compute is None:
            return batch
        items = batch["items"]
        rows = [self._kept.get(item.id) or self._from_disk(item.id, model) for item in items]
        missing = [row for row, found in enumerate(rows) if found is None]
        rounds = team.most(len(missing)) if team and team.sharded else len(missing)
        for number in range(rounds):  # sharded: every process runs the LLM equally often
            row = missing[number] if number < len(missing) else 0
            with torch.no_grad():
                found = self.compute(model, one_item(batch, row))
            if number < len(missing):
                rows[row] = found
                self._keep(items[row].id, found)
        whole = [row for row in rows if row is not None]
        return batch | {name: [row[name] for row in whole] for name in whole[0]}

    def _keep(self, name: str, found: Mapping[str, Tensor], write: bool = True) -> None:
        if self.folder is not None and write:
            save_tensors(self._path(name), found)
        size = sum(t.numel() * t.element_size() for t in found.values())
        if size <= self.free:
            self.free -= size
            self._kept[name] = found

    def _from_disk(self, name: str, model: Any) -> Mapping[str, Tensor] | None:
        if self.folder is None or not self._path(name).is_file():
            return None
        found = {k: v.to(model.device) for k, v in load_tensors(self._path(name)).items()}
        self._keep(name, found, write=False)
        return found

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        digest = hashlib.sha256(name.encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:24]}.safetensors"


def one_item(batch: Batch, row: int) -> Batch:
    """A batch of one row, its wave without padding."""
    alone: Batch = {
        key: value[row : row + 1] if isinstance(value, Tensor | list | tuple) else value
        for key, value in batch.items()
    }
    if "wave" in alone:
        alone["wave"] = alone["wave"][:, : int(alone["wave_lens"])]
    return alone
