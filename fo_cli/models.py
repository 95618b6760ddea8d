"""``fo models``: what model folders there are and what is in one. No weights are loaded."""

from __future__ import annotations

import json as jsonlib
import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fo_cli import models_hub, models_voices, options, render
from fo_cli.calibrate import calibrate
from fo_cli.eval.card import card
from fo_core.errors import FoError
from fo_core.shipped import DEFAULT, RUNS, is_shipped

app = typer.Typer(
    no_args_is_help=True, help="Model folders: info, voices, fetch, push, import, export."
)
app.command("push")(models_hub.push)
app.command("fetch")(models_hub.fetch)
app.command("card")(card)
app.command("calibrate")(calibrate)
app.command("voices")(models_voices.voices)
app.command("add-voice")(models_voices.add)

Folder = Annotated[Path, typer.Argument(help="Model folder.", metavar="DIR")]


def _is_model(config: Path) -> bool:
    try:
        data = jsonlib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and {"llm", "speech_encoder", "speech_decoder"} <= set(data)


def describe(folder: Path) -> dict[str, Any]:
    """A model folder's parts, read from its config and the headers of its files; JSON-ready.

    Raises:
        CheckpointError: The folder is no model, or a file of it is damaged.
        ConfigError: A key or value of its config is wrong.
    """
    from safetensors import SafetensorError, safe_open

    from fo_core.errors import CheckpointError
    from fo_core.models.freeze_omni import PARTS, read_config

    config = read_config(folder)
    parts: dict[str, Any] = {}
    for part in PARTS:
        path = folder / f"{part}.safetensors"
        settings = getattr(config, "ctc" if part == "ctc_head" else part)
        row: dict[str, Any] = {"type": getattr(settings, "type", part), "trained": path.is_file()}
        if path.is_file():
            try:
                with safe_open(str(path), framework="numpy") as file:
                    shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
            row["values"] = sum(map(math.prod, shapes))
            row["bytes"] = path.stat().st_size
        parts[part] = row
    llm = {"spec": config.llm.spec, "dtype": config.llm.dtype}
    return {"folder": str(folder), "llm": llm | {"fingerprint": config.llm.fingerprint}} | {
        "parts": parts
    }


@app.command("list")
def list_models(
    root: Annotated[Path, typer.Argument(help="Folder to search.", metavar="DIR")] = RUNS,
    json: options.Json = False,
) -> None:
    """List the model folders below a folder."""
    if root != RUNS or root.exists():
        options.existing_folder(root, "folder")
    found = []
    for path in filter(_is_model, sorted(root.rglob("config.json"))):
        try:
            found.append(describe(path.parent))
        except FoError as error:  # a damaged one; the others are there all the same
            render.note(f"left out: {' '.join(str(error).split())}")
    if json:
        render.as_json(found)
        return
    if not found:
        render.note(f"no model folder below {root}; {DEFAULT} ships with the package; "
                    "do: fo demo makes one of your own")  # fmt: skip
        return
    rows = [
        (
            model["folder"],
            model["llm"]["spec"],
            model["parts"]["speech_encoder"]["type"],
            model["parts"]["adapter"]["type"],
            model["parts"]["codec"]["type"],
            f"{sum(p['trained'] for p in model['parts'].values())}/{len(model['parts'])}",
        )
        for model in found
    ]
    render.table(("folder", "llm", "encoder", "adapter", "codec", "trained parts"), rows)


@app.command("info")
def info(folder: Folder, json: options.Json = False) -> None:
    """Show the parts of a model folder: types, sizes, what is trained, which LLM.

    Also prints which matrix kernels this CPU would use for each precision of ``--weights``.
    """
    found = describe(options.model_folder(folder))

    from fo_core.layers import kernels

    if json:
        render.as_json(found | {"kernels": kernels.taken()})
        return
    rows = [
        (
            part,
            row["type"],
            "yes" if row["trained"] else "no",
            f"{row['values']:,}" if row["trained"] else "-",
            f"{row['bytes'] / 1e6:,.1f} MB" if row["trained"] else "-",
        )
        for part, row in found["parts"].items()
    ]
    render.table(("part", "type", "trained", "values", "file"), rows)
    llm = found["llm"]
    render.result(f"frozen LLM: {llm['spec']} ({llm['dtype']}) {llm['fingerprint'] or 'unchecked'}")
    render.result(kernels.say(kernels.taken()))


