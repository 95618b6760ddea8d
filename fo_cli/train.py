"""``fo train``: one stage on one model."""

from __future__ import annotations

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


def train(
    stage: Annotated[
        str, typer.Option("--stage", help="input-1, input-2, input-3, output-1, -2 or -3.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Model folder to start from, fo-smol (ships with the package), latest; or, for a "
            "new model, a size or a YAML file. Without: what the stage before left in runs/, else "
            "fo-smol.",
            metavar="DIR|NAME|SIZE|YAML",
        ),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(
            "--train",
            help="Training manifest; without: the workspace's, in data/.",
            metavar="JSONL",
        ),
    ] = None,
    valid: Annotated[
        Path | None,
        typer.Option(
            "--valid", help="Held-out manifest; without: beside the training one.", metavar="JSONL"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Run folder; the model is DIR/model. runs/STAGE if none.", metavar="DIR"
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Shipped recipe to start from: paper, smol, smol-open, tiny. paper where a model "
            "is named, else smol-open.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML over the shipped recipe.")
    ] = None,
    sets: options.Sets = None,
    device: Annotated[Device, typer.Option("--device", help="Where to train.")] = Device.auto,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained on what, and stop.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="With --dry-run: run a few steps for time and memory.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew instead of going on where a run stopped.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although settings have changed; says which.")
    ] = False,
    llm: Annotated[
        str | None,
        typer.Option("--llm", help="Another LLM than the model's; says what to train again."),
    ] = None,
    cache_hidden: Annotated[
        Path | None,
        typer.Option(
            "--cache-hidden",
            help="Keep what frozen parts give (the LLM's states in output-3) here for later runs.",
            metavar="DIR",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Train one stage: what it trains is printed first, the rest is proven not to move.

    A stopped run goes on from its newest checkpoint; a finished one is found done. Alone, under
    torchrun or accelerate launch: the command is the same.
    """
    from fo_core.training.stages import recipe

    place = workspace.of_stage(stage, model, train, valid, out)
    model, train, valid, out = place.model, place.train, place.valid, place.out
    size = size or ("paper" if place.named else "smol-open")
    render.note(place.line(size))
    overrides = [*(sets or ()), f"train.device={device.value}"]
    if cache_hidden is not None:
        overrides.append(f"train.cache_hidden={options.writable(cache_hidden, 'cache folder')}")
    chosen = recipe(stage, size, config, overrides)
    options.existing_data(train, "training manifest")
    options.existing_data(valid, "held-out manifest")
    if measure and not dry_run:
        raise FoError("--measure is for --dry-run", do="add --dry-run, or leave --measure out")
    if not dry_run:
        options.writable(out, "run folder")

    import torch

    from fo_core.models.llm.report import one_line
    from fo_core.training.begin import begin
    from fo_core.training.team import world

    torch.manual_seed(chosen.train.seed)  # untrained parts are the same when the run goes on
    start, built = begin(model, train, llm), chosen.stage.build()
    if stage == "output-3":
        start.add_prefix()
    main = world()[0] == 0
    if main:
        render.note(one_line(start.llm))
    if dry_run:
        plan = _dry_run(start, built, chosen.train, train, valid, measure)
        counts = {k: plan[k] for k in ("stage", "trainable_parameters", "frozen_parameters")}
        if main:
            _say(plan if json else counts, json)
        return

    from fo_core.training.loop import run_stage

    result = run_stage(start, built, chosen.train, train, valid, out, resume=not fresh, force=force)
    if not main:
        return
    trained = {glob.split(".")[0] for o in built.objectives for glob in o.trainable}
    folder = _save(start, trained, Path(model), out)
    counts = {
        "stage": stage,
        "trainable_parameters": result.trainable_parameters,
        "frozen_parameters": result.frozen_parameters,
        "seconds": round(result.seconds, 1),
        "model": str(folder),
    }
    _say(counts | result.metrics, json)


def _dry_run(
    model: FreezeOmni, stage: Stage, cfg: TrainConfig, train: Path, valid: Path, measured: bool
) -> dict[str, Any]:
    from fo_core.training.estimate import measure
    from fo_core.training.loop import plan_stage
    from fo_core.training.report import print_plan

    plan = plan_stage(model, stage, cfg, train, valid)
    if measured:
        plan["measured"] = measure(model, stage, cfg, train, valid)
    print_plan(plan)
    return plan


def _save(model: FreezeOmni, trained: set[str], start: Path, out: Path) -> Path:
    """Write the model folder of a finished stage; how it talks is taken over from the start."""
    from fo_core.dialogue.settings import FILE
    from fo_core.io.files import write_text
    from fo_core.models.freeze_omni import PARTS
    from fo_core.training.card import write_card

    folder = out / "model"
    model.trained |= trained & set(PARTS)
    model.save(folder)
    if (start / FILE).is_file():
        write_text(folder / FILE, (start / FILE).read_text(encoding="utf-8"))
    write_card(model, out, folder, start if start.is_dir() else None)
    return folder


def _say(counts: dict[str, Any], json: bool) -> None:
    if json:
        render.as_json(counts)
        return
    for name, value in counts.items():
        whole = isinstance(value, int)
        text = f"{value:,}" if whole else f"{value:.4g}" if isinstance(value, float) else value
        render.result(f"{name}: {text}")
