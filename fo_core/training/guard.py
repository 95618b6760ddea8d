"""What a run refuses: a stage out of order, changed settings, other frozen parts, bad numbers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fo_core.config import renamed
from fo_core.errors import StageError
from fo_core.io.checkpoint import read_json, save_tensors
from fo_core.io.files import write_json
from fo_core.training import checkpoints
from fo_core.training.stage import Batch, Stage

log = logging.getLogger(__name__)


def check_start(model: nn.Module, stage: Stage) -> None:
    """Refuse a stage whose parts are missing or, where the model keeps count, untrained."""
    known = getattr(model, "trained", None)
    for part in stage.starts_from:
        if getattr(model, part, None) is None:
            raise StageError(f"stage {stage.name} needs {part!r}, which this model does not have")
        if known is not None and part not in known:
            raise StageError(
                f"stage {stage.name} starts from a trained {part}; this model's is untrained",
                possible=f"trained here: {', '.join(known) or 'nothing'}",
                do="run the stage that trains it first",
            )


def check_resume_settings(
    folder: Path,
    settings: dict[str, Any],
    before: dict[str, dict[str, str]],
    force: bool,
    processes: int = 1,
    at: int = 0,
) -> dict[str, dict[str, str]]:
    """Check a run against what it was started with; a new run writes that down.

    Args:
        folder: Run folder.
        settings: What must stay as it is.
        before: Fingerprints of all parts.
        force: Go on with other settings.
        processes: How many train together.
        at: Step of the newest checkpoint.

    Returns:
        The fingerprints that the run was started with.

    Raises:
        StageError: Settings or frozen parts differ.
    """
    path = folder / "run.json"
    if not path.is_file():
        write_json(path, {"settings": settings, "processes": processes, "before": before})
        return before
    old = read_json(path)
    old["settings"] = renamed(old["settings"])
    changed = _differences(old["settings"], settings)
    was = old.get("processes", 1)
    if changed and not force:
        now = settings.get("train", {}).get("batches_a_step", 1)
        then = old["settings"].get("train", {}).get("batches_a_step", 1)
        even = processes != was and now != then and then % processes == 0
        raise StageError(
            f"the run in {folder} was started with other settings: {'; '.join(changed)}",
            possible=f"train.accumulate={then // processes} keeps the steps" if even else None,
            do="give the old ones, start anew (--fresh), or go on with the new ones (--force)",
        )
    if changed:
        checkpoints.forget_best_after(folder / "checkpoints", at)
        log.warning("goes on with other settings: %s", "; ".join(changed))
    if processes != was:
        log.warning(
            "goes on with %d process(es) instead of %d: the same batches and draws a step; sums "
            "over batches are added in another order, so weights agree to rounding, not to the bit",
            processes,
            was,
        )
    if changed or processes != was:
        write_json(path, old | {"settings": settings, "processes": processes})
    moved = [p for p in before if old["before"].get(p, {}).get("frozen") != before[p].get("frozen")]
    if moved:
        raise StageError(
            f"the run in {folder} was started with another {', '.join(moved)}",
            do="load the same model, or start anew without resume",
        )
    return old["before"]


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            d
            for key in {**old, **new}
            if key in new or old[key]  # an option that is gone and was off
            for d in _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if old == new else [f"{path} was {old!r}, now {new!r}"]


def check_finite(
    value: Tensor, batch: Batch, folder: Path, stage: str, step: int, what: str
) -> None:
    """Stop on a loss or gradient that is no number; the batch is saved and its items named.

    Raises:
        StageError: It is not finite.
    """
    if bool(torch.isfinite(value.detach()).all()):
        return
    path = _save_batch(batch, folder, step)
    names = [str(getattr(item, "id", item)) for item in batch.get("items", [])]
    raise StageError(
        f"stage {stage}: {what} is {float(value.detach())} at step {step + 1} "
        f"on items {', '.join(names) or '?'}; the batch is in {path}",
        do="look at these items, lower the learning rate, or raise warmup_steps",
    )


class Divergence:
    """Stops a run whose loss has left where it began far behind.

    One row may be one batch, and a batch may be easy or hard: the start is the largest loss of
    ``START`` rows, and only ``IN_A_ROW`` rows one after the other are a divergence.

    Args:
        factor: Times the largest loss of the first rows; 0 never stops.
        history: Rows of the run so far.
    """

    START, IN_A_ROW = 5, 3
    SMALL = 0.05  # a loss below it is a good one: a start below it counts as this

    def __init__(self, factor: float, history: Sequence[Mapping[str, float]]) -> None:
        self.factor = factor
        self.start, self.above = dict[str, list[float]](), dict[str, int]()
        for row in history:
            self._learn(row)

    def _learn(self, row: Mapping[str, float]) -> None:
        for key, value in row.items():
            if key != "loss" and not key.endswith(".loss"):
                continue
            start = self.start.setdefault(key, [])
            far = start and value > self.factor * max(*start, self.SMALL)
            self.above[key] = self.above.get(key, 0) + 1 if far else 0
            if not far and len(start) < self.START:
                start.append(abs(value))

    def check(
        self, row: Mapping[str, float], batch: Batch, folder: Path, stage: str, step: int
    ) -> None:
        """Look at a row of averages.

        Raises:
            StageError: The last three rows' loss is more than ``factor`` times that of the first.
        """
        self._learn(row)
        for key, above in self.above.items():
            if self.factor and key in row and above >= self.IN_A_ROW:
                path = _save_batch(batch, folder, step)
                raise StageError(
                    f"stage {stage} diverged: {key} is {row[key]:.4g} at step {step + 1}, it began "
                    f"at {max(self.start[key]):.4g}; the last batch is in {path}",
                    do="lower the learning rate, raise warmup_steps, or set train.diverged=0",
                )


@contextlib.contextmanager
def memory_guard(stage: str, step: int, batches: Sequence[Batch]) -> Iterator[None]:
    """Says what to lower when memory runs out.

    Raises:
        StageError: There is no memory left on the device, or on the CPU.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        words = str(error).lower()
        short = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not short and not ("memory" in words and "alloc" in words):
            raise
        items = [item for batch in batches for item in batch.get("items", [])]
        longest = max((float(getattr(i, "duration", 0.0)) for i in items), default=0.0)
        raise StageError(
            f"stage {stage}: out of memory at step {step + 1} on {len(items)} items, the longest "
            f"of {longest:.1f} s",
            do="lower train.batch.seconds or train.batch.size (and raise train.accumulate as much),"
            " lower train.batch.max_seconds, set train.checkpointing=true or train.precision=bf16,"
            " with several processes train.shard_llm=true",
        ) from error


def _save_batch(batch: Batch, folder: Path, step: int) -> Path:
    path = folder / f"bad-batch-{step:08d}.safetensors"
    names = [str(getattr(item, "id", item)) for item in batch.get("items", [])]
    tensors = {k: v for k, v in batch.items() if isinstance(v, Tensor)}
    save_tensors(path, tensors, {"items": names, "text": batch.get("text", [])})
    return path
