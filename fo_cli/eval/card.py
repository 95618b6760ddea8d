"""``fo models card``: what a model card says of evaluations, written from their results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fo_cli import options, render
from fo_core.errors import FoError


def card(
    model: Annotated[
        Path, typer.Argument(help=options.MODEL_HELP, metavar="MODEL")
    ] = options.DEFAULT_MODEL,
    results: Annotated[
        Path,
        typer.Option("--from", help="Results of fo eval all, or of a set.", metavar="DIR"),
    ] = Path("runs/eval/quick"),
    write: Annotated[
        bool,
        typer.Option("--write", help="Replace the section in the model's README.md."),
    ] = False,
) -> None:
    """Write the evaluation section of a model's card from results: printed, or inserted."""
    from eval.report import card as cards
    from eval.report.provenance import fingerprint
    from fo_core import shipped
    from fo_core.io.files import read_json

    folder = options.model_folder(model)
    text = cards.section(options.existing_folder(results, "results folder"))
    measured = read_json(results / "overview.json")["about"].get("model", {}).get("fingerprint")
    if measured and measured != fingerprint(folder):
        raise FoError(
            f"{results} measured another model than {folder} (fingerprints differ)",
            do="measure this one, or name the model that was measured",
        )
    if not write:
        render.result(text)
        return
    cards.put(folder / "README.md", text)
    if (folder / shipped.INDEX).is_file():
        shipped.write_index(folder)
    render.result(f"evaluation section in {folder / 'README.md'}")
