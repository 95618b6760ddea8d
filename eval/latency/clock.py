"""Times of work on a device: each waits for what was asked of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def now(device: torch.device) -> float:
    """Seconds, when all that was asked of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def milliseconds(
    work: Callable[[], object], repeat: int, device: torch.device, before: int = 2
) -> float:
    """Median time of ``repeat`` runs of ``work``, after ``before`` runs to warm up."""
    spent = []
    for index in range(before + repeat):
        began = now(device)
        work()
        if index >= before:
            spent.append(now(device) - began)
    return 1000 * statistics.median(spent)
