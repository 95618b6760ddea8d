"""Batches of similar length in an order that depends on the seed and the epoch alone.

Training items are sorted by a length that is misjudged at random, as much as the padding allows:
batches are as mixed as they can be, all are full (classes of length leave a rest in each class,
which is most batches of a small set), and every epoch has others. lhotse's sampler then fills the
batches up to their limits. Being a pure function of (seed, epoch), an epoch is resumed by making
its batches again (no sound is read) and skipping those that were used.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fo_core.data.manifest import Item
from fo_core.errors import DataError

MISJUDGED = (1.0, 0.7, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02)  # of a length


@dataclass(frozen=True)
class Batching:
    """How items become batches.

    Args:
        batch_seconds: Most sound in a batch, its padding included, s; at least one item is taken.
        batch_size: Most items in a batch; with both limits the first one reached counts.
        seed: Seed of the order.
        shuffle: False keeps the items' order.
        padding: Share of the batches that mixing items of several lengths may make padding.
        drop_last: Leave out batches that are not full.
    """

    batch_seconds: float | None = None
    batch_size: int | None = None
    seed: int = 0
    shuffle: bool = True
    padding: float = 0.04
    drop_last: bool = False


def epoch_batches(
    items: Sequence[Item],
    how: Batching,
    epoch: int,
    lengths: Sequence[float] | None = None,
) -> list[list[int]]:
    """Indices of the items of every batch of an epoch, for all processes together.

    Args:
        items: What to batch; their ids must differ.
        how: Limits of a batch, and the order.
        epoch: Number of the epoch: each has another order.
        lengths: Of what a batch of the items pads, s; None: of their sounds.

    Raises:
        DataError: No items, no limit, or ids that are not unique.
    """
    batch_seconds, batch_size = how.batch_seconds, how.batch_size
    if not items:
        raise DataError("there is nothing to batch", do="check the manifest and the filters")
    if not batch_seconds and not batch_size:
        raise DataError("a batch has no limit", possible="batch_seconds, batch_size, or both")
    if len({item.id for item in items}) != len(items):
        raise DataError("the manifest has items with the same id", do="make its ids unique")
    from lhotse import MonoCut
    from lhotse.dataset.sampling import DynamicCutSampler

    long = np.asarray([item.duration for item in items] if lengths is None else lengths)
    if batch_seconds:
        long = long.clip(max=batch_seconds)  # one item may be longer than a batch
    full = min(batch_size or len(long), (batch_seconds or np.inf) / max(1e-9, long.mean()))
    key = how.seed, epoch
    order = mixed(long, max(1, int(full)), how.padding, key) if how.shuffle else range(len(long))
    limits: dict[str, Any] = {"max_duration": batch_seconds or None, "max_cuts": batch_size or None}
    cuts = [MonoCut(id=str(i), start=0, duration=float(long[i]), channel=0) for i in order]
    sampler = DynamicCutSampler(
        cuts, shuffle=False, drop_last=how.drop_last, rank=0, world_size=1, **limits
    )
    batches = [[int(cut.id) for cut in batch] for batch in sampler]
    if how.shuffle:
        random.Random(f"batches/{how.seed}/{epoch}").shuffle(batches)
    return batches


def mixed(lengths: np.ndarray, size: int, padding: float, key: tuple[int, int]) -> np.ndarray:
    """An order in which neighbours are about as long as each other.

    Args:
        lengths: Of the items, ``[N]``.
        size: Items in a batch.
        padding: Most padding that batches of the order may have; less where that is not possible.
        key: Seed of the order.

    Returns:
        Indices ``[N]``, longest first (so that none makes a batch longer that is nearly full), by
        length times a random factor, of the widest range of :data:`MISJUDGED` that leaves the
        padding within its limit, or of the narrowest.
    """
    draw = np.random.default_rng(key)
    first = draw.permutation(len(lengths))  # items of one length in any order
    factor = draw.uniform(-1, 1, len(lengths))
    for range_ in MISJUDGED:
        order = first[np.argsort(-(lengths * (1 + range_ * factor))[first], kind="stable")]
        starts = np.arange(0, len(order), size)
        longest = np.maximum.reduceat(lengths[order], starts)
        whole = (longest * np.diff(np.append(starts, len(order)))).sum()
        if lengths.sum() >= (1 - padding) * whole:
            break
    return order
