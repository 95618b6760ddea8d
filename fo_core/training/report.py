"""What a stage reports: plan, ``stage.json``, curves, and the model card of its model folder."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from fo_core.io.checkpoint import read_json
from fo_core.io.files import replacing, write_json, write_text
from fo_core.models.freeze_omni import FreezeOmni, describe
from fo_core.report.document import Document, Section, Table
from fo_core.report.writer import markdown
from fo_core.training.stage import Stage, StageResult, parameter_count

NO_CURVE = {"step", "lr", "seconds", "grad_norm", "items_per_s", "audio_s_per_s", "data_share",
            "padding", "memory_gb"}  # fmt: skip


def make_plan(
    model: nn.Module,
    stage: Stage,
    trainable: Mapping[str, Mapping[str, nn.Parameter]],
    train: Mapping[str, float],
    val: Mapping[str, float],
    steps: int,
) -> dict[str, Any]:
    """What a stage will train, on what, for how long.

    Args:
        model: The whole model, already frozen as the stage wants it.
        stage: The stage.
        trainable: Objective name -> its parameters.
        train: ``{"items": n, "hours": h}`` of the training data.
        val: The same of the held-out data.
        steps: Optimiser steps of the whole run.
    """
    every = dict(model.named_parameters())
    trained = {n: p for group in trainable.values() for n, p in group.items()}
    parts: dict[str, dict[str, int]] = {}
    for name, parameter in every.items():
        part = parts.setdefault(name.split(".")[0], {"trainable": 0, "frozen": 0})
        part["trainable" if name in trained else "frozen"] += parameter.numel()
    return {
        "stage": stage.name,
        "summary": stage.summary,
        "objectives": {
            objective.name: {
                "trains": list(objective.trainable),
                "parameters": parameter_count(trainable[objective.name]),
                "optimizer": objective.optim.type,
                "lr": objective.optim.lr,
                "starts_at": objective.starts_at,
            }
            for objective in stage.objectives
        },
        "parts": parts,
        "trainable_parameters": parameter_count(trained),
        "frozen_parameters": parameter_count(every) - parameter_count(trained),
        "train": dict(train),
        "val": dict(val),
        "steps": steps,
    }


def print_plan(plan: Mapping[str, Any]) -> None:
    """Show a plan on stderr as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{plan['stage']}: {plan['summary']}", title_justify="left")
    table.add_column("part")
    table.add_column("trained parameters", justify="right")
    table.add_column("frozen parameters", justify="right")
    for part, count in plan["parts"].items():
        table.add_row(part, f"{count['trainable']:,}", f"{count['frozen']:,}")
    table.add_section()
    table.add_row("all", f"{plan['trainable_parameters']:,}", f"{plan['frozen_parameters']:,}")
    console = Console(file=sys.stderr)
    console.print(table)
    for name, objective in plan["objectives"].items():
        console.print(
            f"{name}: {objective['optimizer']}, lr {objective['lr']:g}, trains "
            f"{', '.join(objective['trains'])}",
            highlight=False,
        )
    train, val = plan["train"], plan["val"]
    read = f", which read {_read(plan['reads'])}" if plan.get("reads") else ""
    console.print(
        f"{plan['steps']:,} steps{read}, on {train['items']:,.0f} items ({train['hours']:.2f} h); "
        f"held out: {val['items']:,.0f} items ({val['hours']:.2f} h)",
        highlight=False,
    )
    for line in _cost(plan):
        console.print(line, highlight=False)
    for line in plan.get("warnings", []):
        console.print(f"warning: {line}", highlight=False, markup=False)


def unread(plan: Mapping[str, Any]) -> list[str]:
    """A warning where the steps of a run are too few to read every item once."""
    read = plan.get("reads")
    if not read or read["epochs"] >= 1:
        return []
    return [
        f"{plan['steps']:,} steps read {read['epochs']:.0%} of the training data; one epoch takes "
        f"{math.ceil(read['epoch_steps']):,} steps (--set train.max_steps=N)"
    ]


def _read(reads: Mapping[str, float]) -> str:
    return f"{reads['hours']:,.2f} h of sound ({reads['epochs']:,.2f} epochs)"


def write_result(folder: Path, plan: Mapping[str, Any], result: StageResult, **more: Any) -> None:
    """Write ``stage.json``: the plan, the result without its history, and ``more``."""
    data = asdict(result)
    del data["history"]
    write_json(folder / "stage.json", {"done": True, **more, "plan": dict(plan), **data})


def _cost(plan: Mapping[str, Any]) -> list[str]:
    """Lines on steps, memory and time, as far as the plan knows them."""
    lines = []
    if step := plan.get("step"):
        lines.append(
            f"a step: {step['items']:,.1f} items, {step['audio_seconds']:,.1f} s of sound, "
            f"{step['text_tokens']:,.0f} text tokens, {step['speech_tokens']:,.0f} speech tokens, "
            f"padding {step['padding']:.1%}, {step['processes']} process(es)"
        )
        lines.append(f"an epoch: {step['batches_an_epoch']:,} batches")
    if memory := plan.get("memory_gb"):
        parts = ", ".join(f"{n} {size:.2f}" for n, size in memory.items() if n != "sum")
        lines.append(f"memory of a process: about {memory['sum']:.2f} GiB ({parts})")
    if measured := plan.get("measured"):
        hours = measured["seconds"] / 3600
        lines.append(
            f"measured: {measured['seconds_a_step']:.3g} s a step, {hours:,.2f} h for all steps, "
            f"{measured['memory_gb']:.2f} GiB at most"
        )
    return lines


