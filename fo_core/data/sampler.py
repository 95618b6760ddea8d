"""Batches of similar length in an order that depends on the seed and the epoch alone.

lhotse's DynamicBucketingSampler makes the batches; being a pure function of (seed, epoch), an
epoch is resumed by making its batches again (no sound is read) and skipping those that were used.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from fo_core.data.manifest import Item
from fo_core.errors import DataError


def epoch_batches(
    items: Sequence[Item],
    seed: int,
    epoch: int,
    batch_seconds: float | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    buckets: int = 30,
    drop_last: bool = False,
) -> list[list[int]]:
    """Indices of the items of every batch of an epoch, for all processes together.

    Args:
        items: What to batch; their ids must differ.
        seed: Seed of the order.
        epoch: Number of the epoch: each has another order.
        batch_seconds: Most sound in a batch (at least one item is taken), s.
        batch_size: Most items in a batch; with both limits the first one reached counts.
        shuffle: False keeps the items' order and takes no buckets.
        buckets: Most classes of length.
        drop_last: Leave out batches that are not full.

    Raises:
        DataError: No items, no limit, or ids that are not unique.
    """
    if not items:
        raise DataError("there is nothing to batch", do="check the manifest and the filters")
    if not batch_seconds and not batch_size:
        raise DataError("a batch has no limit", possible="batch_seconds, batch_size, or both")
    index = {item.id: i for i, item in enumerate(items)}
    if len(index) != len(items):
        raise DataError("the manifest has items with the same id", do="make its ids unique")
    limits: dict[str, Any] = {"max_duration": batch_seconds or None, "max_cuts": batch_size or None}
    common: dict[str, Any] = {**limits, "drop_last": drop_last, "rank": 0, "world_size": 1}
    from lhotse import MonoCut
    from lhotse.dataset.sampling import DynamicBucketingSampler, DynamicCutSampler

    def cut(item: Item) -> MonoCut:
        longest = batch_seconds or item.duration  # one item may be longer than a batch
        return MonoCut(id=item.id, start=0, duration=min(item.duration, longest), channel=0)

    order = list(items)
    if shuffle:  # lhotse draws from its buffer; the order it starts from is ours
        random.Random(f"{seed}/{epoch}").shuffle(order)
    cuts = [cut(item) for item in order]
    mean = sum(cut.duration for cut in cuts) / len(cuts)
    full = min(batch_size or len(cuts), (batch_seconds or 1e9) / mean)  # items in a full batch
    different = len({round(item.duration, 2) for item in items})
    whole = int(len(items) / (2 * max(1.0, full)))  # classes of two full batches each
    many = min(buckets, different, max(min(8, len(items) // 4), whole))
    if shuffle and many > 1:
        sampler = DynamicBucketingSampler(cuts, num_buckets=many, shuffle=True, seed=seed, **common)
        sampler.set_epoch(epoch)
    else:
        sampler = DynamicCutSampler(cuts, shuffle=False, **common)
    batches = [[index[c.id] for c in batch] for batch in sampler]
    if shuffle:
        random.Random(f"batches/{seed}/{epoch}").shuffle(batches)
    return batches
