"""How fast a stage trains: sound a second, waiting for data, padding, and its products' bound.

The bound is measured, not taken from a data sheet: the matrix products and convolutions of one real
step (forward and backward) are recorded with their shapes and dtypes, and the same ones are timed
alone on random numbers. No training step of this model on this machine can be quicker.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from eval.latency.clock import milliseconds
from fo_core.training.loop import run_stage
from fo_core.training.run_config import TrainConfig, trial
from fo_core.training.stage import Stage

WARM = 2  # steps before the timed ones; in the second the products are recorded
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")
REPEATS = 5  # runs behind each product's time


@dataclass(frozen=True)
class Throughput:
    """One stage's speed; medians over the timed steps."""

    stage: str
    device: str
    steps: int  # timed
    seconds_a_step: float
    audio_seconds_a_second: float
    items_a_second: float
    data_share: float  # of the time spent waiting for batches
    padding: float  # of the samples (or tokens) that are padding
    products_seconds: float  # of the step's matrix products alone
    bound_share: float  # products_seconds / seconds_a_step
    tflops: float  # of one step's products, 10^12
    tflops_a_second: float  # achieved
    memory_gb: float


class _Products(TorchDispatchMode):
    """Counts products by operation, shapes, dtypes and plain arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[Any] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket.__name__ in PRODUCTS:
            self.found[(func, tuple(_describe(a) for a in args))] += 1
        return func(*args, **(kwargs or {}))


def _describe(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return ("tensor", tuple(argument.shape), argument.stride(), argument.dtype)
    return tuple(argument) if isinstance(argument, list) else argument


def _remake(description: Any, device: torch.device) -> Any:
    if isinstance(description, tuple) and description[:1] == ("tensor",):
        _, shape, stride, dtype = description
        size = 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        made = torch.zeros(size, dtype=dtype, device=device)  # expanded ones share memory
        made = made.normal_() if dtype.is_floating_point else made
        return made.as_strided(shape, stride)
    return list(description) if isinstance(description, tuple) else description


def measure(
    model: nn.Module,
    stage: Stage,
    cfg: TrainConfig,
    train: Any,
    val: Any,
    steps: int = 10,
    say: Callable[[str], None] = lambda text: None,
) -> Throughput:
    """Train some real steps in a folder that is thrown away (the model is changed by them).

    Args:
        model: The whole model.
        stage: What is trained.
        cfg: The run's settings: batches, precision, device.
        train: Training items or manifest.
        val: Held-out ones (one batch is read).
        steps: Steps to time.
        say: Told what goes on.
    """
    products, times = _Products(), list[float]()
    flops = FlopCounterMode(display=False)

    def watch(done: int, total: int) -> None:
        times.append(time.monotonic())
        if done == WARM - 1:
            flops.__enter__()
            products.__enter__()
        elif done == WARM:
            products.__exit__(None, None, None)
            flops.__exit__(None, None, None)

    every = WARM + steps
    short = trial(cfg, every)
    say(f"{stage.name}: {every} steps")
    with tempfile.TemporaryDirectory() as folder:
        found = run_stage(model, stage, short, train, val, Path(folder), progress=watch)
    rows = [row for row in found.history if "items_per_s" in row and row["step"] > WARM]
    middle = {k: statistics.median(row.get(k, 0.0) for row in rows) for k in rows[0]}
    ends = times[WARM - 1 :]  # of the last step before the timed ones, and of those
    step = statistics.median(b - a for a, b in pairwise(ends))
    device = next(model.parameters()).device
    say(f"{stage.name}: {sum(products.found.values())} products alone")
    alone = sum(_time(key, device) * count for key, count in products.found.items())
    total = flops.get_total_flops() / 1e12
    return Throughput(
        stage=stage.name,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        steps=len(rows),
        seconds_a_step=step,
        audio_seconds_a_second=middle["audio_s_per_s"],
        items_a_second=middle["items_per_s"],
        data_share=middle["data_share"],
        padding=statistics.fmean(row.get("padding", 0.0) for row in rows),
        products_seconds=alone,
        bound_share=alone / step,
        tflops=total,
        tflops_a_second=total / step,
        memory_gb=max(row["memory_gb"] for row in rows),
    )


def _time(key: Any, device: torch.device) -> float:
    """Seconds of one product."""
    func, described = key
    arguments = [_remake(one, device) for one in described]
    with torch.no_grad():
        return milliseconds(lambda: func(*arguments), REPEATS, device, before=1) / 1000
