"""The model card: ``README.md`` of a model folder, what was trained on what and how well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fo_core.io.checkpoint import read_json
from fo_core.io.files import write_json, write_text
from fo_core.models.freeze_omni import FreezeOmni, describe

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
        "val": {k: plan["val"][k] for k in ("items", "hours")},
        "trainable_parameters": record["trainable_parameters"],
        "seconds": round(record["seconds"], 1),
        "frozen_unchanged": all(p.get("frozen_before") == p.get("frozen_after") for p in prints),
        "metrics": record["metrics"],
    }


def _card(model: FreezeOmni, stages: list[dict[str, Any]]) -> str:
    parts = describe(model)
    llm = model.config.llm
    lines = [
        "# A Freeze-Omni model",
        "",
        f"Ears and a voice around the frozen LLM `{llm.spec}` ({llm.dtype}, `{llm.fingerprint}`),",
        "which is referred to, not contained. Written by `fo train`.",
        "",
        "| part | type | parameters | trained |",
        "|---|---|---:|---|",
    ]
    for name, part in parts.items():
        state = "frozen" if name == "llm" else "yes" if part["trained"] else "no"
        lines.append(f"| {name} | {part['class']} | {part['parameters']:,} | {state} |")
    for stage in stages:
        train, val = stage["train"], stage["val"]
        still = "stood still" if stage["frozen_unchanged"] else "CHANGED"
        lines += [
            "",
            f"## {stage['stage']}",
            "",
            f"{stage['summary'].capitalize()}. {stage['steps']:,} steps,"
            f" {stage['trainable_parameters']:,} parameters, {stage['seconds']:,.0f} s,"
            f" on {train['items']:,.0f} items ({train['hours']:.2f} h). Frozen parts {still}.",
            "",
            f"| on {val['items']:,.0f} held-out items ({val['hours']:.2f} h) | |",
            "|---|---:|",
        ]
        lines += [
            f"| {k.removeprefix('val_')} | {value:.4g} |" for k, value in stage["metrics"].items()
        ]
    return "\n".join([*lines, ""])
