"""Streaming states of several sessions joined into one batch, and split again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def cat_states(states: list[Any]) -> Any:
    """States of one kind with equal settings, joined along the batch."""
    return _combine(states, lambda tensors: torch.cat(tensors, 0))


def take_rows(state: Any, start: int, stop: int) -> Any:
    """The part of a state that belongs to rows ``start .. stop-1`` of the batch."""
    return _combine([state], lambda tensors: tensors[0][start:stop])


def _combine(values: list[Any], function: Callable[[list[Tensor]], Tensor]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return function(values)
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        fields = {
            field.name: _combine([getattr(value, field.name) for value in values], function)
            for field in dataclasses.fields(first)
        }
        return dataclasses.replace(first, **fields)
    if isinstance(first, list | tuple):
        columns = zip(*values, strict=True)
        return type(first)(_combine(list(column), function) for column in columns)
    assert all(value == first for value in values[1:]), "states with different settings"
    return first
