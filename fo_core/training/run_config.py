"""Settings of a run that are not the stage's own, and which of them may change while it goes on."""

from __future__ import annotations

from typing import Any, Literal

from fo_core.config import config, replace, to_dict
from fo_core.training.data_feed import BatchConfig

Tracker = Literal[
    "tensorboard", "wandb", "mlflow", "trackio", "aim", "comet_ml", "clearml", "dvclive", "swanlab"
]


@config
class TrainConfig:
    """Budget, batches, logging and checkpoints of a run: everything that is not the stage's own."""

    max_steps: int  # optimiser steps
    batch: BatchConfig = BatchConfig()  # training batches, of each process
    val_batch: BatchConfig = BatchConfig(size=16)  # held-out batches
    val_items: int | None = None  # use only the first N held-out items; None = all
    accumulate: int = 1  # batches per process that are averaged into one step
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of matmuls, where the device supports it
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto = accelerate's choice
    seed: int = 0  # of data order, dropout and every other draw
    ema: float = 0.0  # decay of a moving average of the weights, which is exported; 0 = none
    shard_llm: bool = False  # FSDP: each process holds a part of the frozen LLM's layers
    checkpointing: bool = False  # activation checkpointing: less memory, more computing
    compile: bool = False  # torch.compile of the parts' forward passes
    # stop when 3 log rows exceed this multiple of the largest loss of the first 5; 0 = never
    diverged: float = 10.0
    validate_every: int = 500  # steps between two validations; the last step always is one
    save_every: int = 500  # steps between two checkpoints; the last step always is one
    keep: int = 2  # newest checkpoints kept, besides the best
    export: Literal["last", "best"] = "last"  # which weights the finished run leaves in the model
    log_every: int = 10  # steps averaged into one row of metrics.jsonl
    precompute_cache_mb: float = 2048.0  # memory for precomputed values of frozen parts, MB
    cache_hidden: str = ""  # folder where precomputed values are kept for later runs; "" = none
    trackers: tuple[Tracker, ...] = ()  # experiment trackers of accelerate that get every row
    samples: int = 2  # held-out items whose sounds are written at each validation; 0 = none
    curves: bool = True  # draw curves.png at the end


HARMLESS = {  # changing these does not change a single bit of the weights
    "device": ("device",),
    "logging and checkpoints": (
        "validate_every",
        "save_every",
        "keep",
        "log_every",
        "trackers",
        "curves",
    ),
    "outputs": ("samples", "export", "diverged"),
    "memory": ("precompute_cache_mb", "cache_hidden", "shard_llm", "checkpointing"),
    "held-out data": ("val_batch", "val_items"),
}
_QUIET = {name for names in HARMLESS.values() for name in names}
_QUIET_BATCH = {"workers", "cache_mb"}


def trial(cfg: TrainConfig, steps: int) -> TrainConfig:
    """The same run for a few steps that are only timed: every step logged, the rest skipped."""
    return replace(
        cfg,
        max_steps=steps,
        validate_every=steps + 1,
        save_every=steps + 1,
        log_every=1,
        diverged=0.0,
        samples=0,
        curves=False,
        trackers=(),
        export="last",
    )


def resume_signature(cfg: TrainConfig, processes: int) -> dict[str, Any]:
    """What must stay as it is while a run goes on; batches are those of all processes."""
    kept = {k: v for k, v in to_dict(cfg).items() if k not in _QUIET}
    kept["batch"] = {k: v for k, v in kept["batch"].items() if k not in _QUIET_BATCH}
    kept["batches_a_step"] = kept.pop("accumulate") * processes
    return kept
