"""From manifests to batches: opens loaders for the loop, repeats them, moves batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fo_core.errors import StageError
from fo_core.training.stage import Batch, Stage


def open_loader(
    source: Any,
    stage: Stage,
    batch_size: int | None,
    batch_seconds: float | None,
    seed: int,
    shuffle: bool = False,
    limit: int | None = None,
) -> Any:
    """A loader for a stage's task.

    Args:
        source: Items, path of a manifest, or a ready loader, which is returned as it is.
        stage: Names the task.
        batch_size: Items a batch.
        batch_seconds: Seconds of audio a batch; exactly one of the two is given.
        seed: Of the order.
        shuffle: Training order instead of the order given.
        limit: Use only the first so many items.

    Raises:
        StageError: There is no item, or not exactly one batch size.
    """
    if hasattr(source, "load_state_dict"):
        return source
    from fo_core.data.dataset import make_loader
    from fo_core.data.manifest import read

    items = list(read(source) if isinstance(source, str | Path) else source)[:limit]
    if not items:
        kind = "training" if shuffle else "held-out"
        raise StageError(f"stage {stage.name}: the {kind} set is empty", do="name a full manifest")
    if (batch_size is None) == (batch_seconds is None):
        raise StageError("give exactly one of train.batch_size and train.batch_seconds")
    return make_loader(
        items,
        stage.data,
        batch_size=batch_size,
        batch_seconds=batch_seconds,
        seed=seed,
        shuffle=shuffle,
    )


def size(loader: Any) -> dict[str, float]:
    """Items and hours of a loader."""
    items = list(getattr(loader, "items", []))
    hours = sum(float(getattr(item, "duration", 0.0)) for item in items) / 3600
    return {"items": len(items), "hours": hours}


def forever(loader: Any, name: str) -> Iterator[Batch]:
    """Batches of epoch after epoch.

    Raises:
        StageError: An epoch is empty.
    """
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield dict(batch)
        if empty:
            raise StageError(f"stage {name}: the training data gives no batch")


def to_device(batch: Mapping[str, Any], device: torch.device) -> Batch:
    """A batch with its tensors on a device."""
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}


def count(batch: Batch) -> int:
    """Items in a batch."""
    return len(batch["items"]) if "items" in batch else 1
