"""What a run refuses: a stage out of order, changed settings, other frozen parts, bad numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fo_core.checkpoint import read_json, save_tensors
from fo_core.errors import StageError
from fo_core.files import write_json
from fo_core.training.stage import Batch, Stage


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


def settle(
    folder: Path, settings: dict[str, Any], before: dict[str, dict[str, str]], force: bool
) -> dict[str, dict[str, str]]:
    """Check a run against what it was started with; a new run writes that down.

    Returns:
        The fingerprints that the run was started with.

    Raises:
        StageError: Settings or frozen parts differ.
    """
    path = folder / "run.json"
    if not path.is_file():
        write_json(path, {"settings": settings, "before": before})
        return before
    old = read_json(path)
    changed = _differences(old["settings"], settings)
    if changed and not force:
        raise StageError(
            f"the run in {folder} was started with other settings: {'; '.join(changed)}",
            do="give the old ones, start anew without resume, or go on with force",
        )
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
    path = folder / f"bad-batch-{step:08d}.safetensors"
    save_tensors(path, {k: v for k, v in batch.items() if isinstance(v, Tensor)})
    names = [str(getattr(item, "id", item)) for item in batch.get("items", [])]
    raise StageError(
        f"stage {stage}: {what} is {float(value.detach())} at step {step + 1} "
        f"on items {', '.join(names) or '?'}; the batch is in {path}",
        do="look at these items, lower the learning rate, or raise warmup_steps",
    )
