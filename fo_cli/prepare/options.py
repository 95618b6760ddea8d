"""What the commands of ``fo prepare-data`` have in common: options, config, running, telling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fo_cli import render
from fo_core.errors import FoError
from fo_core.progress import Bars

Limit = Annotated[int, typer.Option("--limit", help="Only the first N; 0 = all.", min=0)]
Out = Annotated[Path, typer.Option("--out", help="Folder of the data.", metavar="DIR")]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="YAML of the whole run, or a shipped one by name (domain, moss-smol, paper). "
        "Default: the settings that the folder was started with, else (if no files are "
        "given) domain, the demo's.",
        metavar="YAML|NAME",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--num-workers", help="Parallel processes (or Ray actors).", min=1),
]


class Engine(StrEnum):
    """Where the work runs."""

    local = "local"
    ray = "ray"


class Source(StrEnum):
    """Where the first step takes its rows from."""

    domain = "domain"
    moss = "moss"
    questions = "questions"
    corpus = "corpus"
    texts = "texts"


Where = Annotated[
    Engine | None,
    typer.Option("--engine", help="Run in local processes, or on the Ray cluster of $RAY_ADDRESS."),
]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        help="moss: .jsonl.zip, .jsonl(.gz), .json files or folders of them; questions, texts: "
        ".txt, .tsv, .csv, .jsonl; corpus: manifests.",
        metavar="[FILE|DIR]...",
    ),
]
From = Annotated[
    Source | None,
    typer.Option(
        "--source",
        help="What the inputs are: published dialogues (moss, the default), questions to answer, "
        "recorded questions (corpus), texts to speak.",
    ),
]


def voice(name: str) -> dict[str, Any]:
    """ENGINE/VOICE or ENGINE/VOICE@SHARE as a section of the config.

    Raises:
        FoError: It names no engine.
    """
    engine, slash, rest = name.partition("/")
    if not slash or not engine or not rest:
        raise FoError(f"voice {name!r} has no engine", possible="ENGINE/VOICE, as flite/slt")
    said, at, share = rest.rpartition("@")
    try:
        number = float(share) if at else 1.0
    except ValueError:
        said, number = rest, 1.0  # "@" is part of the name
    return {"engine": engine, "voice": said if at and said else rest, "share": number}


def read_config(config: str | None, out: Path, inputs: bool = False) -> dict[str, Any]:
    """The YAML that is named, shipped under that name, was the folder's, or is the demo's.

    With inputs and without a name or a folder's YAML it is empty: the defaults of every step.

    Raises:
        FoError: There is no such file or name.
    """
    from importlib.resources import files

    from fo_core.config import read_yaml
    from fo_core.registry import did_you_mean

    settings = out / "settings.json"
    if config is None and settings.is_file():
        return read_yaml(settings)
    if config is None and inputs:
        return {}
    path = Path(config or "domain")
    if config and (path.suffix or "/" in config):
        return read_yaml(path)
    shipped = Path(str(files("fo_core"))) / "conf" / "data"
    names = sorted(p.stem for p in shipped.glob("*.yaml"))
    if str(path) not in names:
        raise FoError(f"no config {config!r}", possible=did_you_mean(str(path), names))
    return read_yaml(shipped / f"{path}.yaml")


def chain_config(data: dict[str, Any], sets: Sequence[str] | None, named: Mapping[str, Any]) -> Any:
    """A ChainConfig from a YAML's data; over it options (not None), over them ``--set a.b=c``.

    Raises:
        ConfigError: A key or a value is wrong.
    """
    from data_prep.chain import ChainConfig
    from fo_core.config import load

    for key, value in named.items():
        if value is None:
            continue
        *above, last = key.split(".")
        place = data
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
    return load(ChainConfig, data, sets or ())


def inputs_of(
    inputs: Sequence[str] | None, source: Source | None, configured: str | None = None
) -> dict[str, Any]:
    """Options of the config that a command's inputs and their kind stand for.

    Args:
        inputs: Files or folders.
        source: What they are, if ``--source`` says it.
        configured: ``source`` of the config that the command reads.
    """
    if not inputs:
        return {"source": source and source.value}
    kind = source.value if source else configured or "moss"
    if kind == "domain":
        raise FoError("source domain takes no files", do="name another --source")
    section = "sample" if kind == "moss" else "texts"
    return {"source": kind, f"{section}.input": list(inputs)}


def how(workers: int | None, engine: Engine | None, limit: int) -> dict[str, Any]:
    """Options of the config's section run."""
    return {"run.workers": workers, "run.engine": engine and engine.value,
            "run.limit": limit or None}  # fmt: skip


def run_steps(
    out: Path, cfg: Any, steps: Sequence[str] | None, source: Sequence[Path] | None = None
) -> dict[str, Any]:
    """Run some steps, or (None) all with the report at the end; step -> its report."""
    from data_prep.chain import FOLDERS, run_chain
    from data_prep.report import write_report

    with Bars() as bars:
        given = source[0] if source and len(source) == 1 else source
        done = run_chain(cfg, out, steps or tuple(FOLDERS), bars, given)
    if steps is None:
        write_report(out)
        if "encode" not in done:
            render.note("no --model with a trained codec: encode is skipped")
    return done


def say_steps(steps: Mapping[str, Any], out: Path, json: bool) -> None:
    """What the steps did."""
    if json:
        render.as_json({"out": out, "steps": steps})
        return
    for name, count in steps.items():
        render.result(f"{name}: {', '.join(_said(count))}")
    pages = [name for name in ("report.html", "report.json") if (out / name).is_file()]
    render.result(f"data in {out}" + (f"; all counts are in {out / pages[0]}" if pages else ""))


def _said(count: Mapping[str, Any]) -> list[str]:
    """Numbers of a step's report, and groups of numbers; what lies deeper stays in the file."""
    said = []
    for key, value in count.items():
        name = key.replace("_", " ")
        if isinstance(value, int | float):
            said.append(f"{name} {value:,}")
        elif isinstance(value, dict) and all(isinstance(v, int | float) for v in value.values()):
            inner = ", ".join(f"{k} {v:,}" for k, v in value.items())
            said += [f"{name} ({inner})"] if inner else []
    return said
