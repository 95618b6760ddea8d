"""``fo demo``: from nothing to a spoken answer on a frozen LLM, and an honest report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fo_cli import render
from fo_cli.progress import Bars

if TYPE_CHECKING:
    from fo_cli.demo_steps import DemoConfig


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the run; run again to go on.", metavar="DIR")
    ] = Path("runs/demo"),
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting: a.b=c (see conf/demo.yaml).", metavar="A=B"),
    ] = None,
) -> None:
    """Data, six training stages and the state head, held-out questions, report: in one go.

    Everything is made on this machine, without a network: the frozen LLM (SmolLM2-135M-Instruct),
    the voices and the judge come from installed packages. Ctrl-C is safe; run again to go on.
    """
    from filelock import FileLock, Timeout

    from fo_cli import demo_report, demo_steps
    from fo_cli.children import run_side_by_side
    from fo_core.errors import FoError

    cfg = demo_steps.read_demo(tuple(changes or ()))
    steps = demo_steps.Steps(out.resolve())
    steps.out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(steps.out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FoError(f"another run works in {out}", do="wait for it, or give --out") from None
    with lock:
        check_settings(steps, cfg)
        both: dict[str, Any] = {"out": steps.out, "cfg": cfg}
        with Bars() as bars:
            for threads, names in demo_steps.PLAN:
                jobs = {n: (getattr(demo_steps, n), both) for n in names if not steps.over(n)}
                if jobs:
                    run_side_by_side(jobs, threads, bars)
        found = demo_report.write(steps, cfg)
    for line in found:
        render.result(line)


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
