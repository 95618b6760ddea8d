"""Values of frozen parts, computed once per item, kept in memory for a run or on disk for all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fo_core.config import to_dict
from fo_core.io.checkpoint import load_tensors, save_tensors
from fo_core.training.distributed import DistributedContext
from fo_core.training.stage import Batch, Stage


class ItemCache:
    """Fills batches with what a stage's ``precompute`` gives, calling it for unseen items only.

    It is called for one item at a time: the values do not depend on the batch that an item came
    in, so a resumed run computes the same bits. A value belongs to everything that the manifest
    says of an item, not to its id alone: of two items with one id each has its own.

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

    def fill(self, model: Any, batch: Batch, team: DistributedContext | None = None) -> Batch:
        """Put ``{name: [tensor of item 0, tensor of item 1, ...]}`` into a batch and return it."""
        if self.compute is None:
            return batch
        items = batch["items"]
        keys = [hashlib.sha256(repr(item).encode()).hexdigest() for item in items]
        rows = [self._kept.get(key) or self._from_disk(key, model) for key in keys]
        missing = [row for row, found in enumerate(rows) if found is None]
        rounds = team.max_over_ranks(len(missing)) if team and team.sharded else len(missing)
        for number in range(rounds):  # sharded: every process runs the LLM equally often
            row = missing[number] if number < len(missing) else 0
            with torch.no_grad():
                found = self.compute(model, one_item(batch, row))
            if number < len(missing):
                rows[row] = found
                self._keep(keys[row], found)
        whole = [row for row in rows if row is not None]
        return batch | {name: [row[name] for row in whole] for name in whole[0]}

    def _keep(self, key: str, found: Mapping[str, Tensor], write: bool = True) -> None:
        if self.folder is not None and write:
            save_tensors(self._path(key), found)
        size = sum(t.numel() * t.element_size() for t in found.values())
        if size <= self.free:
            self.free -= size
            self._kept[key] = found

    def _from_disk(self, key: str, model: Any) -> Mapping[str, Tensor] | None:
        if self.folder is None or not self._path(key).is_file():
            return None
        found = {k: v.to(model.device) for k, v in load_tensors(self._path(key)).items()}
        self._keep(key, found, write=False)
        return found

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key[2:24]}.safetensors"


def place(
    root: str, stage: Stage, model: Any, prints: Mapping[str, Mapping[str, str]]
) -> Path | None:
    """Folder for a stage's values on disk: another one when a part that they come from is another.

    Args:
        root: The folder for all stages; "" = none.
        stage: Its ``reads`` name the parts.
        model: Gives ``config`` (texts of the dialogue, sizes).
        prints: Fingerprints of all parts.
    """
    if not root:
        return None
    settings = to_dict(model.config)
    facts = {
        "call": repr(getattr(stage.precompute, "keywords", None)),
        "parts": {part: prints.get(part, {}).get("frozen") for part in stage.reads},
        "settings": {part: settings.get(part) for part in stage.reads},
        "width": settings["speech_decoder"]["dim"],  # output-3 keeps states in rows of it
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Path(root) / f"{stage.name}-{digest[:16]}"


def one_item(batch: Batch, row: int) -> Batch:
    """A batch of one row, its wave without padding."""
    alone: Batch = {
        key: value[row : row + 1] if isinstance(value, Tensor | list | tuple) else value
        for key, value in batch.items()
    }
    if "wave" in alone:
        alone["wave"] = alone["wave"][:, : int(alone["wave_lens"])]
    return alone
