"""One optimiser step: every objective that has begun, over the batches of this process.

A step may be one batch, several that are summed up, or several processes' batches: running
statistics come out the same. Codebooks learn in their own ``after_step``. Batch normalisation,
which PyTorch moves at every batch, is put back before each and gets the mean afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fo_core.training.data_feed import seed_draws
from fo_core.training.distributed import DistributedContext
from fo_core.training.guard import check_finite
from fo_core.training.optim import make_optimizer, rate, set_rate
from fo_core.training.run_config import TrainConfig
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


class RunningState:
    """Running statistics of a model while it trains.

    Args:
        model: The whole model.
        team: The processes.
        batches: Of a step in this process.
    """

    def __init__(self, model: nn.Module, team: DistributedContext, batches: int) -> None:
        self.team, self.batches = team, batches
        self.learners = [m for m in model.modules() if hasattr(m, "after_step")]
        alone = batches * team.size == 1
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        self.norms = [] if alone else norms
        self._before: list[tuple[nn.Module, dict[str, Tensor], dict[str, Tensor]]] = []

    def begin(self) -> None:
        """Remember the statistics before a step."""
        self._before = [
            (norm, {n: b.clone() for n, b in norm.named_buffers()}, {})
            for norm in self.norms
            if norm.training
        ]

    @torch.no_grad()
    def take(self) -> None:
        """Take in what a batch has made of them, and put them back."""
        for norm, before, sums in self._before:
            for name, buffer in norm.named_buffers():
                moved = buffer - before[name]
                sums[name] = sums[name] + moved if name in sums else moved
                buffer.copy_(before[name])

    @torch.no_grad()
    def end(self, *key: int) -> None:
        """Move them all.

        Args:
            key: Seeds what is drawn (codes that are revived).
        """
        for norm, _, sums in self._before:
            for name, buffer in norm.named_buffers():
                moved = self.team.mean(sums[name].float() / self.batches)
                buffer.add_(moved.to(buffer.dtype))
        seed_draws(*key)
        for module in self.learners:
            module.after_step()  # type: ignore[operator]


class Stepper:
    """Optimisers of a stage and how they are stepped.

    Args:
        team: The processes.
        losses: The prepared :class:`Objectives`.
        stage: The stage.
        groups: Objective name -> its parameters.
        cfg: Settings of the run.
        folder: Where a batch that breaks the run is saved.
    """

    def __init__(
        self,
        team: DistributedContext,
        losses: nn.Module,
        stage: Stage,
        groups: Mapping[str, Mapping[str, nn.Parameter]],
        cfg: TrainConfig,
        folder: Path,
    ) -> None:
        self.team, self.losses, self.stage, self.groups = team, losses, stage, groups
        self.cfg, self.folder = cfg, folder
        made = [make_optimizer(groups[o.name], o.optim) for o in stage.objectives]
        self.optimizers: list[Any] = [team.accelerator.prepare(o) for o in made]
        bare = team.accelerator.unwrap_model(losses)
        self.running = RunningState(bare, team, cfg.accumulate)

    @property
    def bare(self) -> list[tuple[str, torch.optim.Optimizer]]:
        """Every objective's name and its own optimiser, without accelerate's wrapper."""
        names = (o.name for o in self.stage.objectives)
        return [
            (n, getattr(o, "optimizer", o)) for n, o in zip(names, self.optimizers, strict=True)
        ]

    def step(self, micros: Sequence[Batch], step: int) -> dict[str, float]:
        """Step every objective; returns the values to log."""
        logged: dict[str, float] = {}
        several = len(self.optimizers) > 1
        sealed = [Sealed(micro | {"step": step}) for micro in micros]
        for index, objective in enumerate(self.stage.objectives):
            if step < objective.starts_at:
                continue
            mine, optimizer = self.groups[objective.name], self.optimizers[index]
            if several:
                self._only(mine)
            age = step - objective.starts_at
            lr = rate(objective.optim, age, self.cfg.max_steps)
            set_rate(self.bare[index][1], lr, age)
            optimizer.zero_grad(set_to_none=True)
            self.running.begin()
            for number, micro in enumerate(sealed):
                place = number * self.team.size + self.team.rank
                seed_draws(self.cfg.seed, step, index, place)
                values = self.losses(index, micro)
                loss = values["loss"]
                self._check(loss, micro.batch, step, f"loss of {objective.name}")
                self.team.accelerator.backward(loss / len(sealed))
                self.running.take()
                for key, value in values.items():
                    label = f"{objective.name}.{key}" if several else key
                    logged[label] = logged.get(label, 0.0) + float(value.detach()) / len(sealed)
            limit = objective.optim.clip or float("inf")
            norm = self.team.accelerator.clip_grad_norm_(list(mine.values()), limit)
            if norm is not None and self.cfg.precision != "fp16":
                self._check(norm, sealed[-1].batch, step, f"gradient of {objective.name}")
                logged[f"{objective.name}.grad_norm" if several else "grad_norm"] = float(norm)
            optimizer.step()
            self.running.end(self.cfg.seed, step, index)
            logged[f"{objective.name}.lr" if several else "lr"] = lr
        if several:
            self._only({n: p for group in self.groups.values() for n, p in group.items()})
        return logged

    def _only(self, mine: Mapping[str, nn.Parameter]) -> None:
        """Gradients for these of the trained parameters, not for the others."""
        for group in self.groups.values():
            for name, parameter in group.items():
                parameter.requires_grad_(name in mine)

    def _check(self, value: torch.Tensor, batch: Batch, step: int, what: str) -> None:
        check_finite(value, batch, self.folder, self.stage.name, step, what)
