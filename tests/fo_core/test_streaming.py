"""What one can do with any streaming state."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fo_core.streaming import batch_size, cat_states, map_tensors, take_rows


@dataclass
class Inner:
    x: Tensor


@dataclass
class Outer:
    parts: list[Inner]
    y: Tensor
    size: int


def make(rows: int, size: int = 4) -> Outer:
    return Outer([Inner(torch.rand(rows, 2)), Inner(torch.rand(rows, 3))], torch.rand(rows), size)


def test_join_and_take_apart() -> None:
    a, b = make(1), make(2)
    both = cat_states([a, b])
    assert batch_size(both) == 3 and both.size == 4
    again = take_rows(both, 1, 3)
    assert torch.equal(again.parts[1].x, b.parts[1].x) and torch.equal(again.y, b.y)
    assert map_tensors(a, lambda t: t.double()).parts[0].x.dtype == torch.float64


def test_states_with_different_settings_do_not_join() -> None:
    with pytest.raises(AssertionError, match="settings"):
        cat_states([make(1, 4), make(1, 8)])
