"""What commands take where nothing is named: data/, runs/STAGE, the model that ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fo_core.errors import FoError
from fo_core.shipped import DEFAULT, RUNS, model_folder, named_folder

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
    model = named_folder(model) if model else _start(stage)
    if train is None:
        train = _data(stage, model)
    if valid is None:
        valid = train.parent / "val.jsonl"
    return Place(stage, model, train, valid, out or RUNS / stage, named)


def codec() -> Path:
    """The model whose codec encodes the workspace's answers: output-1's run, or what ships."""
    folder = RUNS / "output-1" / "model"
    return folder if (folder / "config.json").is_file() else model_folder(DEFAULT)


def has_durations(model: str | Path) -> bool:
    """Whether a model folder's speech decoder learns from how long each letter is spoken."""
    from fo_core.models.decoder.duration_decoder import DurationDecoderConfig
    from fo_core.models.model_config import read_config

    folder = Path(model)
    made = read_config(folder) if (folder / "config.json").is_file() else None
    return made is not None and isinstance(made.speech_decoder, DurationDecoderConfig)


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


def _data(stage: str, model: str) -> Path:
    """The workspace's manifest for a stage of a model.

    Raises:
        FoError: It is not there; says the one command that makes it.
    """
    options = _options(stage)
    makes, side = "fo prepare-data", str(options.side)
    if options.speech_tokens and has_durations(model):
        side = "aligned"
        if (DATA / "assistant" / "train.jsonl").is_file():
            makes += f" align {DATA / 'assistant'} --model fo-smol --out {DATA / side}"
    path = DATA / side / "train.jsonl"
    if not path.is_file():
        raise FoError(
            f"no training data for {stage}: {path} is not there",
            possible="--train with a manifest of your own",
            do=f"{makes} makes it",
        )
    return path
