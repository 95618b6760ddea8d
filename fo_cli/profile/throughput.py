"""``fo profile throughput``: how fast stages train on this machine, against their own products."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fo_cli import options, render

HEAD = ("stage", "s/step", "audio-s/s", "data", "padding", "products", "TFLOP/s", "GiB")


def throughput(
    stage: Annotated[list[str], typer.Option("--stage", help="Stage; may be repeated.")],
    model: Annotated[
        str, typer.Option("--model", help="Model folder, name or YAML file.", metavar="DIR|NAME")
    ],
    train: Annotated[Path, typer.Option("--train", help="Training manifest.", metavar="JSONL")],
    valid: Annotated[Path, typer.Option("--valid", help="Held-out manifest.", metavar="JSONL")],
    recipe: Annotated[
        str, typer.Option("--recipe", help="Shipped recipe: paper, smol, smol-open, tiny.")
    ] = "smol",
    old_size: options.OldSize = None,
    sets: options.Sets = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps to time, after two to warm up.")] = 10,
    json: options.Json = False,
) -> None:
    """Train a few real steps of stages and report where the time goes.

    "products" is the share of a step that its matrix products and convolutions take when they are
    run alone: 100 % would be a step without anything else.
    """
    options.existing_data(train, "training manifest")
    options.existing_data(valid, "held-out manifest")

    from eval.latency.throughput import measure
    from fo_core.data.manifest import read
    from fo_core.shipped import named_folder
    from fo_core.training import recipes
    from fo_core.training.initial_model import begin

    folder = named_folder(model)
    say = render.note if sys.stderr.isatty() else (lambda text: None)
    found = []
    for name in stage:
        chosen = recipes.recipe(name, recipe, overrides=list(sets or ()))
        start = begin(folder, train)
        start.trained |= set(chosen.stage.build().starts_from)  # speed does not depend on skill
        held_out = read(valid)[:1]
        found.append(
            measure(start, chosen.stage.build(), chosen.train, train, held_out, steps, say)
        )
    if json:
        render.as_json([asdict(one) for one in found])
        return
    rows = []
    for one in found:
        rows.append(
            (
                one.stage,
                f"{one.seconds_a_step:.3g}",
                f"{one.audio_seconds_a_second:.1f}",
                f"{one.data_share:.1%}",
                f"{one.padding:.1%}",
                f"{one.bound_share:.0%}",
                f"{one.tflops_a_second:.3g}",
                f"{one.memory_gb:.2f}",
            )
        )
    render.table(HEAD, rows)
