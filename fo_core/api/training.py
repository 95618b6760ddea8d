"""Training a stage from Python: set up, run, and write the model folder; ``fo train`` uses it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fo_core.models.freeze_omni import FreezeOmni
    from fo_core.training.recipes import Recipe
    from fo_core.training.stage import Stage, StageResult


@dataclass
class StageRun:
    """A stage that is set up and not run: the model it starts from, the stage, its recipe."""

    model: FreezeOmni
    stage: Stage
    recipe: Recipe
    start: str  # what the model was made from


def set_up_stage(
    stage: str,
    model: str | os.PathLike[str],
    train: Path,
    *,
    recipe: str = "paper",
    config: Path | None = None,
    settings: Sequence[str] = (),
    llm: str | None = None,
) -> StageRun:
    """A stage's recipe, and the model that it starts from; arguments of :func:`train_stage`."""
    import torch

    from fo_core.training.initial_model import begin
    from fo_core.training.recipes import recipe as read_recipe

    chosen = read_recipe(stage, recipe, config, settings)
    torch.manual_seed(chosen.train.seed)  # untrained parts are the same when the run goes on
    start = begin(str(model), train, llm)
    chosen.stage.prepare(start)
    return StageRun(start, chosen.stage.build(), chosen, str(model))


def train_stage(
    stage: str,
    model: str | os.PathLike[str],
    train: str | os.PathLike[str],
    valid: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: str = "paper",
    config: str | os.PathLike[str] | None = None,
    settings: Sequence[str] = (),
    llm: str | None = None,
    resume: bool = True,
    force: bool = False,
    progress: bool | Callable[[int, int], None] = True,
) -> StageResult:
    """Train one stage and write the model folder ``out/model``.

    A stopped run resumes from its newest checkpoint; a finished one returns its result.

    Args:
        stage: ``input-1`` to ``output-3``, or a stage of your own in ``fo_core.training.stages``.
        model: Model folder to start from; for a new model a name or YAML file (``conf/models``).
        train: Training manifest or set of shards.
        valid: Held-out manifest.
        out: Run folder.
        recipe: Shipped recipe (``conf/recipes``).
        config: YAML over the recipe.
        settings: ``a.b=c`` over both, as listed by ``fo train --list-settings STAGE``.
        llm: Another LLM than the model's.
        resume: False starts anew.
        force: Resume although settings have changed.
        progress: True shows a live line on stderr; a function is called with (steps done, all).

    Raises:
        FoError: Something is missing or does not fit; the message says what to do.
    """
    made = set_up_stage(
        stage,
        model,
        Path(train),
        recipe=recipe,
        config=None if config is None else Path(config),
        settings=settings,
        llm=llm,
    )
    return run_set_up(made, Path(train), Path(valid), Path(out), resume, force, progress)


def run_set_up(
    made: StageRun,
    train: Path,
    valid: Path,
    out: Path,
    resume: bool = True,
    force: bool = False,
    progress: bool | Callable[[int, int], None] = True,
) -> StageResult:
    """Train a stage that is set up; the main process writes ``out/model``."""
    from fo_core.data.lazy import some_items
    from fo_core.training.distributed import world
    from fo_core.training.loop import run_stage

    result = run_stage(
        made.model,
        made.stage,
        made.recipe.train,
        train,
        valid,
        out,
        resume=resume,
        force=force,
        progress=progress,
    )
    if world()[0] == 0:
        if made.stage.finish is not None:
            made.stage.finish(made.model.eval(), some_items(train))
        _save(made, out)
    return result


def _save(made: StageRun, out: Path) -> None:
    """Write the model folder of a finished stage; how it talks is taken over from the start."""
    from fo_core.dialogue.settings import FILE
    from fo_core.io.files import write_text
    from fo_core.models.freeze_omni import PARTS
    from fo_core.training.report import write_card

    folder, start = out / "model", Path(made.start)
    trained = {glob.split(".")[0] for o in made.stage.objectives for glob in o.trainable}
    made.model.trained |= trained & set(PARTS)
    made.model.save(folder)
    if (start / FILE).is_file():
        write_text(folder / FILE, (start / FILE).read_text(encoding="utf-8"))
    write_card(made.model, out, folder, start if start.is_dir() else None)
