"""``fo eval``: measure a model folder on manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fo_cli import options, render
from fo_cli.progress import Bars

app = typer.Typer(no_args_is_help=True, help="Measure a model: recognition, spoken questions.")

Out = Annotated[Path, typer.Option("--out", help="Folder of the results.", metavar="DIR")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many items.")]


@app.command("asr")
def asr(
    model: options.Model,
    data: Annotated[
        Path, typer.Option("--data", help="Manifest of transcribed speech.", metavar="JSONL")
    ],
    out: Out,
    limit: Limit = None,
    json: options.Json = False,
) -> None:
    """Word error rates: of the streaming encoder's CTC, and of what the LLM repeats."""
    from fo_core.data import manifest

    options.existing_folder(model, "model folder")
    options.writable(out, "results folder")
    items = manifest.read(data)[:limit]

    from eval.asr import evaluate
    from eval.probe import ModelProbe

    with Bars() as bars:
        found = evaluate(ModelProbe(model), items, out, bars)
    _say(found, out, json)


@app.command("qa")
def qa(
    model: options.Model,
    user: Annotated[
        Path, typer.Option("--user", help="Manifest of spoken questions.", metavar="JSONL")
    ],
    out: Out,
    assistant: Annotated[
        Path | None,
        typer.Option("--assistant", help="Manifest of the spoken answers.", metavar="JSONL"),
    ] = None,
    judge: Annotated[
        str, typer.Option("--judge", help="Recogniser that hears the replies.")
    ] = "faster-whisper",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes side by side.")] = 1,
    limit: Limit = None,
    json: options.Json = False,
) -> None:
    """Ask every question and measure each link, from hearing to the judged reply.

    A stopped run goes on where it was; every item is kept in items.jsonl. With --assistant the
    judge's error on the answer voice itself, and on it through the codec, stands beside the
    reply's. Timings of several workers are those of a busy machine.
    """
    from fo_core.data import manifest
    from fo_core.engines.asr import ASR

    options.existing_folder(model, "model folder")
    options.writable(out, "results folder")
    questions = manifest.read(user)[:limit]
    answers = manifest.read(assistant) if assistant else []
    ASR.load(judge)  # an unknown judge is said before any work

    from eval.qa_run import evaluate_folder

    with Bars() as bars:
        found = evaluate_folder(model, questions, answers, out, judge, workers, bars)
    _say(found, out, json)


def _say(found: dict[str, Any], out: Path, json: bool) -> None:
    if json:
        render.as_json(found)
        return
    for name, value in found.items():
        if isinstance(value, dict):
            for part, inner in value.items():
                score = inner.get("f1") if isinstance(inner, dict) else inner
                if not isinstance(score, list):
                    render.result(f"{name} {part}: {_number(score)}")
        else:
            render.result(f"{name}: {_number(value)}")
    render.note(f"every item is in {out / 'items.jsonl'}")


def _number(value: Any) -> str:
    if value is None:
        return "not measured"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
