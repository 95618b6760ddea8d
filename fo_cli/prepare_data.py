"""``fo prepare-data``: from published dialogues, or from nothing, to manifests that train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fo_cli import options, prepare_sets, prepare_speech, render
from fo_cli.errors import PoliteGroup
from fo_cli.prepare_options import Engine, Limit, as_yaml
from fo_cli.progress import Bars
from fo_core.errors import FoError

app = typer.Typer(
    no_args_is_help=True,
    cls=PoliteGroup,
    help="Make training data. The steps build on each other: sample, regenerate, synthesize, "
    "label-states, encode; `all` does them in one go. Run again to go on after any stop.",
)


Out = Annotated[Path, typer.Option("--out", help="Folder of the data.", metavar="DIR")]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="YAML of the whole run, or a shipped one by name (moss-smol, paper). Without: what "
        "the folder was begun with, else the demo's small domain.",
        metavar="YAML|NAME",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--num-workers", help="Processes (or Ray actors) side by side.", min=1),
]
Where = Annotated[
    Engine | None,
    typer.Option("--engine", help="Local processes, or the Ray cluster of $RAY_ADDRESS."),
]
Input = Annotated[
    Path | None,
    typer.Option("--input", help="Manifest to read instead of the step's before.", metavar="JSONL"),
]
ModelFolder = Annotated[
    Path | None,
    typer.Option("--model", help="Model folder whose codec encodes.", metavar="DIR"),
]


@app.command("all")
def every_step(
    out: Out,
    config: Config = None,
    sets: options.Sets = None,
    model: ModelFolder = None,
    limit: Limit = 0,
    num_workers: Workers = None,
    engine: Where = None,
    json: options.Json = False,
) -> None:
    """Every step of a YAML that is not done yet, and the report at the end."""
    more = _more(num_workers, engine, limit, {"encode.model": model})
    _run(out, None, config, sets, more, json, model=model)


app.command("sample")(prepare_sets.sample)


@app.command()
def regenerate(
    out: Out,
    config: Config = None,
    sets: options.Sets = None,
    source: Input = None,
    llm: Annotated[
        str | None,
        typer.Option("--llm", help="Folder, hub id, .gguf, embedded; the endpoint's model."),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", help="Ask this OpenAI-compatible endpoint.", metavar="URL"),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="Of a local LLM: auto, cpu, cuda.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Questions at a time.", min=1)
    ] = None,
    limit: Limit = 0,
    num_workers: Workers = None,
    engine: Where = None,
    json: options.Json = False,
) -> None:
    """Let the frozen LLM answer every user turn, on its own earlier answers."""
    named = {"llm": llm, "base_url": base_url, "device": device, "batch_size": batch_size}
    named["engine"] = "openai" if base_url else None
    more = _more(num_workers, engine, limit, {f"regenerate.{k}": v for k, v in named.items()})
    _run(out, "regenerate", config, sets, more, json, source)


@app.command()
def synthesize(
    out: Out,
    config: Config = None,
    sets: options.Sets = None,
    source: Input = None,
    user_voice: Annotated[
        list[str] | None,
        typer.Option("--user-voice", help="A voice of the users.", metavar="ENGINE/VOICE"),
    ] = None,
    assistant_voice: Annotated[
        str | None,
        typer.Option("--assistant-voice", help="That of the answers.", metavar="ENGINE/VOICE"),
    ] = None,
    limit: Limit = 0,
    num_workers: Workers = None,
    engine: Where = None,
    json: options.Json = False,
) -> None:
    """Speak both sides of the dialogues, every turn a sound file."""
    voices: dict[str, Any] = {"synthesize.users": _voices(user_voice or [])}
    voices["synthesize.assistants"] = _voices([assistant_voice] if assistant_voice else [])
    more = _more(num_workers, engine, limit, voices)
    _run(out, "synthesize", config, sets, more, json, source)


@app.command("label-states")
def label_states(
    out: Out,
    config: Config = None,
    sets: options.Sets = None,
    source: Input = None,
    limit: Limit = 0,
    num_workers: Workers = None,
    engine: Where = None,
    json: options.Json = False,
) -> None:
    """Compose recordings of the user's turns with a dialogue state for every 160 ms."""
    more = _more(num_workers, engine, limit, {})
    _run(out, "label-states", config, sets, more, json, source)


@app.command()
def encode(
    out: Out,
    model: ModelFolder = None,
    config: Config = None,
    sets: options.Sets = None,
    source: Input = None,
    device: Annotated[
        str | None, typer.Option("--device", help="Where the codec runs: auto, cpu, cuda.")
    ] = None,
    limit: Limit = 0,
    num_workers: Workers = None,
    engine: Where = None,
    json: options.Json = False,
) -> None:
    """Add the tokens of a trained codec to the assistant's sounds."""
    named = {"encode.model": model, "encode.device": device}
    _run(out, "encode", config, sets, _more(num_workers, engine, limit, named), json, source, model)


@app.command()
def report(out: Out, json: options.Json = False) -> None:
    """Write report.md and report.html of a folder anew."""
    from data_prep.report import write_report

    paths = write_report(options.existing_folder(out, "data folder"))
    if json:
        render.as_json(paths)
    else:
        render.result(f"report: {paths['html']}")


