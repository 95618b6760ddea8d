"""``fo profile serve``: how many users a model carries on this machine."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fo_cli import options, render
from fo_core.errors import FoError

if TYPE_CHECKING:
    from eval.latency.load import Load
    from fo_core.dialogue.settings import DialogueConfig


def serve(
    questions: Annotated[
        list[Path], typer.Argument(help="Sound files with a question each.", metavar="WAV...")
    ],
    model: options.Model = options.DEFAULT_MODEL,
    sessions: Annotated[
        list[int] | None,
        typer.Option("--sessions", min=1, help="Number of users at a time; may be repeated."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of every user's script.")] = 60.0,
    slot: Annotated[float, typer.Option(min=1.0, help="Seconds between questions.")] = 10.0,
    workers: Annotated[int, typer.Option(min=1, help="Threads that share the model.")] = 2,
    batch: Annotated[
        int,
        typer.Option(
            min=1, help="Maximum number of users whose steps run in one batch; 1 = no batching."
        ),
    ] = 8,
    speculate: Annotated[
        Literal["model", "both", "exact", "any", "off"],
        typer.Option(
            help="Replies started in pauses: as the model's settings say, both with and without, "
            "or one of them."
        ),
    ] = "model",
    weights: options.Weights = "auto",
    device: options.Device = "auto",
    sets: options.Sets = None,
    json: options.Json = False,
) -> None:
    """Run scripted users against a pool in real time, and check every sample of every reply.

    First audio: from the arrival of the sound that decided a turn to the reply's first audio; after
    decision: from the decision itself; begun: the same, of replies that were begun in the pause.
    Every reply is compared with what the same user gets alone; greedy sampling makes that equal.
    """
    from eval.latency.load import alone, run, script
    from fo_core.dialogue.settings import read_dialogue
    from fo_core.io import audio

    for path in questions:
        options.existing_file(path, "question")
    waves = [audio.read(path, 16000) for path in questions]
    wave = script(waves, slot, seconds)
    model = options.model_folder(model)
    dialogue = read_dialogue(model, sets or ())
    loaded = options.ready_model(model, dialogue, weights, device)
    say = render.note if sys.stderr.isatty() else (lambda text: None)
    say(f"alone: {wave.size / 16000:.0f} s of sound")
    wanted = alone(loaded, dialogue, wave, batch)
    if not wanted:
        raise FoError("the model answered none of the questions", do="give questions it answers")
    own = dialogue.speculate.how
    hows: dict[str, list[str]] = {"model": [own], "both": ["off", "exact" if own == "off" else own]}
    runs = [
        run(loaded, _with(dialogue, how), wave, count, workers, batch, wanted, say=say)
        for count in sessions or [1, 4]
        for how in hows.get(speculate, [speculate])
    ]
    if json:
        render.as_json(
            {
                "workers": workers,
                "batch": batch,
                "weights": weights,
                "runs": [asdict(r) for r in runs],
            }
        )
        return
    head = (
        "users", "speculation", "replies", "first audio p50", "p95", "longest",
        "after decision p50", "p95", "begun p50", "p95", "begun/committed/dropped",
        "for nothing", "chunk lag p50", "p95",
        "differing", "other history", "out of order", "missing", "batch", "cores", "memory MiB",
    )  # fmt: skip
    render.table(head, [_cells(found) for found in runs])
    for found in runs:
        if found.faults:
            render.note(f"{found.sessions} users: {_faults(found.faults)}")


def _with(dialogue: DialogueConfig, how: Any) -> DialogueConfig:
    from fo_core.config import replace

    return replace(dialogue, speculate=replace(dialogue.speculate, how=how))


def _faults(faults: dict[str, Any]) -> str:
    return ", ".join(f"{code} {count}" for code, count in sorted(faults.items()))


def _cells(load: Load) -> list[str]:
    lag = load.chunk_lag
    batch = "/".join(
        f"{load.mean_batch.get(kind, 0):.1f}" for kind in ("LLMRequest", "DecoderRequest")
    )
    return [
        str(load.sessions),
        load.speculate,
        str(load.replies),
        *(f"{value:.0f} ms" for value in load.first_audio),
        *(
            f"{value:.0f} ms"
            for value in (*load.after_decision[:2], *load.after_decision_begun[:2])
        ),
        "/".join(str(load.speculations.get(key, 0)) for key in ("begun", "committed", "dropped")),
        f"{load.speculation_seconds.get('dropped', 0.0):.2f} s",
        f"{lag[0]:.0f} ms",
        f"{lag[1]:.0f} ms",
        *(
            str(value)
            for value in (load.differing, load.other_history, load.out_of_order, load.missing)
        ),
        batch,
        f"{load.cores:.2f}",
        f"{load.memory_mib[0]:.0f} to {load.memory_mib[-1]:.0f}" if load.memory_mib else "",
    ]
