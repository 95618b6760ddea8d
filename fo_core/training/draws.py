"""Random draws of a run as a function of where they are drawn, never of what was drawn before.

Before every batch all generators are seeded from (seed, step, objective, number of the batch in the
step over all processes). A resumed run, and one whose batches are shared by another number of
processes, draws the same dropout, noise and chunk sizes.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def seed_draws(*key: int) -> None:
    """Seed Python's, numpy's and torch's generators (all devices) from some numbers."""
    digest = hashlib.sha256(",".join(map(str, key)).encode()).digest()
    value = int.from_bytes(digest[:4], "little")
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002
    torch.manual_seed(value)
