"""Recorded feature frames in place of the features of a wave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import Tensor


@contextmanager
def recorded_features(model: Any, feats: Tensor | None) -> Iterator[None]:
    """The new feature frames of a chunk are ``feats`` [1, 16, mel]; None: those of its wave."""
    with pytest.MonkeyPatch.context() as patch:
        if feats is not None:
            feats = feats.to(model.llm.dtype)
            patch.setattr(type(model.features), "step", lambda _, wave, state: (feats, state))
        yield


class Voice:
    """A detector that finds voice in everything."""

    def init_state(self, batch_size: int) -> None:
        return None

    def step(self, wave: Tensor, state: None) -> tuple[Tensor, None]:
        return wave.new_ones(1, wave.shape[1] // 512), state
