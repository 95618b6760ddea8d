"""``fo prepare-data``: from nothing to manifests with speech, states and codec tokens."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fo_cli import options, render
from fo_cli.progress import Bars
from fo_core.errors import FoError


class Step(StrEnum):
    """What to do; the steps build on each other in this order."""

    sample = "sample"
    regenerate = "regenerate"
    synthesize = "synthesize"
    label_states = "label-states"
    encode_speech = "encode"
    all = "all"


def prepare_data(
    step: Annotated[Step, typer.Argument(help="One step, or all of them.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the data.", metavar="DIR")],
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML that states what differs.")
    ] = None,
    sets: options.Sets = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Model folder whose codec encodes.", metavar="DIR"),
    ] = None,
    json: options.Json = False,
) -> None:
    """Make training data: questions, the LLM's own answers, speech, states, codec tokens.

    sample draws the questions of every split; regenerate lets the frozen LLM answer them;
    synthesize speaks both sides; label-states composes recordings with a label for every 160 ms;
    encode adds the tokens of a trained codec (--model). all does every step that is not done.
    """
    from data_prep.pipeline import STEPS, PrepareConfig, prepare
    from fo_core.config import load, read_yaml

    if step is Step.encode_speech and model is None:
        raise FoError(
            "encode needs a model folder with a trained codec",
            do="give --model DIR (stage output-1 trains the codec)",
        )
    options.writable(out, "data folder")
    cfg = load(PrepareConfig, read_yaml(config) if config else {}, sets or ())
    counts: dict[str, Any] = {}
    with Bars() as bars:
        if step is not Step.encode_speech:
            wanted = STEPS if step is Step.all else (step.value,)
            counts |= prepare(cfg, out, bars, steps=wanted)["steps"]
        if model is not None and step in (Step.encode_speech, Step.all):
            counts["encode"] = _encode(out, model, bars)
    if json:
        render.as_json({"out": out, "steps": counts})
        return
    for name, count in counts.items():
        render.result(f"{name}: {', '.join(_said(count))}")
    render.result(f"data in {out}; all counts are in {out / 'report.json'}")


def _said(count: Any) -> list[str]:
    """Numbers of a step's report, and groups of numbers; what lies deeper stays in the file."""
    said = []
    for key, value in count.items():
        name = key.replace("_", " ")
        if isinstance(value, (int, float)):
            said.append(f"{name} {value:,}")
        elif isinstance(value, dict) and all(isinstance(v, (int, float)) for v in value.values()):
            inner = ", ".join(f"{k} {v:,}" for k, v in value.items())
            said += [f"{name} ({inner})"] if inner else []
    return said


def _encode(out: Path, model: Path, bars: Bars) -> dict[str, int]:
    """Encode the assistant's side of every split in place; sentences by split."""
    manifests = sorted((out / "assistant").glob("*.jsonl"))
    if not manifests:
        raise FoError(f"no manifest in {out / 'assistant'}", do="run the steps before encode")
    from data_prep.encode_speech import encode_manifest
    from fo_core.models.freeze_omni import load

    loaded = load(model)
    loaded.require("codec")
    return {
        path.stem: len(encode_manifest(path, loaded.codec, progress=bars)) for path in manifests
    }
