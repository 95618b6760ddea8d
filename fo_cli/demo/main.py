"""``fo demo``: the model that ships answers, and the whole pipeline runs once; or from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fo_cli import render
from fo_core.progress import Bars

if TYPE_CHECKING:
    from fo_cli.demo.config import DemoConfig, Steps


def demo(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder of the run; run again to continue. Default: runs/demo, or runs/line "
            "with --from-scratch.",
            metavar="DIR",
        ),
    ] = None,
    say: Annotated[
        list[str] | None,
        typer.Option(
            "--say", help="A question to ask aloud as well; may be repeated.", metavar="TEXT"
        ),
    ] = None,
    voice: Annotated[
        str | None,
        typer.Option(
            "--voice",
            help="Voice that says it. Default: the first offline engine that is installed.",
            metavar="ENGINE/VOICE",
        ),
    ] = None,
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch", help="Train a small closed-domain model from scratch: about an hour."
        ),
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a setting: a.b=c (see conf/demo.yaml, conf/from-scratch.yaml).",
            metavar="A=B",
        ),
    ] = None,
) -> None:
    """Hear fo-smol answer, then run every step of the pipeline at small size; ends with a report.

    fo-smol, which ships with the package, answers bundled recordings and each --say question. Then
    a dozen dialogues are made, each of the six stages runs for a few steps, and held-out questions
    are asked. No network is needed. Ctrl-C is safe; run the command again to continue.
    """
    from fo_cli.demo import config
    from fo_core.errors import FoError
    from fo_core.io.files import only_run

    if from_scratch and say:
        raise FoError("--say asks the model that ships", do="leave --from-scratch or --say out")
    name = config.SCRATCH if from_scratch else config.QUICK
    cfg = config.read_demo(name, tuple(changes or ()))
    out = out or Path("runs") / ("line" if from_scratch else "demo")
    steps = config.Steps(out.resolve(), cfg.start)
    with only_run(steps.out):
        check_settings(steps, cfg)
        found = _run(steps, cfg, say or (), voice)
    for line in found:
        render.result(line)


def _run(steps: Steps, cfg: DemoConfig, say: Any, voice: str | None) -> list[str]:
    """Everything that is not done yet, and the report; lines to show at the end."""
    import time

    from fo_cli.children import run_side_by_side
    from fo_cli.demo import ask, page, report
    from fo_cli.demo import steps as demo_steps
    from fo_cli.demo.config import processor_seconds

    began, both = time.perf_counter(), {"out": steps.out, "cfg": cfg}
    rows: list[dict[str, Any]] = []
    if cfg.start:
        asked = ask.questions(cfg, say, voice)
        if ask.answered(steps.out, cfg, asked) is None:
            with Bars() as bars:
                run_side_by_side({"ask": (ask.ask, both | {"asked": asked})}, 2, bars)
        rows = ask.answered(steps.out, cfg, asked) or []
        for row in rows:
            render.result(page.spoken_line(row))
    with Bars() as bars:
        for threads, names in demo_steps.PLAN:
            jobs = {
                name: (getattr(demo_steps, name), both)
                for name in names
                if not demo_steps.over(name, steps, cfg)
            }
            if jobs:
                run_side_by_side(jobs, threads, bars)
    spent = (time.perf_counter() - began, processor_seconds())
    if cfg.start:
        return page.write(steps, cfg, rows, *spent)
    return report.write(steps, cfg)


def check_settings(steps: Any, cfg: DemoConfig) -> None:
    """Refuse to mix two settings in one folder.

    Raises:
        FoError: The folder was begun with other settings.
    """
    from fo_core.config import to_dict
    from fo_core.errors import FoError
    from fo_core.io.checkpoint import read_json
    from fo_core.io.files import write_json

    path, settings = steps.out / "settings.json", to_dict(cfg)
    if not path.is_file():
        write_json(path, settings)
    elif read_json(path) != settings:
        raise FoError(
            f"{steps.out} was begun with other settings",
            possible=f"those in {path}",
            do="give --out another folder, or remove this one",
        )
