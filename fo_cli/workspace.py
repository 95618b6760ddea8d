"""What ``fo train`` takes where nothing is named: data/, runs/STAGE, the model that ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fo_core.errors import FoError
from fo_core.shipped import DEFAULT, RUNS, is_name, model_folder

if TYPE_CHECKING:
    from fo_core.training.stage import StageOptions

DATA = Path("data")


@dataclass(frozen=True)
class Place:
    """Where a stage starts and what it reads and writes."""

    stage: str
    model: str
    train: Path
    valid: Path
    out: Path
    named: bool  # whether the model was named

    def line(self, recipe: str) -> str:
        """All of it for people."""
        return (
            f"{self.stage} from {self.model}, recipe {recipe}, on {self.train}, "
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


def _options(stage: str) -> type[StageOptions]:
    """The options' class of a stage."""
    from fo_core.training.stages import STAGES

    options: type[StageOptions] = STAGES.load(stage).OPTIONS
    return options


def _start(stage: str) -> str:
    """The newest finished run of a stage before, else the model that ships."""
    for name in _options(stage).after:
        folder = RUNS / name / "model"
        if (folder / "config.json").is_file():
            return str(folder)
    return str(model_folder(DEFAULT))


def _data(stage: str) -> Path:
    options = _options(stage)
    path = DATA / options.side / "train.jsonl"
    if not path.is_file():
        raise FoError(
            f"no training data for {stage}: {path} is not there",
            possible="--train with a manifest of your own",
            do="fo prepare-data makes it; fo prepare-data encode adds a codec's tokens"
            if options.speech_tokens
            else "fo prepare-data makes it",
        )
    return path
