"""A running mean of the trained weights, which is validated and kept in their place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class WeightMean:
    """Exponential moving average of some parameters.

    Args:
        parameters: What is averaged, by name.
        decay: Memory per step; early steps forget faster, (1 + n) / (10 + n). 0 averages nothing.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = (parameters if decay else {}), decay
        self.mean = {n: p.detach().clone() for n, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step (from 0)."""
        share = 1.0 - min(self.decay, (1 + step) / (10 + step))
        for name, mean in self.mean.items():
            mean.lerp_(self.parameters[name].to(mean.dtype), share)

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """The mean stands in the model for as long as the block lasts."""
        held = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.put()
        try:
            yield
        finally:
            for name, value in held.items():
                self.parameters[name].data.copy_(value)

    def put(self) -> None:
        """Leave the mean in the model."""
        for name, mean in self.mean.items():
            self.parameters[name].data.copy_(mean)

    def state(self) -> dict[str, Tensor]:
        """Tensors for a checkpoint, named as :func:`snapshot.optimizer_state` names moments."""
        return {f"ema|{name}|mean": mean for name, mean in self.mean.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state` gave; names that are missing stay as they are."""
        for name, mean in self.mean.items():
            if f"ema|{name}|mean" in tensors:
                mean.copy_(tensors[f"ema|{name}|mean"])
