"""The one training loop: freeze, train, validate, save, resume, prove that the rest stood still.

Every stage runs through :func:`run_stage`, alone or under ``accelerate launch`` / ``torchrun``.
A stopped run goes on from its newest complete checkpoint to the same bits as an uninterrupted one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from torch import Tensor, nn

from fo_core.config import config, to_dict
from fo_core.errors import StageError
from fo_core.files import write_json
from fo_core.training import report, snapshot
from fo_core.training.cache import ItemCache
from fo_core.training.feed import BatchConfig, count, forever, open_loader, size, to_device
from fo_core.training.freeze import fingerprints, freeze_all_but, select, trained_state
from fo_core.training.guard import check_finite, check_start, settle
from fo_core.training.helpers import Objectives, helpers
from fo_core.training.logger import Meter, RunLogger, last_metrics, read_history
from fo_core.training.optim import make_optimizer, rate, set_rate
from fo_core.training.progress import LiveLine
from fo_core.training.stage import Batch, Stage, StageResult, parameter_count


@config
class TrainConfig:
    """Budget, batches and book-keeping of a run: everything that is not the stage's own."""

    max_steps: int  # optimiser steps
    batch: BatchConfig = BatchConfig()  # training batches
    val_batch: BatchConfig = BatchConfig(size=16)  # held-out batches
    val_items: int | None = None  # use only the first so many held-out items; None = all
    accumulate: int = 1  # batches whose gradients are averaged into one step
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of the products (autocast)
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto = accelerate's choice
    seed: int = 0  # of data order, dropout and every other draw
    validate_every: int = 500  # steps between two validations; the last step always is one
    save_every: int = 500  # steps between two checkpoints; the last step always is one
    keep: int = 2  # newest checkpoints kept
    log_every: int = 10  # steps averaged into one row of metrics.jsonl
    remember_mb: float = 2048.0  # memory for precomputed values of frozen parts, MB
    tensorboard: bool = False  # also write TensorBoard events
    curves: bool = True  # draw curves.png at the end


def run_stage(
    model: nn.Module,
    stage: Stage,
    cfg: TrainConfig,
    train: Any,
    val: Any,
    run_dir: str | Path,
    *,
    resume: bool = True,
    force: bool = False,
    progress: bool | Callable[[int, int], None] = True,
    dry_run: bool = False,
) -> StageResult:
    """Train one stage; the model holds the result, the run folder its records.

    Args:
        model: The whole model (a ``FreezeOmni``); trained in place.
        stage: What to train.
        cfg: Budget and book-keeping.
        train: Items, path of a manifest, or a ready loader.
        val: Held-out items, path or loader.
        run_dir: Folder of this run (``stage.json``, ``metrics.jsonl``, ``curves.png``,
            ``checkpoints/``).
        resume: Go on from the newest complete checkpoint, or return the result of a finished run;
            False starts anew and removes what was there.
        force: Go on although the settings are not those the run was started with.
        progress: True shows the plan and a live line on stderr; a function is called with (steps
            done, all steps) instead.
        dry_run: Stop after the plan.

    Returns:
        Held-out metrics, history, parameter counts, seconds and fingerprints.

    Raises:
        StageError: A glob matches nothing, a needed part is untrained, the settings changed, the
            loss is not finite, or a frozen part moved.
    """
    with helpers(model, stage, cfg.seed):
        return _run_stage(
            model, stage, cfg, train, val, Path(run_dir), resume, force, progress, dry_run
        )


def _run_stage(
    model: nn.Module,
    stage: Stage,
    cfg: TrainConfig,
    train: Any,
    val: Any,
    run_dir: Path,
    resume: bool,
    force: bool,
    progress: bool | Callable[[int, int], None],
    dry_run: bool,
) -> StageResult:
    run = _Run(model, stage, cfg, train, val, run_dir)
    if progress is True:
        report.print_plan(run.plan)
    if dry_run:
        plan = run.plan
        return StageResult({}, [], plan["trainable_parameters"], plan["frozen_parameters"], 0.0, {})
    if not resume:
        shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
        for name in ("metrics.jsonl", "stage.json", "run.json"):
            (run_dir / name).unlink(missing_ok=True)
    try:
        return run.go(force, progress)
    finally:
        model.eval()


def plan_stage(
    model: nn.Module, stage: Stage, cfg: TrainConfig, train: Any, val: Any
) -> dict[str, Any]:
    """What :func:`run_stage` would do (see :func:`fo_core.training.report.make_plan`)."""
    with helpers(model, stage, cfg.seed):
        return _Run(model, stage, cfg, train, val, Path()).plan