def _voices(names: list[str]) -> list[dict[str, str]] | None:
    """ENGINE/VOICE names as sections of the config."""
    for name in names:
        if "/" not in name:
            raise FoError(f"voice {name!r} has no engine", possible="ENGINE/VOICE, as flite/slt")
    split = [name.partition("/") for name in names]
    return [{"engine": engine, "voice": voice} for engine, _, voice in split] or None


def _more(
    workers: int | None, engine: Engine | None, limit: int, named: dict[str, Any]
) -> list[str]:
    """Options as ``a.b=c`` changes of the config."""
    given = {
        "run.workers": workers,
        "run.engine": engine and engine.value,
        "run.limit": limit or None,
    }
    return [f"{k}={as_yaml(v)}" for k, v in {**given, **named}.items() if v is not None]


def _run(
    out: Path,
    step: str | None,
    config: str | None,
    sets: list[str] | None,
    more: list[str],
    json: bool,
    source: Path | None = None,
    model: Path | None = None,
) -> None:
    """One step, or all, of the source that the config or the folder names."""
    data = _read(config, out)
    changes = [*(sets or ()), *more]
    kind = next((c[7:] for c in changes[::-1] if c.startswith("source=")), data.get("source"))
    changes = [c for c in changes if not c.startswith("source=")]
    if kind is None and source is not None:
        kind = "moss"  # the demo's domain reads no manifest
    if kind not in (None, "domain", "moss"):
        raise FoError(f"unknown source {kind!r}", possible="domain, moss")
    options.writable(out, "data folder")
    if kind == "moss":
        steps = _moss({**data, "source": "moss"}, out, step, changes, source)
    else:
        data.pop("source", None)
        workers = [f"num_workers={c[12:]}" for c in changes if c.startswith("run.workers=")]
        own = [c for c in changes if not c.startswith(("run.", "encode.model="))]
        if any(c.startswith(("run.limit=", 'run.engine="ray')) for c in changes):
            raise FoError("--limit and --engine are of the source moss", do="give --config")
        steps = _domain(data, out, step, [*own, *workers], model)
    _say(steps, out, json)


def _read(config: str | None, out: Path) -> dict[str, Any]:
    """The YAML that is named, shipped under that name, or was the folder's."""
    from importlib.resources import files

    from fo_core.config import read_yaml
    from fo_core.registry import did_you_mean

    if config is None:
        settings = out / "settings.json"
        return read_yaml(settings) if settings.is_file() else {}
    path = Path(config)
    if path.suffix or "/" in config:
        return read_yaml(path)
    shipped = Path(str(files("fo_core"))) / "conf" / "data"
    names = sorted(p.stem for p in shipped.glob("*.yaml"))
    if config not in names:
        raise FoError(f"no config {config!r}", possible=did_you_mean(config, names))
    return read_yaml(shipped / f"{config}.yaml")


def _moss(
    data: dict[str, Any], out: Path, step: str | None, changes: list[str], source: Path | None
) -> dict[str, Any]:
    from data_prep.chain import FOLDERS, ChainConfig, run_chain
    from data_prep.report import write_report
    from fo_core.config import load

    cfg = load(ChainConfig, data, changes)
    with Bars() as bars:
        done = run_chain(cfg, out, tuple(FOLDERS) if step is None else (step,), bars, source)
    if step is None:
        write_report(out)
        if "encode" not in done:
            render.note("no --model with a trained codec: encode is left out")
    return done


def _domain(
    data: dict[str, Any], out: Path, step: str | None, changes: list[str], model: Path | None
) -> dict[str, Any]:
    """The demo's small domain, made from nothing."""
    from data_prep.pipeline import STEPS, PrepareConfig, prepare
    from fo_core.config import load

    if step == "encode" and model is None:
        raise FoError(
            "encode needs a model folder with a trained codec",
            do="give --model DIR (stage output-1 trains the codec)",
        )
    cfg = load(PrepareConfig, data, changes)
    counts: dict[str, Any] = {}
    with Bars() as bars:
        if step != "encode":
            counts |= prepare(cfg, out, bars, steps=(step,) if step else STEPS)["steps"]
        if model is not None and step in (None, "encode"):
            counts["encode"] = _encode(out, model, bars)
    return counts


def _say(steps: dict[str, Any], out: Path, json: bool) -> None:
    if json:
        render.as_json({"out": out, "steps": steps})
        return
    for name, count in steps.items():
        render.result(f"{name}: {', '.join(_said(count))}")
    pages = [name for name in ("report.html", "report.json") if (out / name).is_file()]
    render.result(f"data in {out}" + (f"; all counts are in {out / pages[0]}" if pages else ""))


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
    from fo_core.devices import choose
    from fo_core.models.freeze_omni import load_codec

    device = choose("auto")
    codec = load_codec(model, device)
    return {
        path.stem: len(encode_manifest(path, codec, device=device, progress=bars))
        for path in manifests
    }


prepare_sets.add_to(app)
prepare_speech.add_to(app)
