"""The one training loop: freeze, train, validate, save, resume, verify frozen weights.

Every stage runs through :func:`run_stage`, alone or under ``accelerate launch`` / ``torchrun``.
A stopped run goes on from its newest complete checkpoint to the same bits as an uninterrupted one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fo_core.config import to_dict
from fo_core.errors import StageError
from fo_core.io.checkpoint import load_tensors, read_json
from fo_core.io.files import write_json
from fo_core.progress import Bars
from fo_core.training import checkpoints, report
from fo_core.training.cache import ItemCache, place
from fo_core.training.data_checks import check_data
from fo_core.training.data_feed import (
    first_items,
    infinite_batches,
    open_loader,
    reads,
    seed_draws,
    size,
    to_device,
)
from fo_core.training.distributed import DistributedContext, precision, speedups, world
from fo_core.training.freeze import fingerprints, freeze_all_but, select, trained_state
from fo_core.training.guard import Divergence, check_resume_settings, check_start, memory_guard
from fo_core.training.logger import (
    Meter,
    RunLogger,
    last_metrics,
    memory_gb,
    open_trackers,
    read_history,
    said,
)
from fo_core.training.optim import ExponentialMovingAverage
from fo_core.training.run_config import TrainConfig, resume_signature
from fo_core.training.stage import Batch, Stage, StageResult, parameter_count
from fo_core.training.stepper import Objectives, Stepper, helpers
from fo_core.training.validation import HeldOut, write_samples

__all__ = ["TrainConfig", "run_stage"]


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
) -> StageResult:
    """Train one stage; the model holds the result, the run folder its records.

    Args:
        model: The whole model (a ``FreezeOmni``); trained in place.
        stage: What to train.
        cfg: Budget, batches, logging and checkpoints.
        train: Items, path of a manifest, or a ready loader.
        val: Held-out items, path or loader.
        run_dir: Folder of this run (``stage.json``, ``metrics.jsonl``, ``curves.png``,
            ``checkpoints/``).
        resume: Go on from the newest complete checkpoint, or return the result of a finished run;
            False starts anew and removes what was there.
        force: Go on although the settings are not those the run was started with.
        progress: True shows the plan and a live line on stderr; a function is called with (steps
            done, all steps) instead.

    Returns:
        Held-out metrics, history, parameter counts, seconds and fingerprints.

    Raises:
        StageError: A glob matches nothing, a needed part is untrained, the settings changed, the
            loss is not finite, or a frozen part moved.
    """
    with helpers(model, stage, cfg.seed), speedups(model, cfg.checkpointing, cfg.compile):
        run = Run(model, stage, cfg, train, val, Path(run_dir), DistributedContext(cfg))
        if progress is True and run.team.main:
            report.print_plan(run.plan)
        try:
            return run.run(resume, force, progress)
        finally:
            model.eval()


class Run:
    """One run of one stage: what :func:`run_stage` sets up before and needs while it goes on."""

    def __init__(
        self,
        model: nn.Module,
        stage: Stage,
        cfg: TrainConfig,
        train: Any,
        val: Any,
        folder: Path,
        team: DistributedContext | None,
    ) -> None:
        self.model, self.stage, self.cfg, self.folder = model, stage, cfg, folder
        check_start(model, stage)
        self.groups = {o.name: select(model, o.trainable) for o in stage.objectives}
        self.trainable = {n: p for group in self.groups.values() for n, p in group.items()}
        self.freeze()
        share = world()
        self.source = train
        self.train = self.open_train(share)
        if team is not None and team.sharded:
            share = (0, 1)  # the processes run the LLM together: each reads all held-out data
        items = first_items(val, cfg.val_items)
        held_out = open_loader(items, stage.data, cfg.val_batch, cfg.seed, False, share)
        sizes = size(self.train), size(held_out)
        self.plan = report.make_plan(model, stage, self.groups, *sizes, cfg.max_steps)
        self.plan["reads"] = reads(self.train, cfg.max_steps, cfg.accumulate * world()[1])
        self.plan["warnings"] = check_data(model, stage, getattr(self.train, "items", []))
        self.plan["warnings"] += report.unread(self.plan)
        if getattr(self.train, "lazy", None) is not None:
            self.train.inspect = partial(check_data, model, stage)
        if precision(cfg) != cfg.precision:
            slow = f"no native {cfg.precision} matmul: falling back to {precision(cfg)}"
            self.plan["warnings"] += [slow]
        if team is None:
            return
        self.team = team
        self.before = fingerprints(model, self.trainable)
        kept = place(cfg.cache_hidden, stage, model, self.before)
        cache = ItemCache(stage.precompute, cfg.precompute_cache_mb, kept)
        self.held_out = HeldOut(stage, held_out, cache, cfg.max_steps, cfg.seed)
        changing = cfg.batch.augment is not None  # an item sounds different in each epoch
        self.cache = ItemCache(stage.precompute, 0.0) if changing else cache

    def open_train(self, share: tuple[int, int]) -> Any:
        """A loader of a process's share of the training data."""
        cfg = self.cfg
        return open_loader(self.source, self.stage.data, cfg.batch, cfg.seed, share=share)

    def freeze(self) -> None:
        """Gradients and training mode for what is trained, for nothing else."""
        active = [name for o in self.stage.objectives for name in o.active]
        freeze_all_but(self.model, self.trainable, active)

    def run(
        self, resume: bool, force: bool, progress: bool | Callable[[int, int], None]
    ) -> StageResult:
        """Train from the start or from the newest checkpoint to the end."""
        saved = self.newest(resume, force)
        done = self.completed_result(saved)
        if done is not None:
            return done
        self.set_up(saved)
        shown = self.team.main and progress is True
        with Bars(shown) as bars:
            bars(self.stage.name, self.step, self.cfg.max_steps)
            while self.step < self.cfg.max_steps:
                raw = self.advance()
                if callable(progress):
                    progress(self.step, self.cfg.max_steps)
                self.log_and_checkpoint(raw, bars)
        self.logger.close()
        self.mean.put()
        self.export()
        self.team.wait()
        return self.finish(time.monotonic() - self.started)

    def newest(self, resume: bool, force: bool) -> checkpoints.Snapshot | None:
        """The newest checkpoint, its weights in the model; None to start from nothing."""
        folder, team = self.folder, self.team
        with team.accelerator.main_process_first():
            if team.main and not resume:
                _clear(folder)
            at = checkpoints.newest_step(folder / "checkpoints")
            self.before = check_resume_settings(
                folder, self._settings(), self.before, force, team.size, at
            )
            if team.main:
                write_json(folder / "plan.json", self.plan)
            saved = checkpoints.newest(folder / "checkpoints")
        if saved is not None:
            checkpoints.load_weights(self.model, saved.weights, str(saved.path))
        return saved

    def completed_result(self, saved: checkpoints.Snapshot | None) -> StageResult | None:
        """The result of a run that is done, its weights in the model; None if it is not."""
        if saved is None or saved.state["step"] < self.cfg.max_steps:
            return None
        result = report.read_result(self.folder, read_history(self.folder))
        if result is not None:
            mean = self.new_mean()
            mean.load(saved.optim)
            mean.put()
            self.export()
        return result

    def set_up(self, saved: checkpoints.Snapshot | None) -> None:
        """All that changes from step to step, as it was at the checkpoint or as it begins."""
        cfg, folder, team = self.cfg, self.folder, self.team
        self.losses = team.prepare(Objectives(self.model, self.stage.objectives), self.model)
        self.stepper = Stepper(team, self.losses, self.stage, self.groups, cfg, folder)
        self.mean, self.meter = self.new_mean(), Meter()
        self.step, seconds, offset = 0, 0.0, 0
        if saved is not None:
            for name, optimizer in self.stepper.bare:
                checkpoints.load_optimizer(optimizer, self.groups[name], name, saved.optim)
            self.mean.load(saved.optim)
            self.step, seconds, offset = (saved.state[k] for k in ("step", "seconds", "log_bytes"))
            self.train.load_state_dict(saved.state["loader"])
            self.meter.restore(saved.state["meter"], team.rank, team.size)
        elif self.stage.begin is not None:
            start = self.train.state_dict()
            seed_draws(cfg.seed)  # every process on the same batches
            whole = self.train if team.size == 1 else self.open_train((0, 1))
            self.stage.begin(self.model, whole)
            self.train.load_state_dict(start)
        team.wait()
        trackers = open_trackers(cfg.trackers, team.accelerator, folder, self.stage.name)
        self.logger = RunLogger(folder if team.main else None, offset, trackers)
        self.started = time.monotonic() - seconds
        self.diverged = Divergence(cfg.diverged, read_history(folder))
        self.batches = infinite_batches(self.train, self.stage.name)
        self.metrics = last_metrics(folder)
        if saved is None:
            self.validate()

    def advance(self) -> list[Batch]:
        """One step of every optimiser; the batches it was made on."""
        waiting = time.monotonic()
        raw = [next(self.batches) for _ in range(self.cfg.accumulate)]
        self.meter.waited += time.monotonic() - waiting
        with memory_guard(self.stage.name, self.step, raw):
            on = [to_device(batch, self.team.device) for batch in raw]
            micros = [self.cache.fill(self.model, batch, self.team) for batch in on]
            values = self.stepper.step(micros, self.step)
        self.mean.update(self.step)
        self.step += 1
        self.meter.add(values, raw)
        return raw

    def log_and_checkpoint(self, raw: list[Batch], bars: Bars) -> None:
        """Log, validate and save where this step's turn has come."""
        cfg, step, team = self.cfg, self.step, self.team
        last = step == cfg.max_steps
        if step % cfg.log_every == 0 or last:
            row = self.meter.take(team.gather(self.meter.sums))
            row |= {"memory_gb": memory_gb(team.device)}
            bars(self.stage.name, step, cfg.max_steps, said(row, self.metrics))
            self.logger.row(step, row | {"seconds": time.monotonic() - self.started})
            self.diverged.check(row, raw[-1], self.folder, self.stage.name, step - 1)
        if step % cfg.validate_every == 0 or last:
            spent = time.monotonic()
            self.validate()
            self.meter.since += time.monotonic() - spent
        if step % cfg.save_every == 0 or last:
            self.save()

    def new_mean(self) -> ExponentialMovingAverage:
        """The running mean of what the first objective trains."""
        return ExponentialMovingAverage(self.groups[self.stage.objectives[0].name], self.cfg.ema)

    def validate(self) -> None:
        """Held-out values of the weights (or their mean), written down; keeps the best weights."""
        step = self.step
        with self.mean.swapped():
            try:
                self.metrics = self.held_out.measure(self.team, self.losses)
            finally:
                self.freeze()
            if self.team.main:
                self.logger.row(step, self.metrics)
                self._keep_best(step)
            if self.cfg.samples and (self.team.main or self.team.sharded):
                folder = self.folder if self.team.main else None
                write_samples(self.stage, self.model, self.held_out, folder, step, self.cfg)
                self.freeze()

    def _keep_best(self, step: int) -> None:
        """Save the weights if they are the best so far by the stage's held-out metric."""
        name, direction = self.stage.best
        value = self.metrics.get(f"val_{name}")
        if value is None or step == 0:
            return
        folder = self.folder / "checkpoints"
        kept = checkpoints.best(folder)
        if kept is not None:
            before = read_json(kept / "state.json")["value"]
            if not (value < before if direction == "min" else value > before):
                return
        weights = trained_state(self.model, self.trainable)
        checkpoints.save_best(folder, step, weights, {"metric": name, "value": value})

    def export(self) -> None:
        """Leave the best weights in the model where that is asked for."""
        folder = checkpoints.best(self.folder / "checkpoints")
        if self.cfg.export == "best" and folder is not None:
            weights = load_tensors(folder / "weights.safetensors")
            checkpoints.load_weights(self.model, weights, str(folder))
            step = read_json(folder / "state.json")["step"]
            self.metrics = last_metrics(self.folder, step)

    def save(self) -> None:
        """Write a checkpoint of what training changes, and which items were skipped."""
        mine = (self.meter.sums, getattr(self.train, "rejects", {}))
        parts = self.team.gather(mine)
        if not self.team.main:
            return
        optim: dict[str, Tensor] = self.mean.state()
        for name, optimizer in self.stepper.bare:
            optim |= checkpoints.optimizer_state(optimizer, self.groups[name], name)
        state = {
            "stage": self.stage.name,
            "seconds": time.monotonic() - self.started,
            "log_bytes": self.logger.offset,
            "meter": [sums for sums, _ in parts],
            "loader": self.train.state_dict(),
        }
        weights = trained_state(self.model, self.trainable)
        folder = self.folder / "checkpoints"
        checkpoints.save(folder, self.step, weights, optim, state, self.cfg.keep)
        report.write_rejects(self.folder, [rejects for _, rejects in parts])

    def finish(self, seconds: float) -> StageResult:
        """Verify that frozen weights are unchanged (SHA-256), write the records."""
        after, before = fingerprints(self.model, self.trainable), self.before
        prints: dict[str, dict[str, str]] = {
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
        result = StageResult(self.metrics, history, trainable, frozen, seconds, prints)
        if self.team.main:
            if self.cfg.curves:
                report.draw_curves(self.folder, history)
            more = {"settings": self._settings(), "processes": self.team.size}
            more |= {"llm_sharded": self.team.sharded}
            report.write_result(self.folder, self.plan, result, **more)
        self.team.wait()
        return result

    def _settings(self) -> dict[str, Any]:
        kept: dict[str, Any] = {
            "stage": self.stage.name,
            "train": resume_signature(self.cfg, self.team.size),
        }
        kept["optim"] = {o.name: to_dict(o.optim) for o in self.stage.objectives}
        return kept | {"options": dict(self.stage.options), "data": self.plan["train"]}


def _clear(folder: Path) -> None:
    """Remove the records of an earlier run."""
    for name in ("checkpoints", "samples"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("metrics.jsonl", "stage.json", "run.json", "rejects.json"):
        (folder / name).unlink(missing_ok=True)
