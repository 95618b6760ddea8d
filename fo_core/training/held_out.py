"""Validation: held-out loss and metrics, shared by the processes, without a trace in the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fo_core.training.cache import ItemCache
from fo_core.training.draws import seed_draws
from fo_core.training.feed import count, to_device
from fo_core.training.helpers import Objectives, Sealed
from fo_core.training.stage import Batch, Stage
from fo_core.training.team import Team, merge


class HeldOut:
    """Held-out data and what is measured on it.

    Args:
        stage: Its losses and metrics.
        loader: This process's share of the data; the same batches at every validation.
        cache: Precomputed values.
        steps: Steps of the whole run: losses are those of the last one (all terms are on).
        seed: Of every draw.
    """

    def __init__(
        self, stage: Stage, loader: Any, cache: ItemCache, steps: int, seed: int = 0
    ) -> None:
        self.stage, self.loader, self.cache = stage, loader, cache
        self.steps, self.seed = steps, seed
        self.start = loader.state_dict()

    def measure(self, team: Team, losses: nn.Module) -> dict[str, float]:
        """``{"val_loss": ...}``; the model is in eval mode afterwards."""
        bare = team.accelerator.unwrap_model(losses)
        assert isinstance(bare, Objectives)
        bare.model.eval()
        self.loader.load_state_dict(self.start)  # the same crops every time
        sums: dict[str, list[float]] = {}
        with torch.no_grad(), team.accelerator.autocast():
            for number, raw in enumerate(self.loader):
                seed_draws(self.seed, number)
                batch = self.cache.fill(bare.model, to_device(raw, team.device), team)
                batch["step"] = self.steps
                found: dict[str, Any] = {}
                for index, objective in enumerate(self.stage.objectives):
                    for key, value in bare(index, Sealed(batch)).items():
                        label = key if index == 0 else f"{objective.name}.{key}"
                        found[label] = (float(value) * count(batch), float(count(batch)))
                found |= self._metrics(bare.model, batch)
                for key, value in found.items():
                    pair = value if isinstance(value, tuple) else (float(value), 1.0)
                    sums.setdefault(key, []).extend(pair)
        parts = team.gather(sums)
        return {
            f"val_{key}": sum(values[::2]) / sum(values[1::2])
            for key, values in merge(parts[:1] if team.sharded else parts).items()
            if sum(values[1::2])
        }

    def _metrics(self, model: Any, batch: Batch) -> dict[str, Any]:
        if self.stage.metrics is None:
            return {}
        with torch.autocast(model_device(model), enabled=False):
            return dict(self.stage.metrics(model, batch))


def model_device(model: nn.Module) -> str:
    """Kind of device that a model is on."""
    return next(model.parameters()).device.type
