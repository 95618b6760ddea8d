"""``fo prepare-data``: from texts, published dialogues, recordings or nothing to manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fo_cli import options, render, workspace
from fo_cli.errors import PoliteGroup
from fo_cli.prepare import bench, speech
from fo_cli.prepare import sets as prepare_sets
from fo_cli.prepare.align import align
from fo_cli.prepare.options import (
    Config,
    From,
    Inputs,
    Limit,
    Out,
    Where,
    Workers,
    chain_config,
    how,
    inputs_of,
    read_config,
    run_steps,
    say_steps,
    voice,
)
from fo_core.shipped import named_folder

app = typer.Typer(
    invoke_without_command=True,
    cls=PoliteGroup,
    help="Make training data. The steps build on each other: sample, regenerate, synthesize, "
    "label-states, encode; `all` runs them in one go. After any stop, run the command again "
    "to continue. Without a command: makes the demo's domain in the folder data.",
)
DEFAULT = Path("data")  # of the command as it is

Recorded = list[Path] | None
Input = Annotated[
    Path | None,
    typer.Option(
        "--input", help="Manifest to read instead of the previous step's.", metavar="JSONL"
    ),
]
InputsOf = Annotated[
    list[Path] | None,
    typer.Option(
        "--input",
        help="Any manifest, set of shards, or folder with train.jsonl and val.jsonl, instead of "
        "the previous step's; may be repeated.",
        metavar="JSONL|DIR",
    ),
]
ModelFolder = Annotated[
    Path | None,
    typer.Option("--model", help="Model whose codec encodes.", metavar="DIR|NAME"),
]


@app.callback()
def as_it_is(context: typer.Context) -> None:
    """Make the demo's data where no command is named."""
    if context.invoked_subcommand is not None:
        return

    from data_prep.chain import FOLDERS

    options.writable(DEFAULT, "data folder")
    codec = workspace.codec()
    cfg = chain_config(read_config(None, DEFAULT), None, {"encode.model": str(codec)})
    aligned = workspace.has_durations(codec)
    _print_plan(cfg, aligned)
    say_steps(run_steps(DEFAULT, cfg, None), DEFAULT, False)
    if aligned:
        made = [DEFAULT / FOLDERS["encode"]]
        align(made, DEFAULT / "aligned", model=Path("fo-smol"), num_workers=cfg.run.workers)
    render.result("next: fo train --stage input-1")


def _print_plan(cfg: Any, aligned: bool) -> None:
    """What will be made, before it is."""
    from data_prep.chain import FOLDERS, SOURCES

    voices = ", ".join(f"{v.engine}/{v.voice}" for v in (*cfg.synthesize.users,
                                                         *cfg.synthesize.assistants))  # fmt: skip
    what = {
        "sample": f"{cfg.domain.recordings:,} questions and {cfg.domain.val} for validation"
        if cfg.source == "domain" else f"rows of source {cfg.source}",
        "regenerate": f"answers of {cfg.regenerate.llm}",
        "synthesize": f"speech of {voices}",
        "label-states": "recordings with a dialogue state every 160 ms",
        "encode": f"speech tokens of the answers by the codec of {cfg.encode.model}",
    }  # fmt: skip
    rows = [(step, what[step], str(DEFAULT / FOLDERS[step])) for step in SOURCES[cfg.source]]
    if aligned:
        rows += [("align", "how long each letter is spoken, by fo-smol's ear", "data/aligned")]
    render.table(("step", "makes", "in"), rows)


@app.command("all")
def every_step(
    out: Out,
    inputs: Inputs = None,
    source: From = None,
    config: Config = None,
    sets: options.Sets = None,
    model: ModelFolder = None,
    limit: Limit = 0,
    num_workers: Workers = None,
    engine: Where = None,
    json: options.Json = False,
) -> None:
    """Run every step of a source that is not done yet, and write the report."""
    data = read_config(config, out, bool(inputs))
    named = inputs_of(inputs, source, data.get("source"))
    named["encode.model"] = model and named_folder(model)
    cfg = chain_config(data, sets, {**how(num_workers, engine, limit), **named})
    options.writable(out, "data folder")
    say_steps(run_steps(out, cfg, None), out, json)


app.command("sample")(prepare_sets.sample)


