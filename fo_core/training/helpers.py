"""What stands around a model while a stage lasts: helper modules, and the losses as one module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fo_core.training.stage import Batch, Objective, Stage


@contextlib.contextmanager
def helpers(model: nn.Module, stage: Stage, seed: int) -> Iterator[None]:
    """The stage's own helper modules, in the model for as long as the stage lasts."""
    made: Mapping[str, nn.Module] = {}
    if stage.helpers is not None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = stage.helpers(model)
    for name, module in made.items():
        assert not hasattr(model, name), f"the model already has {name}"
        model.add_module(name, module)
    try:
        yield
    finally:
        for name in made:
            delattr(model, name)


@dataclass
class Sealed:
    """A batch that data parallelism hands through as it is (it copies plain containers)."""

    batch: Batch


class Objectives(nn.Module):
    """Gives the losses a ``forward``, so that autocast and data parallelism apply to them."""

    def __init__(self, model: nn.Module, objectives: Sequence[Objective]) -> None:
        super().__init__()
        self.model, self.objectives = model, objectives

    def forward(self, index: int, sealed: Sealed) -> dict[str, Tensor]:
        """Losses of one objective on a batch."""
        return self.objectives[index].losses(self.model, sealed.batch)