def write_rejects(folder: Path, parts: Sequence[Mapping[str, str]]) -> None:
    """List the items that some process could not load, with the reason."""
    found = {name: reason for part in parts for name, reason in part.items()}
    if found:
        write_json(folder / "rejects.json", found)


def read_result(folder: Path, history: Sequence[dict[str, float]]) -> StageResult | None:
    """The result of a finished run, or None."""
    path = folder / "stage.json"
    if not path.is_file():
        return None
    data = read_json(path)
    if not data.get("done"):
        return None
    names = ("metrics", "trainable_parameters", "frozen_parameters", "seconds", "fingerprints")
    return StageResult(history=list(history), **{name: data[name] for name in names})


def draw_curves(folder: Path, history: Sequence[Mapping[str, float]]) -> Path | None:
    """Draw training and held-out values over the steps into ``curves.png``."""
    keys = (k for row in history for k in row if k.split(".")[-1] not in NO_CURVE)
    panels = list(dict.fromkeys(k.removeprefix("val_") for k in keys))
    if not panels:
        return None
    from fo_core.report.plots import curves, points

    drawn = curves(
        {name: (points(history, name), points(history, f"val_{name}")) for name in panels}, "png"
    )
    path = folder / "curves.png"
    with replacing(path) as temporary:
        temporary.write_bytes(drawn)
    return path


STAGES = "stages.json"  # the card's own facts, one entry a stage, beside the card


def write_card(model: FreezeOmni, run: Path, folder: Path, start: Path | None) -> None:
    """Write the card of a model after a stage.

    Args:
        model: The model.
        run: The stage's run folder, with ``stage.json``.
        folder: Model folder: ``README.md`` and ``stages.json`` go there.
        start: Model folder that the stage began with; its stages come first.
    """
    stages: list[dict[str, Any]] = []
    if start is not None and (start / STAGES).is_file():
        stages = read_json(start / STAGES)
    record = read_json(run / "stage.json")
    stages = [s for s in stages if s["stage"] != record["plan"]["stage"]] + [_facts(record)]
    write_json(folder / STAGES, stages)
    write_text(folder / "README.md", _card(model, stages))


def _facts(record: dict[str, Any]) -> dict[str, Any]:
    plan = record["plan"]
    prints = record["fingerprints"].values()
    return {
        "stage": plan["stage"],
        "summary": plan["summary"],
        "steps": plan["steps"],
        "train": {k: plan["train"][k] for k in ("items", "hours")},
        "reads": plan.get("reads", {}),
        "val": {k: plan["val"][k] for k in ("items", "hours")},
        "trainable_parameters": record["trainable_parameters"],
        "seconds": round(record["seconds"], 1),
        "frozen_unchanged": all(p.get("frozen_before") == p.get("frozen_after") for p in prints),
        "metrics": record["metrics"],
    }


def _card(model: FreezeOmni, stages: list[dict[str, Any]]) -> str:
    llm = model.config.llm
    parts = [
        (name, part["class"], f"{part['parameters']:,}",
         "frozen" if name == "llm" else "yes" if part["trained"] else "no")
        for name, part in describe(model).items()
    ]  # fmt: skip
    told = (
        f"Ears and a voice around the frozen LLM `{llm.spec}` ({llm.dtype}, `{llm.fingerprint}`), "
        "which is referred to, not contained. Written by `fo train`."
    )
    table = Table(("part", "type", "parameters", "trained"), parts, (2,))
    sections = [Section("Parts", "", (table,)), *map(_stage_section, stages)]
    return markdown(Document("A Freeze-Omni model", told, sections))


def _stage_section(stage: Mapping[str, Any]) -> Section:
    train, val = stage["train"], stage["val"]
    read = f", {_read(stage['reads'])} read" if stage.get("reads") else ""
    frozen = "unchanged (SHA-256)" if stage["frozen_unchanged"] else "CHANGED"
    told = (
        f"{stage['summary'].capitalize()}. {stage['steps']:,} steps,"
        f" {stage['trainable_parameters']:,} parameters, {stage['seconds']:,.0f} s,"
        f" on {train['items']:,.0f} items ({train['hours']:.2f} h){read}. Frozen weights {frozen}."
    )
    rows = [(k.removeprefix("val_"), f"{value:.4g}") for k, value in stage["metrics"].items()]
    head = (f"on {val['items']:,.0f} held-out items ({val['hours']:.2f} h)", "")
    return Section(stage["stage"], told, (Table(head, rows, (1,)),))