@app.command()
def regenerate(
    out: Out,
    config: Config = None,
    sets: options.Sets = None,
    source: Input = None,
    llm: Annotated[
        str | None,
        typer.Option(
            "--llm",
            help="LLM that answers: folder, hub id, .gguf, embedded, or the endpoint's model.",
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", help="Ask this OpenAI-compatible endpoint.", metavar="URL"),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="Device of a local LLM: auto, cpu, cuda.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Questions per batch.", min=1)
    ] = None,
    limit: Limit = 0,
    num_workers: Workers = None,
    engine: Where = None,
    json: options.Json = False,
) -> None:
    """Let the frozen LLM answer every user turn, on its own earlier answers."""
    given = {"llm": llm, "base_url": base_url, "device": device, "batch_size": batch_size}
    given["engine"] = "openai" if base_url else None
    named = {f"regenerate.{key}": value for key, value in given.items()}
    named |= how(num_workers, engine, limit)
    _run(out, "regenerate", config, sets, named, json, [source] if source else None)


@app.command()
def synthesize(
    out: Out,
    config: Config = None,
    sets: options.Sets = None,
    source: Input = None,
    user_voice: Annotated[
        list[str] | None,
        typer.Option(
            "--user-voice",
            help="A voice for the users; may be repeated.",
            metavar="ENGINE/VOICE[@SHARE]",
        ),
    ] = None,
    assistant_voice: Annotated[
        str | None,
        typer.Option("--assistant-voice", help="The voice of the answers.", metavar="ENGINE/VOICE"),
    ] = None,
    limit: Limit = 0,
    num_workers: Workers = None,
    engine: Where = None,
    json: options.Json = False,
) -> None:
    """Speak both sides of the dialogues; writes a sound file per turn."""
    named: dict[str, Any] = {
        "synthesize.users": [voice(name) for name in user_voice or ()] or None,
        "synthesize.assistants": [voice(assistant_voice)] if assistant_voice else None,
        **how(num_workers, engine, limit),
    }
    _run(out, "synthesize", config, sets, named, json, [source] if source else None)


@app.command("label-states")
def label_states(
    out: Out,
    config: Config = None,
    sets: options.Sets = None,
    source: InputsOf = None,
    backchannels: Annotated[
        Recorded,
        typer.Option(
            "--backchannels",
            help="Manifest of recorded back-channels (yeah, uh-huh ...); may be repeated.",
            metavar="JSONL",
        ),
    ] = None,
    asides: Annotated[
        Recorded,
        typer.Option(
            "--asides",
            help="Manifest of speech that is meant for others; may be repeated.",
            metavar="JSONL",
        ),
    ] = None,
    noises: Annotated[
        Recorded,
        typer.Option(
            "--noises",
            help="Manifest of coughs and other noises; may be repeated.",
            metavar="JSONL",
        ),
    ] = None,
    background: Annotated[
        Recorded,
        typer.Option(
            "--background",
            help="Manifest of other voices in the room; may be repeated.",
            metavar="JSONL",
        ),
    ] = None,
    limit: Limit = 0,
    num_workers: Workers = None,
    engine: Where = None,
    json: options.Json = False,
) -> None:
    """Compose recordings of the user's turns with a dialogue state for every 160 ms.

    Also makes turns that break off, back-channels, asides, noises and background voices: synthetic,
    or from recordings (--backchannels and so on take manifests).
    """
    own = {"backchannel": backchannels, "aside": asides, "noise": noises, "background": background}
    named = {f"label_states.recorded.{kind}": [str(path.resolve()) for path in paths]
             for kind, paths in own.items() if paths}  # fmt: skip
    _run(out, "label-states", config, sets, named | how(num_workers, engine, limit), json, source)


@app.command()
def encode(
    out: Out,
    model: ModelFolder = None,
    config: Config = None,
    sets: options.Sets = None,
    source: InputsOf = None,
    device: Annotated[
        str | None, typer.Option("--device", help="Where the codec runs: auto, cpu, cuda.")
    ] = None,
    limit: Limit = 0,
    num_workers: Workers = None,
    engine: Where = None,
    json: options.Json = False,
) -> None:
    """Add the tokens of a trained codec to sounds with their texts, for stage output-2.

    Of dialogues the assistant's turns are encoded; of any other manifest (--input) every item.
    """
    named = {"encode.model": model and named_folder(model), "encode.device": device}
    named |= how(num_workers, engine, limit)
    _run(out, "encode", config, sets, named, json, source)


@app.command()
def report(out: Out, json: options.Json = False) -> None:
    """Write report.md and report.html of a folder again."""
    from data_prep.report import write_report

    paths = write_report(options.existing_folder(out, "data folder"))
    if json:
        render.as_json(paths)
    else:
        render.result(f"report: {paths['html']}")


def _run(
    out: Path,
    step: str,
    config: str | None,
    sets: list[str] | None,
    named: dict[str, Any],
    json: bool,
    source: list[Path] | None = None,
) -> None:
    """One step by the config that is named or the folder's."""
    cfg = chain_config(read_config(config, out), sets, named)
    options.writable(out, "data folder")
    say_steps(run_steps(out, cfg, (step,), source), out, json)


prepare_sets.add_to(app)
bench.add_to(app)
speech.add_to(app)
app.command("align")(align)
