"""A recording of two turns whose second one ends with the end token (the recorded ones are cut).

The published program leaves the step that gave the end token out of a turn's ids and hidden states;
the cache's length holds it. Such a recording follows from a cut one: its second answer stops at a
token, and a head that takes that token for the end token gives it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor


class Ended:
    """A run like ``Run``; ``head`` makes an LLM's logits those of a model that ends there."""

    def __init__(self, run: Any, end: int) -> None:
        self.json, self.tensors = copy.deepcopy(run.json), dict(run.tensors)
        first, second = self.json["turns"]
        seen, ids = set(first["ids"]), second["ids"]
        fresh = (i for i in range(1, len(ids)) if ids[i] not in seen | set(ids[:i]))
        at = next(fresh, None)
        if at is None:
            pytest.skip("no token of the second answer occurs for the first time")
        assert second["end"] == "cs" and end not in seen | set(ids)
        self.swapped = [ids[at], end]
        second["ids"], second["end"] = ids[:at], "sl"
        second["kv_len"] += at - (len(ids) - 1)  # ``at`` tokens are fed, and all but the last were
        self.tensors["t1.hidden"] = self.tensors["t1.hidden"][:at]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def head(self, logits: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Logits [..., V] with the two tokens exchanged."""

        def changed(hidden: Tensor) -> Tensor:
            found = logits(hidden)
            order = torch.arange(found.shape[-1])
            order[self.swapped] = order[self.swapped].flip(0)
            return found[..., order]

        return changed
