"""``fo models voices`` and ``fo models add-voice``: with whose voice a model can speak."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fo_cli import options, render

DOCS = "docs/session_voices.md"
MODEL = Annotated[Path, typer.Argument(help=options.MODEL_HELP, metavar="[DIR|NAME]")]


def voices(model: MODEL = options.DEFAULT_MODEL, json: options.Json = False) -> None:
    """List the voices of a model: each session may choose one (fo chat --voice, Realtime, page)."""
    folder = options.model_folder(model)

    from fo_core.models.model_config import read_config
    from fo_core.models.voices import listed, own_name

    config = read_config(folder)
    own, found = own_name(config), listed(config)
    if json:
        rows = [
            {"name": name, "own": name == own, "source": voice.source}
            | {"global_tokens": list(voice.global_tokens)}
            for name, voice in found.items()
        ]
        render.as_json(rows)
        return
    render.table(
        ("voice", "the model's own", "source", "global tokens"),
        [
            (
                name,
                "yes" if name == own else "",
                voice.source or "-",
                " ".join(map(str, voice.global_tokens)) or "-",
            )
            for name, voice in found.items()
        ],
    )
    render.result(f"{len(found)} voice{'s' if len(found) > 1 else ''} in {folder}")


def add(
    model: Annotated[Path, typer.Argument(help=options.MODEL_HELP, metavar="DIR|NAME")],
    name: Annotated[str, typer.Argument(help="Letters, digits, - and _.", metavar="NAME")],
    clip: Annotated[
        Path, typer.Argument(help="3 to 60 s of one person who speaks.", metavar="CLIP")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Copy the model here first, and add the voice to the copy.", metavar="DIR"
        ),
    ] = None,
    own: Annotated[bool, typer.Option("--own", help="Make it the model's default voice.")] = False,
    json: options.Json = False,
) -> None:
    """Add the voice of a clip to a model, as global tokens of its codec; nothing is trained.

    How close the result is to the clip is measured and printed: a codec that learned one speaker
    cannot imitate another voice. Use only voices of people who agreed.
    """
    options.existing_file(clip, "clip")
    if out is not None:
        options.writable(out, "model folder")

    from dataclasses import asdict

    from fo_core.api.voices import add_voice

    added = add_voice(model, name, clip, out=out, own=own)
    if json:
        render.as_json(asdict(added) | {"heard": added.heard})
        return
    if added.one_speaker is None:
        render.note("not checked for a second speaker (pip install --no-deps resemblyzer)")
    like = ""
    if added.similarity is not None:
        like = f"; similarity to the clip {added.similarity:.2f}"
        like += f" (the model's own voice: {added.own_similarity:.2f})"
    apart = f"{added.change:.2f} nat from the model's own"
    render.result(f"voice {name} in {added.folder}: {apart}{like}")
    if not added.heard:
        render.note(
            "this model's codec hardly speaks like the clip: it has learned other voices; "
            f"training teaches it more (fo train --stage output-1, voices_only; {DOCS})"
        )
