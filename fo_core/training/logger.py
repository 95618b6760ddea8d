"""What a run logs: averages, ``metrics.jsonl``, trackers, and what its progress bar says."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, get_available_trackers

from fo_core.devices.memory import peak_memory
from fo_core.errors import CheckpointError, StageError
from fo_core.training.data_feed import count
from fo_core.training.distributed import merge
from fo_core.training.stage import Batch


class RunLogger:
    """Appends one row a logged step; a row is on disk when :meth:`row` returns.

    Args:
        folder: Run folder; ``metrics.jsonl`` goes there. None (a process that is not the main one)
            writes nothing.
        offset: Bytes of ``metrics.jsonl`` to keep: rows after the resumed checkpoint are dropped.
        trackers: Of :func:`open_trackers`; they get every row, too.
    """

    def __init__(
        self, folder: Path | None, offset: int = 0, trackers: Sequence[GeneralTracker] = ()
    ) -> None:
        self.trackers = list(trackers)
        self._file: BinaryIO | None = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "metrics.jsonl").open("a+b")
        self._file.truncate(min(offset, self._file.seek(0, 2)))

    def row(self, step: int, values: dict[str, float]) -> None:
        """Write one row; keys of held-out values start with ``val_``.

        Raises:
            CheckpointError: The disk is full.
        """
        if self._file is None:
            return
        line = json.dumps({"step": step} | {k: float(f"{v:.6g}") for k, v in values.items()})
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise CheckpointError(
                f"cannot write {self._file.name}: {error}",
                do="free space there and run again: the last complete checkpoint is kept",
            ) from error
        names = {
            key.replace("val_", "val/", 1) if key.startswith("val_") else f"train/{key}": value
            for key, value in values.items()
        }
        for tracker in self.trackers:
            tracker.log(names, step=step)

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return self._file.seek(0, 2) if self._file is not None else 0

    def close(self) -> None:
        """Close the file and the trackers."""
        if self._file is not None:
            self._file.close()
        for tracker in self.trackers:
            tracker.finish()


def open_trackers(
    names: Sequence[str], accelerator: Accelerator, folder: Path, stage: str
) -> list[GeneralTracker]:
    """Experiment trackers of accelerate, as ``train.trackers`` names them.

    Args:
        names: ``tensorboard``, ``wandb``, ...
        accelerator: Its main process tracks.
        folder: Run folder; trackers that write files write them below ``trackers/``.
        stage: Name of the run.

    Raises:
        StageError: A tracker's package is not installed.
    """
    there = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in there:
            raise StageError(
                f"train.trackers: {name} is not installed",
                possible=", ".join(sorted(there)),
                do=f"pip install {name.replace('comet_ml', 'comet-ml')}",
            )
    if not names:
        return []
    accelerator.log_with = list(names)
    accelerator.project_configuration.logging_dir = str(folder / "trackers")
    accelerator.init_trackers(f"freeze-omni-{stage}")
    return list(accelerator.trackers)


def read_history(folder: Path) -> list[dict[str, float]]:
    """Rows of ``metrics.jsonl`` in order; empty if there is none."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def last_metrics(folder: Path, step: int | None = None) -> dict[str, float]:
    """The newest held-out values on disk, or those of a step."""
    found: dict[str, float] = {}
    for row in read_history(folder):
        if step is None or row["step"] == step:
            found |= {k: v for k, v in row.items() if k.startswith("val_")}
    return found


class Meter:
    """Averages what is logged between two rows, speed, padding and waiting for data."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.sums: dict[str, list[float]] = {}
        self.since, self.waited = time.monotonic(), 0.0

    def add(self, values: Mapping[str, float], micros: Sequence[Batch]) -> None:
        """Count one step: its values and the batches it saw."""
        for key, value in values.items():
            self.sums.setdefault(key, []).append(value)
        for batch in micros:
            seconds = sum(float(getattr(i, "duration", 0.0)) for i in batch.get("items", []))
            real, whole = extent(batch)
            for key, value in zip(_COUNTS, (count(batch), seconds, real, whole), strict=True):
                self.sums.setdefault(key, []).append(value)

    def restore(self, saved: Sequence[dict[str, list[float]]], rank: int, size: int) -> None:
        """Take up the sums that a checkpoint holds, one entry a process."""
        if len(saved) == size:
            self.sums = saved[rank]
        elif rank == 0:
            self.sums = merge(saved)

    def take(self, parts: Sequence[Mapping[str, list[float]]]) -> dict[str, float]:
        """Means and speeds since the last call, over the sums of all processes."""
        spent = max(1e-9, time.monotonic() - self.since)
        sums = merge(parts)
        items, seconds, real, whole = (sum(sums.pop(key, [])) for key in _COUNTS)
        row = {key: sum(values) / len(values) for key, values in sums.items()}
        row |= {"items_per_s": items / spent, "audio_s_per_s": seconds / spent}
        row |= {"data_share": self.waited / spent}
        if whole:
            row["padding"] = 1.0 - real / whole
        self.reset()
        return row


_COUNTS = ("_items", "_seconds", "_real", "_whole")


def extent(batch: Batch) -> tuple[float, float]:
    """Samples (or speech tokens) of a batch that are real, and with padding."""
    for values, lens in (("wave", "wave_lens"), ("speech_tokens", "token_lens")):
        if values in batch and lens in batch:
            return float(batch[lens].sum()), float(batch[values].numel())
    return 0.0, 0.0


def memory_gb(device: torch.device) -> float:
    """Most memory that this process has had: on the GPU, else resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return peak_memory() / 2**30


_FORMS = {
    "loss": "loss {:.4g}",
    "accuracy": "accuracy {:.3f}",
    "lr": "lr {:.2g}",
    "audio_s_per_s": "{:.0f} audio-s/s",
    "padding": "padding {:.1%}",
    "data_share": "data {:.0%}",
    "memory_gb": "{:.1f} GiB",
}


def said(row: Mapping[str, float], metrics: Mapping[str, float]) -> str:
    """The averages and held-out values that people look at.

    Of all objectives together, or each by its name.
    """
    shown = [
        (f"{key.rpartition('.')[0]} " if "." in key else "") + _FORMS[key.split(".")[-1]].format(v)
        for key, v in row.items()
        if key.split(".")[-1] in _FORMS
    ]
    return "  ".join([*shown, *(f"{k} {v:.4g}" for k, v in metrics.items())])
