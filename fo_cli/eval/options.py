"""Options of the evaluations, and what they all print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fo_cli import options, render
from fo_core.errors import FoError
from fo_core.registry import did_you_mean

Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of the results; runs/eval/NAME if none.", metavar="DIR"),
]
RESULTS = Path("runs") / "eval"
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many items.")]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        help=f"{options.MODEL_HELP} fo-smol if none is named; --rescore needs none.",
        metavar="DIR|NAME",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Go on with what is in --out, or start anew.")
]
Rescore = Annotated[
    bool,
    typer.Option("--rescore", help="New judge or metrics on what was kept; runs no model."),
]
Seed = Annotated[int, typer.Option("--seed", help="Of sampling and of the bootstrap.")]
Judge = Annotated[str, typer.Option("--judge", help="Recogniser that hears the speech.")]
JudgeModel = Annotated[
    str | None,
    typer.Option("--judge-model", help="Its folder or hub id.", metavar="SPEC"),
]
Dnsmos = Annotated[bool, typer.Option("--dnsmos/--no-dnsmos", help="Rate the sound as well.")]
Published = Annotated[bool, typer.Option("--published", help="Print the paper's rows beside ours.")]


def chosen(values: list[str] | None, possible: Sequence[str], flag: str) -> list[str]:
    """Values of an option that may be repeated, each once; none is an empty list.

    Raises:
        FoError: One of them is not possible.
    """
    for value in values or ():
        if value not in possible:
            raise FoError(f"{flag} {value!r}", possible=did_you_mean(value, list(possible)))
    return list(dict.fromkeys(values or ()))


def needed_model(model: Path | None) -> Path:
    """The model folder of a run that is not a rescore: the one that ships if none was named."""
    if model is not None:
        return options.model_folder(model)
    render.note(f"model: {options.DEFAULT_MODEL}, which ships with the package")
    return options.model_folder(options.DEFAULT_MODEL)


def results(out: Path | None, name: str) -> Path:
    """The folder of an evaluation's results.

    Raises:
        FoError: It cannot be written.
    """
    if out is None:
        out = RESULTS / name
        render.note(f"results: {out}")
    return options.writable(out, "results folder")


def about(model: Mapping[str, Any], device: str, seed: int) -> dict[str, Any]:
    """What results say of a run: the model, the seed, versions, the machine."""
    from eval.report.provenance import machine, versions

    where = {"versions": versions(), "machine": machine(device)}
    return {"model": dict(model), "seed": seed} | where


def show(
    overview: Mapping[str, Any], page: Any, out: Path, json: bool, published: bool = False
) -> None:
    """Write the page, print its first table (all of them with ``published``)."""
    from eval.report.results import write_page

    paths = write_page(out, overview, page)
    if json:
        render.as_json(overview)
        return
    for number, section in enumerate(page.sections):
        if number and not published:
            break
        if number:
            render.result(f"\n{section.title}. {section.text}")
        for table in section.tables:
            cut = [i for i, name in enumerate(table.head) if name != "meaning"]
            render.table([table.head[i] for i in cut], [[r[i] for i in cut] for r in table.rows])
    if overview["skipped"]:
        first = overview["skipped"][0]
        render.note(f"{len(overview['skipped'])} items left out, such as {first['id']}: "
                    f"{first['why']}")  # fmt: skip
    render.note(f"report: {paths['html']}; every item is in {out / 'items.jsonl'}")
