"""``fo prepare-data`` sample, import, split, validate and shard: sets from and for elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fo_cli import options, render
from fo_cli.prepare.options import (
    Config,
    Engine,
    From,
    Inputs,
    Limit,
    chain_config,
    how,
    inputs_of,
    read_config,
    run_steps,
    say_steps,
)
from fo_core.errors import FoError
from fo_core.progress import Bars

Out = Annotated[Path, typer.Option("--out", help="Output folder.", metavar="DIR")]
Workers = Annotated[
    int, typer.Option("--num-workers", help="Parallel processes (or Ray actors).", min=1)
]


Where = Annotated[
    Engine,
    typer.Option("--engine", help="Run in local processes, or on the Ray cluster of $RAY_ADDRESS."),
]


class Balance(StrEnum):
    """What dialogues are drawn evenly by."""

    category = "category"
    language = "language"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("import")(import_corpus)
    app.command("split")(split)
    app.command("validate")(validate)
    app.command("shard")(shard)


class By(StrEnum):
    """What must not be on both sides of a split."""

    dialogue = "dialogue"
    text = "text"
    speaker = "speaker"


def sample(
    out: Out,
    inputs: Inputs = None,
    source: From = None,
    config: Config = None,
    sets: options.Sets = None,
    number: Annotated[
        int | None, typer.Option("--number", help="Dialogues to draw.", min=1)
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Random seed of the selection.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option("--category", help="Only this one; may be repeated.")
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option("--language", help="Only this language: en, zh ...; may be repeated."),
    ] = None,
    by: Annotated[
        Balance | None, typer.Option("--by", help="Draw the same number of each.")
    ] = None,
    no_filter: Annotated[
        list[str] | None,
        typer.Option("--no-filter", help="Turn a filter off (all: every filter); may be repeated."),
    ] = None,
    tools: Annotated[bool, typer.Option("--tools", help="Keep turns that used a tool.")] = False,
    limit: Limit = 0,
    json: options.Json = False,
) -> None:
    """Draw dialogues at random from moss-003, read questions or texts, or plan the demo's domain.

    moss: one pass in bounded memory; the same dialogues for the same seed from any form of the
    data. What cannot be said aloud (code, tables, links ...) is filtered, counted and listed.
    """
    named: dict[str, Any] = {
        "number": number,
        "seed": seed,
        "categories": category or None,
        "languages": language or None,
        "by": by and by.value,
        "no_filter": no_filter or None,
        "tools": tools or None,
    }
    given = {f"sample.{key}": value for key, value in named.items()}
    data = read_config(config, out, bool(inputs))
    given |= {**inputs_of(inputs, source, data.get("source")), **how(None, None, limit)}
    cfg = chain_config(data, sets, given)
    options.writable(out, "data folder")
    done = run_steps(out, cfg, ("sample",))
    say_steps(done, out, json)
    filters = done["sample"].get("filters")
    if filters and not json:
        rows = [(each, *(f"{found[key]:,}" for key in ("turns", "cut", "dropped")))
                for each, found in filters.items() if any(found.values())]  # fmt: skip
        render.table(("filter", "turns", "dialogues shortened", "dialogues dropped"), rows)


def import_corpus(
    name: Annotated[str, typer.Argument(help="Corpus; `list` says which there are.")],
    source: Annotated[
        Path | None, typer.Argument(help="Its folder, or a table.", metavar="FOLDER|FILE")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the manifests.", metavar="DIR")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the corpus: text=COLUMN ...", metavar="A=B"),
    ] = None,
    channel: options.Channel = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Language, where the rows do not name it.")
    ] = None,
    val: Annotated[
        float,
        typer.Option("--val", help="Hold out this share: train.jsonl and val.jsonl.", min=0, max=1),
    ] = 0.0,
    limit: Limit = 0,
    num_workers: Workers = 2,
    engine: Where = Engine.local,
    json: options.Json = False,
) -> None:
    """Make manifests of a corpus of transcribed speech; its sounds stay where they are.

    Options of table: audio, text, id, speaker, start, end, duration, language_column, split_column,
    channel_column, root. Of hf (a hub id or a folder): audio, text, id, speaker, language_column,
    part, subset, sounds.
    """
    from data_prep.corpora import CORPORA, CorpusOptions

    if name == "list" and source is None:
        corpora = {each: CORPORA.load(each) for each in CORPORA.names()}
        if json:
            render.as_json({each: found.LAYOUT for each, found in corpora.items()})
        else:
            render.table(
                ("corpus", "what it is", "what must be there"),
                [(each, found.SUMMARY, found.LAYOUT) for each, found in corpora.items()],
            )
        return
    if source is None or out is None:
        missing = "a folder to read" if source is None else "--out"
        raise FoError(
            f"import {name} needs {missing}", do=f"fo prepare-data import {name} SRC --out DIR"
        )
    from data_prep.import_corpus import run
    from fo_core.config import load

    options.writable(out, "folder of the manifests")
    given = {"language": language} if language else {}
    given |= {"channel": str(channel)} if channel is not None else {}
    chosen = load(CorpusOptions, given, sets or ())
    with Bars() as bars:
        report = run(name, source, out, chosen, _how(num_workers, engine, limit), bars)
    parts = report["splits"]
    if val:
        from data_prep.steps.split import SplitConfig, one_part

        parts = one_part(out, SplitConfig(val=val), list(parts))["splits"]
        report = {**report, "splits": parts}
    if json:
        render.as_json(report)
        return
    _say_parts(parts, out)
    _say_rejects(report, out / "rejects.jsonl")
    if report["channels_averaged"]:
        render.note(
            f"{report['channels_averaged']:,} utterances have several channels, which are "
            "averaged; --channel N takes one"
        )


def split(
    manifests: Annotated[
        list[str], typer.Argument(help="Manifests that are split together.", metavar="JSONL...")
    ],
    out: Out,
    val: Annotated[float, typer.Option("--val", help="Share for validation.", min=0, max=1)] = 0.05,
    test: Annotated[float, typer.Option("--test", help="Share for a test set.", min=0, max=1)] = 0,
    by: Annotated[
        list[By] | None,
        typer.Option(
            "--by",
            help="What must not be in two parts: dialogue (text, where there is none), text, "
            "speaker. Repeated: the first one draws the parts, and items that share another "
            "one with held-out items are skipped.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of the split.")] = 0,
    json: options.Json = False,
) -> None:
    """Cut an imported corpus into train.jsonl, val.jsonl and test.jsonl."""
    from data_prep.steps.split import SplitConfig, run
    from fo_core.config import load

    options.writable(out, "folder of the manifests")
    given = {"val": val, "test": test, "seed": seed}
    cfg = load(SplitConfig, {**given, **({"by": [str(b) for b in by]} if by else {})})
    with Bars() as bars:
        report = run(manifests, out, cfg, bars)
    if json:
        render.as_json(report)
        return
    _say_parts(report["splits"], out)
    for reason, count in report["left_out"].items():
        render.note(f"skipped {count:,}: {reason}")


def _say_parts(parts: dict[str, Any], out: Path) -> None:
    rows = [(part, f"{found['items']:,}", f"{found['hours']:.2f}", str(out / f"{part}.jsonl"))
            for part, found in parts.items()]  # fmt: skip
    render.table(("part", "utterances", "hours", "manifest"), rows)


def validate(
    manifest: Annotated[
        str, typer.Argument(help="Manifest, or a set of shards.", metavar="JSONL|DIR|URL")
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against", help="Manifest that must share nothing with this one; may be repeated."
        ),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", help="Write a copy without the errors.", metavar="JSONL"),
    ] = None,
    rejects: Annotated[
        Path | None, typer.Option("--rejects", help="File that lists every error.", metavar="JSONL")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", help="Turn a check off; may be repeated.")
    ] = None,
    headers: Annotated[
        bool, typer.Option("--headers", help="Read only the headers of the sounds; fast.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")] = False,
    sets: options.Sets = None,
    limit: Limit = 0,
    num_workers: Workers = 2,
    engine: Where = Engine.local,
    json: options.Json = False,
) -> None:
    """Check a manifest: files, lengths, samples, texts, states, tokens, twins and leaks.

    Exit status 1 if there are errors.
    """
    from data_prep.checks import LEVELS, CheckConfig
    from data_prep.steps.validate import run
    from fo_core.config import load

    if fix is not None and fix == rejects:
        raise FoError(f"--fix and --rejects are both {fix}", do="name two files")
    for path, what in ((fix, "cleaned copy"), (rejects, "list of faults")):
        if path is not None:
            options.writable(path, what, read=[Path(each) for each in (manifest, *(against or ()))])
    given = {"ignore": ignore or [], "decode": not headers}
    cfg = load(CheckConfig, given, sets or ())
    with Bars() as bars:
        report = run(
            manifest, cfg, against or (), fix, rejects, _how(num_workers, engine, limit), bars
        )
    failed = bool(report["errors"] or (strict and report["warnings"]))
    if json:
        render.as_json({**report, "ok": not failed})
    else:
        rows = [
            (check, LEVELS[check], f"{found['count']:,}", _example(found["examples"][0]))
            for check, found in report["checks"].items()
        ]
        if rows:
            _table(("check", "level", "items", "for example"), rows)
        kept = f", {report['kept']:,} kept in {fix}" if "kept" in report else ""
        render.result(
            f"{report['items']:,} items, {report['seconds'] / 3600:.2f} h: "
            f"{report['errors']:,} with errors, {report['warnings']:,} with warnings{kept}"
        )
    if failed:
        raise typer.Exit(1)


def shard(
    manifest: Annotated[Path, typer.Argument(help="Manifest of cuts.", metavar="JSONL")],
    out: Out,
    size: Annotated[int, typer.Option("--shard-size", help="Items per shard.", min=1)] = 1000,
    limit: Limit = 0,
    num_workers: Workers = 2,
    engine: Where = Engine.local,
    json: options.Json = False,
) -> None:
    """Write a large set as lhotse Shar shards; training reads DIR, or its URL, like a manifest."""
    from data_prep.steps.shard import ShardConfig, run

    options.existing_file(manifest, "manifest")
    options.writable(out, "folder of the shards")
    with Bars() as bars:
        report = run(ShardConfig(size), manifest, out, _how(num_workers, engine, limit), bars)
    if json:
        render.as_json(report)
        return
    render.result(
        f"{report['made']:,} items, {report['audio_hours']:.2f} h, {report['bytes'] / 1e6:,.1f} MB "
        f"in {report['shards']} shards: {out}"
    )
    _say_rejects(report, out / "rejects.jsonl")


def _how(workers: int, engine: Engine, limit: int) -> Any:
    from data_prep.runner.run import RunConfig

    return RunConfig(workers, engine.value, limit)


def _example(found: dict[str, Any]) -> str:
    return f"line {found['line']} {found['id']}: {found['said']}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """In colours where someone watches; plain and uncut otherwise."""
    if not sys.stdout.isatty():
        render.table(head, rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*head)
    for row in rows:
        colour = "red" if "error" in row else "yellow"
        table.add_row(*row[:1], f"[{colour}]{row[1]}[/]", *row[2:-1], row[-1].replace("[", "\\["))
    Console().print(table)


def _say_rejects(report: dict[str, Any], path: Path) -> None:
    if report["rejected"]:
        said = ", ".join(f"{reason} {count:,}" for reason, count in report["rejected"].items())
        render.note(f"skipped: {said}; all are in {path}")