class _Run:
    """One run of one stage: what :func:`run_stage` sets up before and needs while it goes on."""

    def __init__(
        self, model: nn.Module, stage: Stage, cfg: TrainConfig, train: Any, val: Any, folder: Path
    ) -> None:
        self.model, self.stage, self.cfg, self.folder = model, stage, cfg, folder
        check_start(model, stage)
        self.groups = {o.name: select(model, o.trainable) for o in stage.objectives}
        self.trainable = {n: p for group in self.groups.values() for n, p in group.items()}
        self.freeze()
        self.train = open_loader(train, stage.data, cfg.batch, cfg.seed)
        held_out = _first(val, cfg.val_items)
        self.val = open_loader(held_out, stage.data, cfg.val_batch, cfg.seed, training=False)
        self.val_start = self.val.state_dict()
        sizes = size(self.train), size(self.val)
        self.plan = report.make_plan(model, stage, self.groups, *sizes, cfg.max_steps)
        self.cache = ItemCache(stage.precompute, cfg.remember_mb)

    def freeze(self) -> None:
        """Gradients and training mode for what is trained, for nothing else."""
        active = [name for o in self.stage.objectives for name in o.active]
        freeze_all_but(self.model, self.trainable, active)

    def go(self, force: bool, progress: bool | Callable[[int, int], None]) -> StageResult:
        """Train from the start or from the newest checkpoint to the end."""
        cfg, folder = self.cfg, self.folder
        before = fingerprints(self.model, self.trainable)
        before = settle(folder, self._settings(), before, force)
        write_json(folder / "plan.json", self.plan)
        saved = snapshot.newest(folder / "checkpoints")
        if saved is not None:
            snapshot.load_weights(self.model, saved.weights, str(saved.path))
            finished = report.read_result(folder, read_history(folder))
            if finished is not None and saved.state["step"] >= cfg.max_steps:
                return finished
        if AcceleratorState._shared_state:  # another stage of this process, other precision
            AcceleratorState._reset_state()
        accelerator = Accelerator(
            mixed_precision="no" if cfg.precision == "fp32" else cfg.precision,
            cpu=cfg.device == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        main = accelerator.is_main_process
        optimizers = [make_optimizer(self.groups[o.name], o.optim) for o in self.stage.objectives]
        losses = accelerator.prepare(Objectives(self.model, self.stage.objectives))
        optimizers = [accelerator.prepare(o) for o in optimizers]
        step, seconds, offset = 0, 0.0, 0
        if saved is None and self.stage.begin is not None:
            start = self.train.state_dict()
            self.stage.begin(self.model, self.train)
            self.train.load_state_dict(start)
        set_seed(cfg.seed)
        if saved is not None:
            for objective, optimizer in zip(self.stage.objectives, optimizers, strict=True):
                group = self.groups[objective.name]
                snapshot.load_optimizer(_bare(optimizer), group, objective.name, saved.optim)
            step, seconds, offset = (saved.state[k] for k in ("step", "seconds", "log_bytes"))
            self.train.load_state_dict(saved.state["loader"])
            snapshot.set_rng_state(saved.rng)
        logger = RunLogger(folder if main else None, offset, cfg.tensorboard)
        started = time.monotonic() - seconds
        batches, meter = forever(self.train, self.stage.name), Meter()
        metrics: dict[str, float] = {}
        if saved is not None:
            meter.sums = saved.state["meter"]
        else:
            metrics = self.validate(accelerator, losses)
            logger.row(0, metrics)
        with LiveLine(self.stage.name, cfg.max_steps, step, main and progress is True) as live:
            while step < cfg.max_steps:
                micros = [
                    self.cache.fill(self.model, to_device(next(batches), accelerator.device))
                    for _ in range(cfg.accumulate)
                ]
                values = self.step(accelerator, losses, optimizers, micros, step)
                step += 1
                meter.add(values, micros)
                if callable(progress):
                    progress(step, cfg.max_steps)
                last = step == cfg.max_steps
                if step % cfg.log_every == 0 or last:
                    row = meter.take()
                    live.update(step, {k: v for k, v in row.items() if k in _SHOWN} | metrics)
                    logger.row(step, row | {"seconds": time.monotonic() - started})
                if step % cfg.validate_every == 0 or last:
                    metrics = self.validate(accelerator, losses)
                    logger.row(step, metrics)
                if (step % cfg.save_every == 0 or last) and main:
                    state = {
                        "seconds": time.monotonic() - started,
                        "log_bytes": logger.offset,
                        "meter": meter.sums,
                    }
                    self.save(step, optimizers, state)
        logger.close()
        accelerator.wait_for_everyone()
        seconds = time.monotonic() - started
        return self.finish(before, metrics or last_metrics(folder), seconds, main)

    def step(
        self,
        accelerator: Accelerator,
        losses: nn.Module,
        optimizers: Sequence[Any],
        micros: Sequence[Batch],
        step: int,
    ) -> dict[str, float]:
        """One step of every objective that has begun; returns the values to log."""
        logged: dict[str, float] = {}
        several = len(optimizers) > 1
        for index, (objective, optimizer) in enumerate(
            zip(self.stage.objectives, optimizers, strict=True)
        ):
            if step < objective.starts_at:
                continue
            mine = self.groups[objective.name]
            if several:
                for name, parameter in self.trainable.items():
                    parameter.requires_grad_(name in mine)
            lr = rate(objective.optim, step - objective.starts_at, self.cfg.max_steps)
            set_rate(_bare(optimizer), lr, step - objective.starts_at)
            optimizer.zero_grad(set_to_none=True)
            for micro in micros:
                micro["step"] = step
                values = losses(index, micro)
                loss = values["loss"]
                check_finite(
                    loss, micro, self.folder, self.stage.name, step, f"loss of {objective.name}"
                )
                accelerator.backward(loss / len(micros))
                for key, value in values.items():
                    label = f"{objective.name}.{key}" if several else key
                    share = float(value.detach()) / len(micros)
                    logged[label] = logged.get(label, 0.0) + share
            limit = objective.optim.clip or float("inf")
            norm = accelerator.clip_grad_norm_(list(mine.values()), limit)
            if norm is not None and self.cfg.precision != "fp16":
                check_finite(
                    norm,
                    micros[-1],
                    self.folder,
                    self.stage.name,
                    step,
                    f"gradient of {objective.name}",
                )
                logged[f"{objective.name}.grad_norm" if several else "grad_norm"] = float(norm)
            optimizer.step()
            logged[f"{objective.name}.lr" if several else "lr"] = lr
        if several:
            for parameter in self.trainable.values():
                parameter.requires_grad_(True)
        return logged

    def validate(self, accelerator: Accelerator, losses: nn.Module) -> dict[str, float]:
        """Held-out loss and metrics; leaves no trace in modes and random states."""
        rng = snapshot.rng_state()
        self.model.eval()
        self.val.load_state_dict(self.val_start)  # the same crops every time
        set_seed(self.cfg.seed)
        sums: dict[str, list[float]] = {}
        try:
            with torch.no_grad():
                for raw in self.val:
                    batch = self.cache.fill(self.model, to_device(raw, accelerator.device))
                    batch["step"] = self.cfg.max_steps
                    found: dict[str, Any] = {}
                    for index, objective in enumerate(self.stage.objectives):
                        for key, value in losses(index, batch).items():
                            label = key if index == 0 else f"{objective.name}.{key}"
                            found[label] = (float(value) * count(batch), count(batch))
                    if self.stage.metrics is not None:
                        found |= self.stage.metrics(self.model, batch)
                    for key, value in found.items():
                        pair = value if isinstance(value, tuple) else (float(value), 1.0)
                        total = sums.setdefault(key, [0.0, 0.0])
                        total[0], total[1] = total[0] + pair[0], total[1] + pair[1]
        finally:
            self.freeze()
            snapshot.set_rng_state(rng)
        return {f"val_{k}": total / count for k, (total, count) in sums.items() if count}

    def save(self, step: int, optimizers: Sequence[Any], state: dict[str, Any]) -> None:
        """Write a checkpoint of what training changes."""
        optim: dict[str, Tensor] = {}
        for objective, optimizer in zip(self.stage.objectives, optimizers, strict=True):
            group = self.groups[objective.name]
            optim |= snapshot.optimizer_state(_bare(optimizer), group, objective.name)
        state |= {"stage": self.stage.name, "loader": self.train.state_dict()}
        weights = trained_state(self.model, self.trainable)
        snapshot.save(self.folder / "checkpoints", step, weights, optim, state, self.cfg.keep)

    def finish(
        self,
        before: Mapping[str, Mapping[str, str]],
        metrics: dict[str, float],
        seconds: float,
        write: bool = True,
    ) -> StageResult:
        """Prove that frozen parts did not move, write the records."""
        after = fingerprints(self.model, self.trainable)
        prints = {
            part: {f"{k}_before": v for k, v in before[part].items()}
            | {f"{k}_after": v for k, v in after[part].items()}
            for part in after
        }
        moved = [
            p for p in prints if prints[p].get("frozen_before") != prints[p].get("frozen_after")
        ]
        if moved:
            raise StageError(
                f"stage {self.stage.name}: frozen part {', '.join(moved)} changed while training",
                do="this is a fault of the stage's losses; do not use these weights",
            )
        history = read_history(self.folder)
        trainable = parameter_count(self.trainable)
        frozen = parameter_count(dict(self.model.named_parameters())) - trainable
        result = StageResult(metrics, history, trainable, frozen, seconds, prints)
        if not write:
            return result
        if self.cfg.curves:
            report.draw_curves(self.folder, self.stage.name, history)
        report.write_result(self.folder, self.plan, result, settings=self._settings())
        return result

    def _settings(self) -> dict[str, Any]:
        optim = {o.name: to_dict(o.optim) for o in self.stage.objectives}
        return {"stage": self.stage.name, "train": to_dict(self.cfg), "optim": optim}


_SHOWN = ("loss", "lr", "accuracy", "items_per_s", "audio_s_per_s")


def _bare(optimizer: Any) -> torch.optim.Optimizer:
    return getattr(optimizer, "optimizer", optimizer)


def _first(source: Any, count: int | None) -> Any:
    """The first items of held-out data; a loader as it is."""
    if count is None or hasattr(source, "load_state_dict"):
        return source
    from fo_core.data.manifest import read

    items = read(source) if isinstance(source, str | Path) else list(source)
    return items[:count]
