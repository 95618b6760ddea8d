"""Optimisers, learning-rate schedules and the moving average of weights.

A rate is a pure function of the step, never state."""

from __future__ import annotations

import contextlib
import fnmatch
import math
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Literal

import torch
from torch import Tensor, nn

from fo_core.config import config
from fo_core.errors import StageError


@config
class OptimConfig:
    """Optimiser of one objective."""

    type: Literal["adamw", "adam"] = "adamw"  # algorithm
    lr: float = 2e-4  # peak learning rate
    betas: tuple[float, float] = (0.9, 0.98)  # moment decays
    eps: float = 1e-8  # added to the second moment's root
    weight_decay: float = 0.01  # decoupled decay of matrices (vectors and biases: none)
    scale: dict[str, float] = field(default_factory=dict)  # glob -> factor on lr for its parameters
    # glob -> first steps in which its parameters stay frozen
    freeze_steps: dict[str, int] = field(default_factory=dict)
    warmup_steps: int = 0  # steps of linear warm-up from 0 to lr
    schedule: Literal["constant", "linear", "cosine", "exponential", "noam"] = (
        "linear"  # after warm-up
    )
    # share of the steps after warm-up that stay at lr before linear or cosine decay
    plateau_ratio: float = 0.0
    min_lr_ratio: float = 0.0  # factor on lr at the last step (linear, cosine)
    decay: float = 0.98  # factor every decay_steps (exponential)
    decay_steps: int = 1000  # steps between two factors (exponential): one epoch in the paper
    clip: float = 5.0  # largest gradient norm; 0 = no clipping


def rate(cfg: OptimConfig, step: int, max_steps: int) -> float:
    """Learning rate for a step.

    Args:
        cfg: The schedule.
        step: Step from 0.
        max_steps: Length of the whole run in steps.
    """
    if step < cfg.warmup_steps:
        return cfg.lr * (step + 1) / cfg.warmup_steps
    after = step - cfg.warmup_steps
    if cfg.schedule == "constant":
        return cfg.lr
    if cfg.schedule == "exponential":
        return cfg.lr * cfg.decay ** (after // max(1, cfg.decay_steps))
    if cfg.schedule == "noam":
        return cfg.lr * math.sqrt(max(1, cfg.warmup_steps) / (step + 1))
    share = after / max(1, max_steps - cfg.warmup_steps)
    share = min(1.0, max(0.0, (share - cfg.plateau_ratio) / max(1e-9, 1.0 - cfg.plateau_ratio)))
    fall = 1.0 - share if cfg.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * share))
    return cfg.lr * (cfg.min_lr_ratio + (1.0 - cfg.min_lr_ratio) * fall)


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], cfg: OptimConfig
) -> torch.optim.Optimizer:
    """Optimiser over named parameters; each group carries its ``scale`` and its ``freeze_steps``.

    Raises:
        StageError: A glob of ``cfg.scale`` or ``cfg.freeze_steps`` matches no trained parameter.
    """
    for glob in (*cfg.scale, *cfg.freeze_steps):
        if not fnmatch.filter(parameters, glob):
            raise StageError(
                f"optim: {glob!r} matches no trained parameter",
                possible=", ".join(sorted({n.split(".")[0] + ".*" for n in parameters})),
            )
    groups: dict[tuple[float, int, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        scale = math.prod(f for glob, f in cfg.scale.items() if fnmatch.fnmatchcase(name, glob))
        frozen = max(
            (n for glob, n in cfg.freeze_steps.items() if fnmatch.fnmatchcase(name, glob)),
            default=0,
        )
        weight_decay = cfg.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((scale, frozen, weight_decay), []).append(parameter)
    algorithm = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[cfg.type]
    return algorithm(
        [
            {
                "params": members,
                "scale": scale,
                "freeze_steps": frozen,
                "weight_decay": weight_decay,
            }
            for (scale, frozen, weight_decay), members in groups.items()
        ],
        lr=cfg.lr,
        betas=cfg.betas,
        eps=cfg.eps,
    )


def set_rate(optimizer: torch.optim.Optimizer, lr: float, step: int) -> None:
    """Set every group's learning rate for a step: its own scale's, 0 while it is frozen."""
    for group in optimizer.param_groups:
        frozen = step < group.get("freeze_steps", 0)
        group["lr"] = 0.0 if frozen else lr * group.get("scale", 1.0)


class ExponentialMovingAverage:
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
        """Tensors for a checkpoint, named as :func:`checkpoints.optimizer_state` names moments."""
        return {f"ema|{name}|mean": mean for name, mean in self.mean.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state` gave; names that are missing stay as they are."""
        for name, mean in self.mean.items():
            if f"ema|{name}|mean" in tensors:
                mean.copy_(tensors[f"ema|{name}|mean"])