@app.command("check-llm")
def check_llm(
    spec: Annotated[
        str, typer.Argument(help="Folder, hub id, .gguf file, embedded, qwen.", metavar="SPEC")
    ],
    dtype: Annotated[str, typer.Option("--dtype", help="Of its weights.")] = "float32",
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Load an LLM and report how it runs and whether it talks, trains, batches and rolls back."""
    from dataclasses import asdict

    from fo_core.devices.compute import choose
    from fo_core.models.llm.frozen_llm import FrozenLLM
    from fo_core.models.llm.report import make_report

    found = make_report(FrozenLLM.load(spec, dtype, choose(device)))
    if json:
        render.as_json(asdict(found) | {"usable": found.usable})
    else:
        rows = [
            ("architecture", found.architecture),
            ("runs on", f"{found.path} ({found.why})"),
            ("dtype", found.dtype if found.dtype == found.computes_in
             else f"{found.dtype}, computes in {found.computes_in}"),
            ("size", f"{found.parameters:,} parameters, {found.vocabulary:,} x {found.width}"
             f" embedding{' (tied)' if found.tied else ''}"),
            ("context", f"{found.context:,} positions" if found.context else "no limit is known"),
            ("window", f"{found.window:,} positions" if found.window else "none"),
            ("end tokens", " ".join(found.end_tokens)),
            ("thoughts", found.thoughts),
            ("quantised", found.quantised or "no"),
            *found.verdicts.items(),
        ]  # fmt: skip
        render.table(("what", "found"), rows)
    if not found.usable:
        raise typer.Exit(1)


@app.command("join")
def join_models(
    folders: Annotated[
        list[Path], typer.Argument(help="Model folders around one LLM.", metavar="DIR DIR...")
    ],
    out: Annotated[Path, typer.Option("--out", help="Model folder to make.", metavar="DIR")],
    half: Annotated[
        bool, typer.Option("--half", help="Keep the weights in half precision: half the size.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Join separately trained parts into one model: ears of one folder, the voice of another."""
    folders = [options.model_folder(folder) for folder in folders]
    options.writable(out, "model folder")

    from fo_core.models.join import join

    found = join(folders, out, half)
    if json:
        render.as_json(found)
        return
    render.table(("part", "from"), list(found.items()))
    render.result(f"model: {out}")


@app.command("language-model")
def language_model(
    folder: Folder,
    texts: Annotated[
        list[Path],
        typer.Argument(help=".txt with a text a line, or manifests (.jsonl).", metavar="TEXTS..."),
    ],
    least: Annotated[
        int,
        typer.Option("--least", help="Drop rarer n-grams of 3 and more pieces.", min=1),
    ] = 2,
) -> None:
    """Count an n-gram language model over the pieces of a model's CTC head, for its beam search.

    Use texts like what users will say; never those of an evaluation set.
    """
    folder = options.model_folder(folder)
    if is_shipped(folder):
        what = f"the model {folder.name} ships with the package and stays as it is"
        raise FoError(what, possible="a copy of its folder")
    for path in texts:
        options.existing_file(path, "file of texts")

    from fo_core.data import manifest
    from fo_core.io.files import read_text
    from fo_core.models.encoder.piece_lm import PieceLM
    from fo_core.models.encoder.vocabulary import PieceVocabulary
    from fo_core.models.freeze_omni import read_config

    pieces = read_config(folder).ctc.pieces
    if not pieces:
        raise FoError(f"{folder} has no pieces", possible="a model with ctc.vocabulary: pieces")

    def lines() -> Any:
        for path in texts:
            if path.suffix == ".jsonl":
                yield from (item.text for item in manifest.read_lines(path))
            else:
                yield from read_text(path).splitlines()

    lm = PieceLM.count(PieceVocabulary(pieces), lines(), least)
    lm.save(folder)
    render.result(f"{len(lm.arrays[0]):,} n-grams of {len(pieces):,} pieces: {folder}")


class Format(StrEnum):
    """Layouts that a model can be written in."""

    official = "official"


@app.command("import-official")
def import_official(
    checkpoints: Annotated[Path, typer.Argument(help="Published checkpoint.", metavar="DIR")],
    llm: Annotated[Path, typer.Option("--llm", help="Folder of its LLM.", metavar="DIR")],
    out: Annotated[Path, typer.Option("--out", help="Model folder to make.", metavar="DIR")],
    json: options.Json = False,
) -> None:
    """Convert a published checkpoint (audiollm, decoder, codec, server.json) to a model folder."""
    options.existing_folder(checkpoints, "checkpoint folder")
    options.existing_folder(llm, "LLM folder")
    options.writable(out, "model folder")

    from fo_core.convert import official

    done = official.import_official(checkpoints, llm, out)
    if json:
        render.as_json({"model": out, "tensors": done.tensors, "unused": done.unused})
        return
    for name, reason in done.unused.items():
        render.note(f"not used: {name}: {reason}")
    rows = [(module, str(count)) for module, count in done.tensors.items()]
    render.table(("module", "tensors"), rows)
    render.result(f"model in {out}")


@app.command("export")
def export(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", help="Folder to make.", metavar="DIR")],
    layout: Annotated[Format, typer.Option("--format", help="Layout.")] = Format.official,
) -> None:
    """Write a model that was imported (and perhaps trained on) in the published layout."""
    folder = options.model_folder(folder)
    options.writable(out, "export folder")

    from fo_core.convert import official

    assert layout is Format.official
    render.result(f"{layout.value} layout in {official.export_official(folder, out)}")
