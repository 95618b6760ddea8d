"""``fo profile``: how fast a model talks on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fo_cli import options, render
from fo_core.errors import FoError
from fo_core.registry import did_you_mean

if TYPE_CHECKING:
    from fo_core.models.freeze_omni import FreezeOmni

app = typer.Typer(no_args_is_help=True, help="Measure a model's speed on this machine.")

SIZES = ("small", "paper", "tiny")
Weights = Literal["same", "bf16", "int8"]


@app.command("latency")
def latency(
    size: Annotated[
        list[str] | None,
        typer.Option("--size", help="Random weights: small, paper or tiny; may be repeated."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="Model folder instead of a size.", metavar="DIR")
    ] = None,
    weights: Annotated[Weights, typer.Option(help="Precision of the packed matrices.")] = "same",
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    repeat: Annotated[int, typer.Option(min=1, help="Runs behind each median.")] = 5,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a Markdown table of each size.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Time every step of the stream, and the end of a question to the first audio with its legs.

    Beside each row stands its bound (bytes of weights over the memory bandwidth measured in the
    same run) and, for the sizes small and paper, what the original program took on two cores of a
    shared EPYC. Numbers of a busy machine are numbers of a busy machine.
    """
    sizes = list(dict.fromkeys(size or []))
    for name in sizes:
        if name not in SIZES:
            raise FoError(f"unknown size {name!r}", possible=did_you_mean(name, list(SIZES)))
    if bool(sizes) == (model is not None):
        raise FoError("say what to measure", possible="--size small, --size paper, --model DIR")
    if markdown and json:
        raise FoError("--markdown and --json exclude each other")
    if model is not None:
        options.existing_folder(model, "model folder")

    from eval.latency import measure
    from eval.latency_table import HEAD, as_dict, cells, machine
    from eval.latency_table import markdown as as_markdown

    say = render.note if sys.stderr.isatty() else (lambda text: None)
    reports = []
    for name in sizes or ["model"]:
        say(f"{name}: loading")
        reports.append(measure(_model(name, model), name, weights, threads, repeat, say))
    if json:
        found = [as_dict(report) for report in reports]
        render.as_json({"machine": machine(), "reports": found})
    elif markdown:
        render.result(as_markdown(reports))
    else:
        for report in reports:
            render.result(f"{report.size}, weights {report.weights}, {report.threads} thread(s)")
            render.table(HEAD, [cells(row) for row in report.rows])


def _model(name: str, folder: Path | None) -> FreezeOmni:
    from eval.latency_models import endless, random_model

    if folder is None:
        return random_model(name)
    from fo_core.models.freeze_omni import load

    loaded = load(folder)
    loaded.require("speech_encoder", "adapter", "state_head", "speech_decoder", "codec")
    return endless(loaded)
