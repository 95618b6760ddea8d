"""``fo attach``: a trained model's ears and voice on another LLM, without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fo_cli import options, render

if TYPE_CHECKING:
    from fo_core.models.freeze_omni import FreezeOmni


def attach(
    llm: Annotated[
        str, typer.Argument(help="Folder, hub id, .gguf file, embedded, qwen.", metavar="LLM")
    ],
    out: Annotated[Path, typer.Option("--out", help="Model folder to make.", metavar="DIR")],
    model: options.Model = options.DEFAULT_MODEL,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="Of the LLM's weights; default: the model's.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Put a trained model's ears and voice on another LLM, without training.

    Each recognised word is written in the new LLM's own tokens, and its answers are spoken from
    their spelling. Prints which parts are missing until they are trained, what is used instead, and
    which stages train them.
    """
    model = options.model_folder(model)
    options.writable(out, "model folder")

    from dataclasses import asdict

    from fo_core.errors import FoError
    from fo_core.io.files import write_text
    from fo_core.models.attach import attach as put
    from fo_core.models.attach import card
    from fo_core.models.llm.report import one_line

    if out.exists() and any(out.iterdir()):
        raise FoError(f"model folder {out} is not empty", do="name another one, or empty it")
    made = put(model, llm, dtype)
    render.note(one_line(made.model.llm))
    made.model.save(out)
    _how_it_talks(model, out)
    write_text(out / "README.md", card(made, model))
    stages = _stages(made.model, [f.stage for f in made.fates if f.stage])
    if json:
        parts = [asdict(fate) for fate in made.fates]
        render.as_json({"model": out, "speaks": made.speaks, "parts": parts, "stages": stages})
        return
    rows = [(f.part, f.fate, f.why, f.meanwhile or "-", f.stage or "-") for f in made.fates]
    render.table(("part", "is", "because", "meanwhile", "better after"), rows)
    for stage, seconds in stages.items():
        about = "time: --dry-run --measure"
        if seconds is not None:
            about = f"about {max(1, round(seconds / 60)):,} min here, by recipe smol"
        render.result(f"better with: fo train --stage {stage} --model {out} ...  ({about})")
    render.result(f"model in {out}" + ("" if made.speaks else " (it writes its answers)"))


def _how_it_talks(model: Path, out: Path) -> None:
    """``dialogue.json``: the model's own, with turns that end by voice and silence."""
    from fo_core.config import replace
    from fo_core.dialogue.settings import read_dialogue, write_dialogue

    cfg = read_dialogue(model)
    turn = replace(cfg.duplex.turn, detect="server", interrupt="voice")
    write_dialogue(out, replace(cfg, duplex=replace(cfg.duplex, turn=turn)))


def _stages(model: FreezeOmni, names: list[str]) -> dict[str, float | None]:
    """Seconds that stages would take here, by recipe smol: from the LLM's own speed.

    Those of the output side train what the LLM's speed says nothing of: None.
    """
    from fo_core.training.estimate import seconds_of

    return {
        name: seconds_of(model, name) if name.startswith("input") else None
        for name in sorted(set(names))
    }
