"""Validation: held-out loss, metrics and sounds, shared by the processes.

It leaves no trace in the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fo_core.io import audio
from fo_core.io.files import replacing
from fo_core.report.plots import spectrograms
from fo_core.training.cache import ItemCache
from fo_core.training.data_feed import count, seed_draws, to_device
from fo_core.training.distributed import DistributedContext, merge
from fo_core.training.run_config import TrainConfig
from fo_core.training.stage import Stage
from fo_core.training.stepper import Objectives, Sealed


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

    def measure(self, team: DistributedContext, losses: nn.Module) -> dict[str, float]:
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
                if self.stage.metrics is not None:
                    with torch.autocast(model_device(bare.model), enabled=False):
                        found |= self.stage.metrics(bare.model, batch)
                for key, value in found.items():
                    pair = value if isinstance(value, tuple) else (float(value), 1.0)
                    sums.setdefault(key, []).extend(pair)
        parts = team.gather(sums)
        return {
            f"val_{key}": sum(values[::2]) / sum(values[1::2])
            for key, values in merge(parts[:1] if team.sharded else parts).items()
            if sum(values[1::2])
        }


def model_device(model: nn.Module) -> str:
    """Kind of device that a model is on."""
    return next(model.parameters()).device.type


def write_samples(
    stage: Stage,
    model: nn.Module,
    held_out: HeldOut,
    folder: Path | None,
    step: int,
    cfg: TrainConfig,
) -> None:
    """Write ``samples/step-N/ITEM-NAME.wav`` and one picture of all spectrograms.

    Args:
        stage: Its ``samples`` make the sounds.
        model: The model; it is left in eval mode.
        held_out: The first items of its data are used.
        folder: Run folder; None computes (with processes that share an LLM) and writes nothing.
        step: Names the folder.
        cfg: How many items, and the seed.
    """
    if stage.samples is None:
        return
    model.eval()
    held_out.loader.load_state_dict(held_out.start)
    device = next(model.parameters()).device
    for raw in held_out.loader:
        seed_draws(cfg.seed, step)
        with torch.no_grad(), torch.autocast(model_device(model), enabled=False):
            sounds = stage.samples(model, to_device(raw, device), cfg.samples)
        break
    held_out.loader.load_state_dict(held_out.start)
    if folder is None or not sounds:
        return
    place = folder / "samples" / f"step-{step:08d}"
    place.mkdir(parents=True, exist_ok=True)
    for name, (wave, rate) in sounds.items():
        plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
        audio.write(place / f"{plain}.wav", wave, rate)
    drawn = spectrograms([(name, np.asarray(wave), rate) for name, (wave, rate) in sounds.items()])
    with replacing(place / "spectrograms.png") as temporary:
        temporary.write_bytes(drawn)
