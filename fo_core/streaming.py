"""The streaming contract, and what one can do with any streaming state.

A streaming module has ``init_state(batch_size) -> XState`` and ``step(x, state) -> (y, state)``.
``XState`` is a dataclass whose tensors all have the batch as their first axis (nested dataclasses
and sequences of them are fine; other fields are settings). ``step`` returns a new state and never
writes into the old one: keeping a reference to a state *is* a snapshot of it. Nothing is kept in
the module, so one model serves every session, and states of several sessions can be joined into
one batch and split again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

SAMPLE_RATE = 16000  # Hz, of everything the input branch hears
CHUNK_SAMPLES = 2560  # samples a chunk: 160 ms
FRAMES_PER_CHUNK = 16  # feature frames (10 ms) a chunk
CONTEXT_FRAMES = 3  # earlier feature frames that an encoder puts in front of a chunk
CHUNK_SECONDS = CHUNK_SAMPLES / SAMPLE_RATE

S = TypeVar("S")


def map_tensors(state: S, function: Callable[[Tensor], Tensor]) -> S:
    """A copy of a state with every tensor replaced by ``function(tensor)``."""
    return _combine([state], lambda tensors: function(tensors[0]))


def cat_states(states: Sequence[S]) -> S:
    """Join the states of several sessions along the batch.

    Args:
        states: States of one kind with equal settings and equal sizes besides the batch.
    """
    return _combine(list(states), lambda tensors: torch.cat(tensors, 0))


def take_rows(state: S, start: int, stop: int) -> S:
    """The part of a state that belongs to rows ``start .. stop-1`` of the batch."""
    return map_tensors(state, lambda tensor: tensor[start:stop])


def batch_size(state: Any) -> int:
    """How many rows a state is for."""
    sizes: list[int] = []
    map_tensors(state, lambda tensor: sizes.append(tensor.shape[0]) or tensor)  # type: ignore[func-returns-value]
    assert sizes, "a state without tensors"
    return sizes[0]


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
