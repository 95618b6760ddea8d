"""What a stage will need before it is run: batches, tokens and sound a step, memory, time to go."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.chat import encode
from fo_core.training.cache import ItemCache
from fo_core.training.data_feed import (
    first_items,
    to_device,
)
from fo_core.training.distributed import precision, speedups, world
from fo_core.training.loop import Run, run_stage
from fo_core.training.recipes import recipe
from fo_core.training.run_config import TrainConfig, trial
from fo_core.training.stage import Stage
from fo_core.training.stepper import helpers

SAMPLED = 200  # items whose texts are counted


TIMED = 4  # steps that measure() runs; the first, slow one is not counted


def estimate(
    model: nn.Module,
    stage: Stage,
    cfg: TrainConfig,
    loader: Any,
    trainable: Mapping[str, nn.Parameter],
) -> dict[str, Any]:
    """``{"step": ..., "memory_gb": ...}`` for a plan; empty for a loader that is not ours.

    Inner values (activations) are counted on a forward pass over one item and scaled to the
    largest batch: an estimate, without what the optimiser step and the allocator add.
    """
    from fo_core.data.dataset import Loader

    if not isinstance(loader, Loader):
        return {}
    batches, items = loader.batches(), loader.items
    each = cfg.accumulate * world()[1]
    seconds = [sum(loader.lengths[i] for i in batch) for batch in batches]
    padded = [len(batch) * max(loader.lengths[i] for i in batch) for batch in batches]
    some = items[:SAMPLED]
    texts = [i.text if stage.data == "speech" else i.answer or i.text for i in some]
    tokenizer: Any = model.llm.tokenizer  # type: ignore[union-attr]
    text = [len(encode(tokenizer, one)) for one in texts]
    speech = [len(i.speech_tokens) for i in some]
    count = sum(map(len, batches)) / len(batches)
    step = {
        "items": count * each,
        "audio_seconds": sum(seconds) / len(batches) * each,
        "text_tokens": sum(text) / len(some) * count * each,
        "speech_tokens": sum(speech) / len(some) * count * each,
        "padding": 1.0 - sum(seconds) / sum(padded),
        "batches_an_epoch": len(batches) * loader.windows,
        "processes": world()[1],
    }
    trained = sum(_bytes(p) for p in trainable.values())
    weights = sum(map(_bytes, (*model.parameters(), *model.buffers())))
    inner = _inner_bytes(model, stage, cfg, loader, max(padded))
    memory = {
        "weights": weights,
        "gradients": trained,
        "optimiser": 2 * trained + (trained if cfg.ema else 0),
        "activations": inner,
    }
    memory["sum"] = sum(memory.values())
    return {"step": step, "memory_gb": {name: size / 2**30 for name, size in memory.items()}}


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _inner_bytes(
    model: nn.Module, stage: Stage, cfg: TrainConfig, loader: Any, longest: float
) -> float:
    """Bytes kept for the backward pass of a batch of ``longest`` seconds with its padding."""
    loaded, rejects = None, {}
    order = sorted(range(len(loader.items)), key=lambda i: loader.items[i].duration)
    for index in order[len(order) // 2 :]:  # an item of middle length that can be read
        loaded, rejects = loader._load((0, [index]))
        if loaded is not None:
            break
    if loaded is None:
        return 0.0
    device = next(model.parameters()).device
    cache = ItemCache(stage.precompute)
    batch = cache.fill(model, to_device(loaded, device)) | {"step": cfg.max_steps}
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision(cfg))
    with (
        torch.random.fork_rng(),
        torch.autocast(device.type, dtype=kind or torch.bfloat16, enabled=kind is not None),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        values = stage.objectives[0].losses(model, batch)
        held = sum(seen.values())
        del values
    (item,) = loaded["items"]
    return held * longest / max(1e-3, cfg.batch.crop_seconds or item.duration)


def measure(
    model: nn.Module, stage: Stage, cfg: TrainConfig, train: Any, val: Any
) -> dict[str, float]:
    """Run a few real steps in a folder that is thrown away (the model is changed by them).

    Returns:
        Seconds a step, seconds for all steps, and the most memory in GiB.
    """
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        held_out = first_items(val, 1)
        result = run_stage(
            model,
            stage,
            trial(cfg, TIMED),
            train,
            held_out,
            Path(folder),
            progress=lambda done, total: times.append(time.monotonic()),
        )
    step = (times[-1] - times[0]) / (len(times) - 1)
    memory = max(row.get("memory_gb", 0.0) for row in result.history)
    return {"seconds_a_step": step, "seconds": step * cfg.max_steps, "memory_gb": memory}


POSITIONS = 64  # that are timed


A_SECOND = 8.0  # positions of the LLM for a second of speech: words of question and answer


AN_ITEM = 64  # positions of an item where a batch is counted in items


REST = 1.5  # the other parts' share on top, as a factor


def seconds_of(model: FreezeOmni, stage: str, recipes: str = "smol") -> float:
    """Seconds of a stage by a shipped recipe: steps, times positions, times the LLM's speed.

    A rough figure, as no data is read; ``fo train --dry-run --measure`` runs real steps.
    """
    train = recipe(stage, recipes).train
    batch = train.batch
    positions = batch.seconds * A_SECOND if batch.seconds else (batch.size or 1) * AN_ITEM
    return train.max_steps * train.accumulate * positions * _seconds_a_position(model) * REST


def _seconds_a_position(model: FreezeOmni) -> float:
    """Of a forward and a backward pass of the LLM, per vector."""
    llm = model.llm
    if not hasattr(llm, "_seconds_a_position"):
        embeds = torch.zeros(1, POSITIONS, llm.width, device=llm.device, requires_grad=True)
        began = time.perf_counter()
        llm(embeds.to(llm.dtype)).float().sum().backward()
        llm._seconds_a_position = (time.perf_counter() - began) / POSITIONS  # type: ignore[assignment]
    return float(llm._seconds_a_position)  # type: ignore[arg-type]


def plan_stage(
    model: nn.Module, stage: Stage, cfg: TrainConfig, train: Any, val: Any
) -> dict[str, Any]:
    """What :func:`run_stage` would do, at which cost (``report.make_plan``, ``estimate``)."""
    with helpers(model, stage, cfg.seed), speedups(model, cfg.checkpointing, cfg.compile):
        run = Run(model, stage, cfg, train, val, Path(), None)
        return run.plan | estimate(model, stage, cfg, run.train, run.trainable)
