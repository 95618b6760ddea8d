"""``fo profile``: how fast a model talks on this machine."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fo_cli import options, render
from fo_cli.profile.serve import serve
from fo_cli.profile.throughput import throughput
from fo_cli.profile.train import train
from fo_core.devices.compute import choose
from fo_core.errors import FoError

if TYPE_CHECKING:
    from fo_core.models.freeze_omni import FreezeOmni
    from fo_core.models.precision import Choice

app = typer.Typer(no_args_is_help=True, help="Measure a model's speed on this machine.")
app.command("throughput")(throughput)
app.command("serve")(serve)
app.command("train")(train)

RANDOM = ("small", "paper", "smol", "tiny", "paper-7b")  # of these shapes, with random weights
SESSIONS = (1, 8, 32)
Weights = Literal["auto", "same", "fp16", "bf16", "int8"]


@app.command("latency")
def latency(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help=f"{options.MODEL_HELP} Or small, paper, smol, tiny: random weights of that shape. "
            "May be repeated; fo-smol if none.",
            metavar="DIR|NAME",
        ),
    ] = None,
    size: options.RandomSize = None,
    random: options.Random = False,
    sessions: Annotated[
        list[int] | None,
        typer.Option(
            "--sessions",
            min=1,
            help="Users whose steps run together; may be repeated. With --size: 1, 8 and 32.",
        ),
    ] = None,
    weights: Annotated[
        Weights,
        typer.Option(
            help="Precision of the matrices; auto: the fastest, measured on this CPU, and bf16 on "
            "CUDA."
        ),
    ] = "auto",
    static: Annotated[
        bool | None,
        typer.Option(
            "--static/--no-static",
            help="Short steps in fixed shapes, on CUDA as graphs; without: on CUDA only.",
        ),
    ] = None,
    device: options.Device = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Number of torch threads.")] = 1,
    repeat: Annotated[int, typer.Option(min=1, help="Runs behind each median of a step.")] = 5,
    steps: Annotated[bool, typer.Option(help="Time the single steps.")] = True,
    runs: Annotated[int, typer.Option(min=1, help="Talks behind the paper's four legs.")] = 10,
    warmup: Annotated[
        int, typer.Option(min=0, help="Talks before them, which are not counted.")
    ] = 1,
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Random seed of the first talk; each further talk has the next one."
        ),
    ] = 0,
    first_chunk: Annotated[
        int,
        typer.Option(min=1, max=160, help="Speech tokens of the first audio, in the four legs."),
    ] = 40,  # at most a talk's answer (eval.latency.legs.PIECE)
    against: Annotated[
        Literal["original"] | None,
        typer.Option(help="Print what the original program took beside it, and on which machine."),
    ] = None,
    original: Annotated[
        Path | None,
        typer.Option(
            "--original",
            help="With --against: a published checkpoint (checkpoints/ and llm/), which answers "
            "in turns with the model, in the same run.",
            metavar="DIR",
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", help="Write the last talk as a Chrome trace.", metavar="JSON"),
    ] = None,
    timeline: Annotated[
        Path | None,
        typer.Option("--timeline", help="Write the last talk as a picture.", metavar="PNG"),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown tables of each model.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Time every step of the stream, and the paper's four legs from a decision to the first sound.

    Beside each step and leg stands its bound (the bytes that it has to read over the memory
    bandwidth measured in the same run, or its operations over those a second, whichever takes
    longer) and the share of it that is reached; beside the legs the paper's table 4, which was
    measured on a GPU. Numbers of a busy machine are numbers of a busy machine.
    """
    shape = options.random_size(size, random, model)
    asked = model or [str(options.DEFAULT_MODEL)]
    names = [shape] if shape else list(dict.fromkeys(asked))
    counts = sessions or (SESSIONS if shape else ())
    folders = {n: None if n in RANDOM else options.model_folder(n, also=RANDOM) for n in names}
    if markdown and json:
        raise FoError("--markdown and --json exclude each other")
    if original is not None and against is None:
        raise FoError("--original is for a comparison", do="add --against original")
    device = choose(device)
    if weights == "auto" and device != "cpu":
        weights = "bf16" if device.startswith("cuda") else "same"
    if device != "cpu" and weights not in ("same", "bf16"):
        raise FoError(f"--weights {weights} is of a CPU", do="leave it out, or --device cpu")
    for path, what, kind in ((trace, "trace", ".json"), (timeline, "timeline", ".png")):
        if path is not None:
            options.writable(path, what, kind)

    from eval.latency import paired, table
    from eval.latency.legs import measure_legs
    from eval.latency.original import MACHINE
    from eval.latency.stream import measure
    from eval.latency.together import HEAD as TOGETHER
    from eval.latency.together import together
    from eval.latency.trace import write_timeline, write_trace
    from fo_core.layers import kernels
    from fo_core.models.static_shapes import ROWS

    say = render.note if sys.stderr.isatty() else (lambda text: None)
    theirs = paired.published(original, device) if original is not None else None
    reports, legs, both, users = [], [], [], []
    rows = max(ROWS, *counts, 1)
    for name, folder in folders.items():
        say(f"{name}: loading")
        ready = _model(name, folder, device, weights)
        choice = _choice(ready, weights, threads)
        found = measure(
            ready, name, choice.precision, threads, repeat, steps, first_chunk, static, rows, say
        )
        found.choice = str(choice) if choice.times else ""
        reports.append(found)
        bounds = reports[-1].leg_bounds
        legs.append(measure_legs(ready, runs, warmup, seed, first_chunk, bounds, say))
        users.append(together(ready, counts, repeat, say))
        if theirs is not None:
            both.append(paired.pairs(ready, theirs, runs, seed, first_chunk, say))
    if trace is not None:
        write_trace(trace, legs[-1].talks[-1])
    if timeline is not None:
        last = reports[-1]
        title = f"{last.size}, weights {last.weights}, threads {threads}"
        write_timeline(timeline, legs[-1].talks[-1], title)
    used = {}
    if device == "cpu":
        used = kernels.taken() if weights == "auto" else kernels.taken([weights])
    if json:
        told = [
            table.as_dict(report)
            | {"four_legs": table.legs_dict(own), "sessions": [asdict(one) for one in batched]}
            for report, own, batched in zip(reports, legs, users, strict=True)
        ]
        for one, pairs in zip(told, both, strict=False):
            one["paired"] = [asdict(pair) for pair in pairs]
        machine = table.machine() | {"device": device, "kernels": used}
        if against:
            machine["original"] = MACHINE
        render.as_json({"machine": machine, "reports": told})
    elif markdown:
        render.result(table.markdown(reports, legs, used, against is not None))
        for batched in filter(None, users):
            render.result(table.markdown_table(TOGETHER, [one.cells for one in batched]))
        for pairs in both:
            render.result(table.markdown_table(paired.HEAD, [pair.cells for pair in pairs]))
    else:
        if used:
            render.result(kernels.say(used))
        if against:
            render.result(MACHINE)
        for report, own in zip(reports, legs, strict=True):
            render.result(f"{report.size}, weights {report.weights}, {report.threads} thread(s)")
            if report.choice:
                render.result(f"measured on this CPU: {report.choice}")
            if report.rows:
                cells = [table.cells(row, against is not None) for row in report.rows]
                render.table(table.head(against is not None), cells)
            render.result(table.report_notes(report))
            render.table(table.LEGS_HEAD, [table.leg_cells(leg) for leg in own.legs])
            render.result(table.legs_notes(own))
        for batched in filter(None, users):
            render.table(TOGETHER, [one.cells for one in batched])
        for pairs in both:
            render.result(f"in turns with the published checkpoint {original}, float32:")
            render.table(paired.HEAD, [pair.cells for pair in pairs])


def _choice(model: FreezeOmni, weights: Weights, threads: int) -> Choice:
    """The precision that is asked for, or the one that is best on this CPU."""
    import torch

    from fo_core.models.precision import Choice, Precision, choose

    if weights != "auto":
        return Choice(Precision.of(weights), {})
    torch.set_num_threads(threads)
    return choose(model)


def _model(name: str, folder: Path | None, device: str, weights: Weights) -> FreezeOmni:
    import torch

    from eval.latency.models import check_memory, endless, random_model

    if folder is None:
        halved = device != "cpu" and weights != "same"
        dtype = torch.bfloat16 if halved else torch.float32
        check_memory(name, device, dtype)
        return random_model(name, device, dtype)
    from fo_core.models.freeze_omni import load

    loaded = load(folder, device=device)
    loaded.require(*options.TALKING)
    return endless(loaded)
