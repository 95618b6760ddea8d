"""``fo eval all``: one command, one page: every part of a suite that can be measured here."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from eval.suites import SUITES, Part
from fo_cli import options, render
from fo_cli.eval import measure
from fo_cli.eval import options as shared
from fo_core.errors import CheckpointError, DataError, EngineError, FoError
from fo_core.registry import did_you_mean

COMMANDS: dict[str, Callable[..., None]] = {}  # of the tables; fo_cli.eval.main puts them here


def run_all(
    suite: Annotated[
        str,
        typer.Option(
            "--suite",
            help="quick: the 60 recordings of LLaMA Questions, 100 Web and 100 Trivia questions; "
            "paper: tables 1 to 4 of the paper, where $FO_DATA has the data.",
        ),
    ] = "quick",
    out: shared.Out = None,
    model: shared.Model = None,
    baseline: Annotated[
        bool, typer.Option("--baseline/--no-baseline", help="Also measure the cascade.")
    ] = True,
    only: Annotated[
        list[str] | None, typer.Option("--part", help="Only this part; may be repeated.")
    ] = None,
    tts: Annotated[
        str,
        typer.Option(
            "--tts",
            help="Engine that speaks questions without recordings; auto: as for a single set.",
        ),
    ] = measure.AUTO,
    second_judge: shared.SecondJudge = None,
    dnsmos: shared.Dnsmos = True,
    utmos: shared.Utmos = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, help="Longest answer, typed or spoken.")
    ] = 128,
    limit: shared.Limit = None,
    resume: shared.Resume = True,
    rescore: shared.Rescore = False,
    seed: shared.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Measure a model on a suite: tables of the paper and other sets, on one page.

    A stopped run continues with the same command. A part without data is named on the page and
    skipped. The cascade (a recogniser, the same LLM, a TTS engine) is measured for comparison.
    """
    from eval.harness import OtherRunError

    if suite not in SUITES:
        raise FoError(f"unknown suite {suite!r}", possible=did_you_mean(suite, list(SUITES)))
    parts = SUITES[suite]
    wanted = shared.chosen(only, [part.name for part in parts], "--part")
    given: dict[str, Any] = {
        "model": model,
        "max_new_tokens": max_new_tokens,
        "second_judge": second_judge,
        "dnsmos": dnsmos,
        "utmos": utmos,
        "resume": resume,
        "rescore": rescore,
        "seed": seed,
        "device": device,
        "tts": tts,
        "baseline": "cascade" if baseline else None,
    }
    given |= {"limit": limit} if limit else {}
    out = shared.results(out, suite)
    if model is None and not rescore:
        given["model"] = options.DEFAULT_MODEL
    left: dict[str, str] = {}
    if baseline and not rescore:
        try:
            shared.cascade("faster-whisper", "hibari", "en")
        except EngineError as error:
            given["baseline"] = None
            left["cascade"] = str(error)
            render.note(f"no cascade beside the model: {error}")
    for part in parts:
        if wanted and part.name not in wanted:
            left[part.name] = "not asked for (--part)"
            continue
        render.note(f"part {part.name}")
        try:
            (_table if part.command in COMMANDS else _questions)(part, out / part.name, given)
        except (CheckpointError, OtherRunError):
            raise
        except DataError as error:
            left[part.name] = str(error)
            render.note(f"part {part.name} left out: {error}")
    _show(suite, out, [p.name for p in parts if p.name not in left], left, json)


def _show(suite: str, out: Path, parts: list[str], left: dict[str, str], json: bool) -> None:
    from eval.report.results import write_page
    from eval.report.suite import collect, read_suite, suite_page

    if not parts:
        first = next(iter(left.items()))
        raise DataError(
            f"no part of the suite {suite} could be measured ({first[0]}: {first[1]})",
            do="put the sets into a folder and set FO_DATA to it",
        )
    overview = collect(out, suite, parts, left)
    page = suite_page(overview, read_suite(out)[1])
    paths = write_page(out, overview, page)
    if json:
        render.as_json(overview)
        return
    for section in page.sections:
        render.result(f"\n{section.title}. {section.text}")
        for table in section.tables:
            render.table(table.head, table.rows)
    render.note(f"report: {paths['html']}; a folder for each part beside it")


def _questions(part: Part, out: Path, given: dict[str, Any]) -> None:
    from eval.report.results import write_page

    known = {k: v for k, v in given.items() if k in measure.OPTIONS}
    known |= {k: v for k, v in part.options.items() if not (k == "limit" and given.get("limit"))}
    done = measure.measure(part.command, measure.SetOptions(out=out, **known))
    write_page(out, done.overview, done.page)


def _data(part: Part, rescore: bool) -> Path:
    """What a part needs of ``$FO_DATA``.

    Raises:
        DataError: It is not there.
    """
    folder = os.environ.get("FO_DATA", "")
    place = Path(folder or "$FO_DATA") / part.needs
    if not rescore and (not folder or not place.exists()):
        raise DataError(f"no {place}", do=f"put it at $FO_DATA/{part.needs}")
    return place


def _table(part: Part, out: Path, given: dict[str, Any]) -> None:
    """Tables 1 and 2: their own commands, on data that the part needs."""
    place = _data(part, given["rescore"])
    takes = {"asr": ("corpus", ()), "tts": ("data", ("dnsmos", "utmos"))}
    option, more = takes[part.command]
    names = ("model", "resume", "rescore", "seed", "device", "limit", *more)
    own = {name: given[name] for name in names if name in given}
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the suite's own result
        COMMANDS[part.command](out=out, **{option: place}, **part.options, **own)
