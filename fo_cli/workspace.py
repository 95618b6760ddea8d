"""What ``fo train`` takes where nothing is named: data/, runs/STAGE, the model that ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fo_core.errors import FoError
from fo_core.shipped import DEFAULT, RUNS, is_name, model_folder

DATA = Path("data")
BEFORE = {  # stages whose run a stage starts from, the best first
    "input-1": (),
    "input-2": ("input-1",),
    "input-3": ("input-2", "input-1"),
    "output-1": (),
    "output-2": ("output-1",),
    "output-3": ("output-2", "output-1"),
}


@dataclass(frozen=True)
class Place:
    """Where a stage starts and what it reads and writes."""

    stage: str
    model: str
    train: Path
    valid: Path
    out: Path
    named: bool  # whether the model was named

    def line(self, size: str) -> str:
        """All of it for people."""
        return (
            f"{self.stage} from {self.model}, recipe {size}, on {self.train}, "
            f"held out {self.valid}, into {self.out}"
        )


def of_stage(
    stage: str, model: str | None, train: Path | None, valid: Path | None, out: Path | None
) -> Place:
    """What was named, and the workspace's for the rest.

    Raises:
        FoError: The workspace has no data for the stage, or no model of a name.
    """
    named = model is not None
    if model is not None and is_name(model):
        model = str(model_folder(model))
    if train is None:
        train = _data(stage)
    if valid is None:
        valid = train.parent / "val.jsonl"
    return Place(stage, model or _start(stage), train, valid, out or RUNS / stage, named)


def _start(stage: str) -> str:
    """The newest finished run of a stage before, else the model that ships."""
    for name in BEFORE.get(stage, ()):
        folder = RUNS / name / "model"
        if (folder / "config.json").is_file():
            return str(folder)
    return str(model_folder(DEFAULT))


def _data(stage: str) -> Path:
    side = "assistant" if stage.startswith("output") else "user"
    path = DATA / side / "train.jsonl"
    if not path.is_file():
        raise FoError(
            f"no training data for {stage}: {path} is not there",
            possible="--train with a manifest of your own",
            do="fo prepare-data makes it"
            if side == "user" or stage == "output-1"
            else "fo prepare-data makes it; fo prepare-data encode adds a codec's tokens",
        )
    return path
