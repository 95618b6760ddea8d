"""Recipes: a stage's options, budget and batches, from shipped YAML and the user's own over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import make_dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

from fo_core.config import config, load, merge, read_yaml
from fo_core.errors import StageError
from fo_core.registry import did_you_mean
from fo_core.training.run_config import TrainConfig
from fo_core.training.stages import STAGES

FOLDER = Path(str(resources.files("fo_core"))) / "conf" / "recipes"
NAMES = tuple(STAGES.names())
RECIPES = tuple(sorted(path.name for path in FOLDER.iterdir() if path.is_dir()))


if TYPE_CHECKING:
    from fo_core.training.stage import StageOptions as AnyStage
else:  # the options of any stage, told apart by their ``type``
    _OPTIONS = tuple(STAGES.load(name).OPTIONS for name in NAMES)
    AnyStage = Annotated[Union[_OPTIONS], Field(discriminator="type")]  # noqa: UP007


@config
class Recipe:
    """One stage's YAML: what it trains, and for how long on which batches."""

    stage: AnyStage  # the stage's own options
    train: TrainConfig  # budget, batches, logging and checkpoints


def shipped(name: str, recipes: str = "paper") -> Path:
    """Path of a shipped recipe.

    Args:
        name: Name of a stage.
        recipes: Name of a set of recipes, a folder of ``conf/recipes``.

    Raises:
        StageError: There is no such stage or set, or the set has none for this stage.
    """
    if name not in NAMES:
        raise StageError(f"unknown stage {name!r}", possible=did_you_mean(name, list(NAMES)))
    if recipes not in RECIPES:
        raise StageError(f"no recipe {recipes!r}", possible=did_you_mean(recipes, list(RECIPES)))
    path = FOLDER / recipes / f"{name}.yaml"
    if not path.is_file():
        found = [r for r in RECIPES if (FOLDER / r / f"{name}.yaml").is_file()]
        raise StageError(f"recipe {recipes!r} has no stage {name}", possible=", ".join(found))
    return path


def recipe(
    name: str,
    recipes: str = "paper",
    file: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> Recipe:
    """A stage's recipe: the shipped YAML, a user's file over it, and ``a.b=c`` over both.

    Args:
        name: Name of a stage.
        recipes: Name of a set of recipes.
        file: The user's YAML.
        overrides: ``a.b=c``.

    Raises:
        StageError: There is no such stage or recipe, or the file is another stage's.
        ConfigError: A key or value is wrong.
    """
    data = read_yaml(shipped(name, recipes))
    if file is not None:
        data = merge(data, read_yaml(file))
    found = load(Recipe, data, overrides)
    if found.stage.type != name:
        raise StageError(
            f"{file or 'the recipe'} is of stage {found.stage.type}, not {name}",
            do=f"run stage {found.stage.type}, or take its recipe",
        )
    return found


def settings_of(stage: str) -> type:
    """A config class with the settings of one stage's recipe: its options and those of a run.

    Raises:
        StageError: There is no such stage.
    """
    shipped(stage)
    options = STAGES.load(stage).OPTIONS
    fields: Any = [("stage", options), ("train", TrainConfig)]
    return config(make_dataclass("Settings", fields))
