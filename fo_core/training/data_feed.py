"""From manifests to batches: opens loaders for the loop, repeats them, moves batches."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fo_core.config import config
from fo_core.data.augment import AugmentConfig
from fo_core.errors import DataError, StageError
from fo_core.training.stage import Batch


@config
class BatchConfig:
    """How items become batches."""

    size: int | None = None  # maximum number of items per batch
    # maximum sound per batch, s; with size too, the limit reached first applies
    seconds: float | None = None
    max_seconds: float = 30.0  # longer items are skipped
    # seconds kept behind the end of speech, where a manifest says it, in three of four recordings
    tail: Annotated[float, Field(ge=0)] | None = None
    crop_seconds: float = 0.0  # every sound is cut or padded to this (codec); 0 = whole
    # share of a training crop that may lie in the silence around the sound: codecs must learn it
    crop_over: Annotated[float, Field(ge=0, le=0.5)] = 0.25
    # maximum share of padding: lengths are mixed as much as it allows
    padding: Annotated[float, Field(ge=0, lt=1)] = 0.04
    workers: int = 0  # loader processes; 0 loads in the training process
    cache_mb: float = 512.0  # memory for decoded sounds, MB
    augment: AugmentConfig | None = None  # changes of the sound; None = none


def open_loader(
    source: Any,
    task: str,
    cfg: BatchConfig,
    seed: int = 0,
    training: bool = True,
    share: tuple[int, int] = (0, 1),
) -> Any:
    """A loader for a task.

    Args:
        source: Items, path of a manifest or of a folder of shards, or a ready loader, which is
            returned as it is.
        task: Name of a task of :mod:`fo_core.data.collate`.
        cfg: How to batch.
        seed: Of the order, crops and changes.
        training: Shuffled and endless; False: every item once, in the order given, unchanged.
        share: This process and how many there are.

    Raises:
        DataError: There is no item, none that the task can use, or no limit for a batch.
    """
    if hasattr(source, "load_state_dict"):
        return source
    from fo_core.data import manifest
    from fo_core.data.collate import find_task
    from fo_core.data.dataset import make_loader
    from fo_core.data.lazy import open_items

    if not isinstance(source, str | Path):
        items: Any = list(source)
    else:  # lazily, where there are many
        items = open_items(source) if training else manifest.read(source)
    crop = round(cfg.crop_seconds * find_task(task).rate)
    return make_loader(
        items,
        task,
        batch_size=cfg.size,
        batch_seconds=cfg.seconds,
        seed=seed,
        shuffle=training,
        crop_samples=crop,
        crop_over=round(cfg.crop_over * crop) if training else 0,
        augmentation=cfg.augment if training else None,
        max_seconds=cfg.max_seconds,
        tail=cfg.tail if training else None,
        cache_mb=cfg.cache_mb,
        num_workers=cfg.workers,
        padding=cfg.padding,
        rank=share[0],
        world_size=share[1],
        endless=training,
    )


def first_items(source: Any, count: int | None) -> Any:
    """The first items of held-out data; a loader as it is.

    Raises:
        DataError: There is none.
    """
    if hasattr(source, "load_state_dict"):
        return source
    if isinstance(source, str | Path):
        from fo_core.data.manifest import read_lines

        items = list(islice(read_lines(source), count))
    else:
        items = list(islice(source, count))
    if not items:
        raise DataError("there is no held-out item", do="give a manifest for --valid")
    return items


def size(loader: Any) -> dict[str, float]:
    """Items, hours and a check sum over the ids of a loader; of a large manifest, its lines, about
    how many hours these are, and a check sum of the file."""
    items = list(getattr(loader, "items", []))
    lazy = getattr(loader, "lazy", None)
    if lazy is not None:
        mean = sum(item.duration for item in items) / max(1, len(items))
        return {"items": lazy.items, "hours": mean * lazy.items / 3600, "ids": lazy.blocks.mark}
    hours = sum(float(getattr(item, "duration", 0.0)) for item in items) / 3600
    ids = zlib.crc32("\n".join(str(getattr(item, "id", "")) for item in items).encode())
    return {"items": len(items), "hours": hours, "ids": ids}


def reads(loader: Any, steps: int, each: int) -> dict[str, float]:
    """How much of the training data a run reads; empty for a loader that is not ours.

    Args:
        loader: The training data. Of a large manifest its current window stands for all.
        steps: Optimiser steps of the whole run.
        each: Batches of a step, of all processes together.

    Returns:
        ``hours`` of sound (crops count as cut), ``epochs``, and ``epoch_steps``: steps of an epoch.
    """
    from fo_core.data.dataset import Loader

    batches = loader.batches() if isinstance(loader, Loader) else []
    if not batches:
        return {}
    crop = loader.crop_samples / loader.task.rate if loader.crop_samples else float("inf")
    items = loader.items
    window = sum(min(items[i].duration, crop) for batch in batches for i in batch) / 3600
    epoch_steps = len(batches) * loader.windows / each
    hours = window * loader.windows / epoch_steps * steps
    return {"hours": hours, "epochs": steps / epoch_steps, "epoch_steps": epoch_steps}


def infinite_batches(loader: Any, name: str) -> Iterator[Batch]:
    """Batches of epoch after epoch; the rest of a resumed epoch may be empty.

    Raises:
        StageError: Two epochs in a row are empty.
    """
    empty = 0
    while True:
        empty += 1
        for batch in loader:
            empty = 0
            yield dict(batch)
        if empty > 1:
            raise StageError(f"stage {name}: the training data gives no batch")


def to_device(batch: Mapping[str, Any], device: torch.device) -> Batch:
    """A batch with its tensors on a device."""
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}


def count(batch: Batch) -> int:
    """Items in a batch."""
    return len(batch["items"]) if "items" in batch else 1


def seed_draws(*key: int) -> None:
    """Seed Python's, numpy's and torch's generators (all devices) from some numbers."""
    digest = hashlib.sha256(",".join(map(str, key)).encode()).digest()
    value = int.from_bytes(digest[:4], "little")
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002
    torch.manual_seed(value)
