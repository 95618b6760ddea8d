"""``fo profile train``: the share of a device's operations that a training step reaches (MFU)."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fo_cli import options, render
from fo_core.devices.compute import choose
from fo_core.errors import FoError

RECIPES = {"paper-7b": "paper", "small": "paper"}  # of shapes that have none of their own name
HEAD = ("size", "device", "s/step", "audio-s/s", "TFLOP/step", "TFLOP/s", "peak", "MFU", "GiB")


def train(
    size: options.RandomSize = None,
    random: options.Random = False,
    device: Annotated[
        str, typer.Option("--device", help="cpu or cuda; auto: cuda where there is one.")
    ] = "auto",
    steps: Annotated[int, typer.Option(min=1, help="Steps to time, after two to warm up.")] = 10,
    sets: options.Sets = None,
    json: options.Json = False,
) -> None:
    """Train a few steps of stage input-2 on noise, with random weights, and say what it reaches.

    MFU: the products that a step needs (forward, and backward through the frozen LLM) over what the
    device could do of them in that time, by the fastest product of two matrices that was measured
    here. What is computed twice to save memory counts, too.
    """
    shape = options.random_size(size, random)
    if shape is None:
        raise FoError("no model is named", "--size tiny, smol, small, paper", "add --size --random")
    kind = choose(device)
    if kind not in ("cpu", "cuda"):
        raise FoError(f"--device {device} trains nothing", "cpu, cuda, auto")

    import torch

    from eval.latency.bounds import peak
    from eval.latency.models import check_memory, random_model
    from eval.latency.random_data import LONGEST, random_items
    from eval.latency.throughput import measure
    from fo_core.training import recipes

    recipe = RECIPES.get(shape, shape)
    chosen = recipes.recipe("input-2", recipe, overrides=[f"train.device={kind}", *(sets or ())])
    halves = kind == "cuda" and chosen.train.precision != "fp32"
    dtype = torch.bfloat16 if halves else torch.float32
    check_memory(shape, kind, dtype)
    model = random_model(shape, kind, dtype)
    on = torch.device(kind)
    most = peak(dtype, device=on)
    say = render.note if sys.stderr.isatty() else (lambda text: None)
    batch = chosen.train.batch
    sound = (batch.seconds or LONGEST * (batch.size or 1)) * chosen.train.accumulate
    with tempfile.TemporaryDirectory() as folder:
        items = random_items(Path(folder), 2 * sound)
        stage = chosen.stage.build()
        found = measure(model, stage, chosen.train, items, items[:1], steps, say)
    most = max(most, peak(dtype, device=on)) / 1e12  # other programs may have used it before
    share = found.tflops_a_second / most
    if json:
        render.as_json(asdict(found) | {"size": shape, "peak_tflops": most, "mfu": share})
        return
    cells = (
        f"{found.seconds_a_step:.3g}", f"{found.audio_seconds_a_second:.1f}",
        f"{found.tflops:.3g}", f"{found.tflops_a_second:.3g}", f"{most:.3g}", f"{share:.1%}",
        f"{found.memory_gb:.2f}",
    )  # fmt: skip
    render.table(HEAD, [(shape, found.device, *cells)])
