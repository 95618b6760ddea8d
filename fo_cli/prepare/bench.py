"""``fo prepare-data duplex-bench``: own recordings as Full-Duplex-Bench's folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fo_cli import options, render
from fo_cli.prepare.options import Out
from fo_core.errors import FoError
from fo_core.progress import Bars

Others = list[Path] | None


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("duplex-bench")(duplex_bench)


def duplex_bench(
    turns: Annotated[
        list[Path], typer.Argument(help="Manifests of user turns.", metavar="JSONL...")
    ],
    out: Out,
    backchannels: Annotated[
        Others,
        typer.Option(
            "--backchannels", help="Manifest of back-channels such as yeah.", metavar="JSONL"
        ),
    ] = None,
    asides: Annotated[
        Others,
        typer.Option(
            "--asides", help="Manifest of speech that is meant for others.", metavar="JSONL"
        ),
    ] = None,
    backgrounds: Annotated[
        Others, typer.Option("--background", help="Manifest of other voices.", metavar="JSONL")
    ] = None,
    recogniser: Annotated[
        str,
        typer.Option(
            "--words",
            help="Recogniser that finds the ends of words, so that pauses are inside sentences; "
            "none: pauses at any dip of the energy.",
        ),
    ] = "faster-whisper",
    number: Annotated[
        int | None, typer.Option("--number", help="Recordings per task.", min=1)
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Random seed of the selection.")
    ] = None,
    sets: options.Sets = None,
    json: options.Json = False,
) -> None:
    """Compose Full-Duplex-Bench's tasks from own recordings: pauses, turns, interruptions,
    back-channels, asides, background speech.

    `fo eval duplex --data DIR` plays them to a model. Use speakers that no model was trained on.
    """
    from data_prep.duplex_bench import BenchConfig, Speech, build
    from fo_core.config import load

    given = {key: value for key, value in (("number", number), ("seed", seed)) if value is not None}
    cfg = load(BenchConfig, given, sets or ())
    speech = Speech(*map(_items, (turns, backchannels, asides, backgrounds)))
    options.writable(out, "folder of the recordings")
    with Bars() as bars:
        done = build(speech, out, cfg, _words(recogniser), bars)
    if json:
        render.as_json({"out": out, **done})
        return
    render.table(("task", "recordings"), [(t, f"{n:,}") for t, n in done["made"].items()])
    for name, why in list(done["left_out"].items())[:5]:
        render.note(f"not used: {name}: {why}")
    for task, made in done["made"].items():
        if made < cfg.number:
            render.note(f"{task}: {made} of {cfg.number}; the utterances give no more")
    render.result(f"next: fo eval duplex --data {out} --model MODEL")


def _items(manifests: Others) -> list[Any]:
    from fo_core.data import manifest

    paths = [options.existing_file(path, "manifest") for path in manifests or ()]
    return [item for path in paths for item in manifest.read(path)]


def _words(name: str) -> Any:
    """The recogniser's word times; None for "none".

    Raises:
        EngineError: There is none of this name, or it cannot work here.
        FoError: It tells no times.
    """
    if name == "none":
        return None
    from fo_core.engines.asr import ASR

    engine = ASR.load(name).Engine
    if not hasattr(engine, "words"):
        raise FoError(f"the recogniser {name} gives no times of words",
                      possible="faster-whisper, none")  # fmt: skip
    return engine().words
