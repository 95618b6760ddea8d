"""``fo prepare-data align``: how long each letter is spoken, for a decoder with durations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fo_cli import options, render
from fo_cli.prepare.options import Limit, Out
from fo_core.progress import Bars


def align(
    manifests: Annotated[
        list[Path],
        typer.Argument(
            help="Manifests with speech tokens (of `encode`), or folders of them.",
            metavar="JSONL|DIR...",
        ),
    ],
    out: Out,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            help="Model whose CTC head aligns any recording: a folder, or fo-smol. Default: the "
            "durations of the engine that spoke the text (hibari).",
            metavar="DIR|NAME",
        ),
    ] = None,
    lead: Annotated[
        int, typer.Option("--lead", help="Speech tokens of silence kept at the start.", min=0)
    ] = 3,
    val: Annotated[float, typer.Option("--val", help="Share in val.jsonl.", min=0, max=1)] = 0.02,
    limit: Limit = 0,
    num_workers: Annotated[
        int, typer.Option("--num-workers", help="Parallel processes.", min=1)
    ] = 2,
    json: options.Json = False,
) -> None:
    """Add to encoded sounds how many speech tokens each letter takes, for stage output-2.

    Speech decoders with durations (speech_decoder.type: durations) are trained on it. After any
    stop, run the command again to continue.
    """
    from dataclasses import asdict

    from data_prep.runner.run import RunConfig
    from data_prep.steps.align import AlignConfig, run

    for each in manifests:
        if not each.is_dir():
            options.existing_data(each, "manifest")
    options.writable(out, "folder of the manifests")
    folder = "" if model is None else str(options.model_folder(model))
    cfg = AlignConfig(by="ctc" if folder else "engine", model=folder, lead=lead, val=val)
    with Bars() as bars:
        report = run(cfg, manifests, out, RunConfig(num_workers, "local", limit), bars)
    if json:
        render.as_json(asdict(report))
        return
    render.result(f"{report.rows:,} of {report.items:,} aligned: {out / 'train.jsonl'}")
    for reason, count in report.rejected.items():
        render.note(f"{count:,} skipped: {reason}")
