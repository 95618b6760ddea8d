"""``fo train``: one stage on one model."""

from __future__ import annotations

from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fo_cli import options, render, workspace
from fo_core.errors import FoError

if TYPE_CHECKING:
    from fo_core.models.freeze_omni import FreezeOmni
    from fo_core.training.run_config import TrainConfig
    from fo_core.training.stage import Stage


class Device(StrEnum):
    """Where to train."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def _list_settings(stage: str | None) -> None:
    """``--list-settings STAGE``: a table of its settings, for ``--set`` and recipes."""
    if stage is None:
        return
    from fo_core.config_docs import settings
    from fo_core.training.recipes import settings_of

    rows = [(s.key, s.type, s.default, s.meaning) for s in settings(settings_of(stage))]
    render.table(("setting", "type", "default", "meaning"), rows)
    raise typer.Exit


def train(
    stage: Annotated[
        str, typer.Option("--stage", help="Stage: input-1, -2, -3, output-1, -2 or -3.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Model to start from: a folder, fo-smol (ships with the package), latest, "
            "user/repo[@revision] of the hub; or, for a new model, paper, smol, smol-open, tiny or "
            "a YAML file. Default: the model of the previous stage in runs/, else fo-smol.",
            metavar="DIR|NAME|YAML",
        ),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(
            "--train",
            help="Training manifest. Default: the workspace's, in data/.",
            metavar="JSONL",
        ),
    ] = None,
    valid: Annotated[
        Path | None,
        typer.Option(
            "--valid",
            help="Held-out manifest. Default: the one beside the training manifest.",
            metavar="JSONL",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Run folder; the model is written to DIR/model. Default: runs/STAGE.",
            metavar="DIR",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="Shipped recipe to start from: paper, smol, smol-open, tiny. Default: paper if "
            "--model is given, else smol-open.",
        ),
    ] = None,
    old_size: options.OldSize = None,
    list_settings: Annotated[
        str | None,
        typer.Option(
            "--list-settings",
            help="Show every setting of a stage (key, type, default, meaning), and stop.",
            metavar="STAGE",
            callback=_list_settings,
            is_eager=True,
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML over the shipped recipe.")
    ] = None,
    sets: options.Sets = None,
    device: Annotated[
        Device | None, typer.Option("--device", help="Device to train on. Default: the recipe's.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be trained on which data, and stop.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="With --dry-run: run a few steps for time and memory.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over instead of continuing a stopped run.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Continue although settings have changed; prints which.")
    ] = False,
    llm: Annotated[
        str | None,
        typer.Option("--llm", help="Use another LLM than the model's; prints what to train again."),
    ] = None,
    cache_hidden: Annotated[
        Path | None,
        typer.Option(
            "--cache-hidden",
            help="Keep the outputs of frozen parts (LLM hidden states in output-3) in this "
            "folder for later runs.",
            metavar="DIR",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Train one stage; prints what it trains. All other weights are checked to be unchanged.

    A stopped run continues from its newest checkpoint; a finished run is not repeated. The command
    is the same under torchrun and accelerate launch.
    """
    from fo_core.training import recipes

    place = workspace.of_stage(stage, model, train, valid, out)
    model, train, valid, out = place.model, place.train, place.valid, place.out
    recipe = recipe or ("paper" if place.named else "smol-open")
    render.note(place.line(recipe))
    overrides = [] if device is None else [f"train.device={device.value}"]
    if cache_hidden is not None:
        overrides.append(f"train.cache_hidden={options.writable(cache_hidden, 'cache folder')}")
    overrides += sets or ()
    recipes.recipe(stage, recipe, config, overrides)  # faults are said before anything is read
    options.existing_data(train, "training manifest")
    options.existing_data(valid, "held-out manifest")
    if measure and not dry_run:
        raise FoError("--measure is for --dry-run", do="add --dry-run, or leave --measure out")
    if not dry_run:
        options.writable(out, "run folder")

    from fo_core.api.training import run_set_up, set_up_stage
    from fo_core.io.files import only_run
    from fo_core.models.llm.report import one_line
    from fo_core.training.distributed import world

    made = set_up_stage(
        stage, model, train, recipe=recipe, config=config, settings=overrides, llm=llm
    )
    main = world()[0] == 0
    if main:
        render.note(one_line(made.model.llm))
    if dry_run:
        plan = _dry_run(made.model, made.stage, made.recipe.train, train, valid, measure)
        counts = {k: plan[k] for k in ("stage", "trainable_parameters", "frozen_parameters")}
        if main:
            _say(plan if json else counts, json)
        return
    with only_run(out) if main else nullcontext():  # the others follow the main process
        result = run_set_up(made, train, valid, out, resume=not fresh, force=force)
    if not main:
        return
    counts = {
        "stage": stage,
        "trainable_parameters": result.trainable_parameters,
        "frozen_parameters": result.frozen_parameters,
        "seconds": round(result.seconds, 1),
        "model": str(out / "model"),
    }
    _say(counts | result.metrics, json)


def _dry_run(
    model: FreezeOmni, stage: Stage, cfg: TrainConfig, train: Path, valid: Path, measured: bool
) -> dict[str, Any]:
    from fo_core.training.estimate import measure, plan_stage
    from fo_core.training.report import print_plan

    plan = plan_stage(model, stage, cfg, train, valid)
    if measured:
        plan["measured"] = measure(model, stage, cfg, train, valid)
    print_plan(plan)
    return plan


def _say(counts: dict[str, Any], json: bool) -> None:
    if json:
        render.as_json(counts)
        return
    for name, value in counts.items():
        whole = isinstance(value, int)
        text = f"{value:,}" if whole else f"{value:.4g}" if isinstance(value, float) else value
        render.result(f"{name}: {text}")
