"""The report of ``fo demo --from-scratch``, from the markers and scores of its steps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.report.provenance import PACKAGES, machine, versions
from fo_cli.demo.config import DemoConfig, Steps
from fo_cli.demo.sections import said, sections, verdicts
from fo_cli.demo.steps import INPUT, OUTPUT, STAGES
from fo_core.errors import CheckpointError
from fo_core.io.checkpoint import read_json
from fo_core.io.files import read_jsonl
from fo_core.report.document import ANSWER, ASKED, HEARD, JUDGED, Document, Sample, Sound
from fo_core.report.writer import write_document

ORDER = ("prepare-data", "model", *INPUT, "output-1", "encode", *OUTPUT[1:])


def write(steps: Steps, cfg: DemoConfig) -> list[str]:
    """Write ``report.json``, ``.md`` and ``.html``.

    Returns:
        Lines to show: what was asked and said, where the sound and the report are.

    Raises:
        CheckpointError: The LLM's weights are not what they were at the start.
    """
    names = (*ORDER, "evaluate-known", "evaluate-unseen")
    marks = {name: read_json(steps.marker(name)) for name in names}
    report = _report(steps, cfg, marks)
    samples = _samples(steps)
    paths = write_document(steps.out, document(report, history(steps), samples), report)
    check_frozen(report)
    lines = []
    if samples:
        first = samples[0]
        lines = [f"asked: {first.texts[ASKED]}", f"said:  {first.texts[ANSWER]}"]
        lines.append(f"sound: {first.sounds[-1].path}")
    lines.append(f"model: {steps.model}")
    return [*lines, f"report: {paths['html']}"]


def document(
    report: Mapping[str, Any],
    history: Mapping[str, Sequence[Mapping[str, Any]]],
    samples: Sequence[Sample],
) -> Document:
    """The page of a report, see :mod:`fo_cli.demo.sections`."""
    return Document(
        str(report.get("title", "Freeze-Omni report")),
        str(report.get("summary", "")),
        sections(report, history, samples),
        [(met, said(aim, value)) for aim, value, met in verdicts(report)],
    )


def check_frozen(report: Mapping[str, Any]) -> None:
    """Refuse a run in which the LLM moved.

    Raises:
        CheckpointError: Its weights are not what they were at the start.
    """
    if report["llm_fingerprint_before"] != report["llm_fingerprint_after"]:
        raise CheckpointError("the LLM's weights changed while training", do="report this fault")


def history(steps: Steps) -> dict[str, list[dict[str, Any]]]:
    """Rows of metrics.jsonl of every stage."""
    return {n: read_jsonl(steps.runs / n / "metrics.jsonl", whole=False) for n in STAGES}


def stages(steps: Steps, cfg: DemoConfig, marks: Mapping[str, Any]) -> dict[str, Any]:
    """What every stage trained, its held-out values, and whether frozen weights are unchanged."""
    found = {}
    for name, rows in history(steps).items():
        mark = marks[name]
        losses = [row["val_loss"] for row in rows if "val_loss" in row]
        kept = ("summary", "trainable_parameters", "frozen_parameters", "seconds")
        found[name] = {key: mark[key] for key in kept} | {
            "steps": cfg.stages[name].train.max_steps,
            "first_val_loss": losses[0] if losses else None,
            "last_val_loss": losses[-1] if losses else None,
            "held_out": mark["metrics"],
            "frozen_parts_unchanged": mark["frozen_parts_unchanged"],
        }
    return found


def _report(steps: Steps, cfg: DemoConfig, marks: Mapping[str, Any]) -> dict[str, Any]:
    known = dict(marks["evaluate-known"]["scores"])
    model = cfg.model
    return {
        "title": "Freeze-Omni demo",
        "summary": "A frozen text LLM, given ears and a voice on this machine, from nothing.",
        **known,
        "unseen_facts": marks["evaluate-unseen"]["scores"],
        "parts": {
            "LLM (frozen)": f"{model.llm.spec}, {model.llm.dtype}",
            "speech encoder": model.speech_encoder.type,
            "adapter": model.adapter.type,
            "speech decoder": f"{model.speech_decoder.layers} layers of {model.speech_decoder.dim}",
            "codec": model.codec.type,
            "answer voice": ", ".join(
                f"{v.engine}/{v.voice}" for v in cfg.prepare.synthesize.assistants
            ),
            "user voices": ", ".join(f"{v.engine}/{v.voice}" for v in cfg.prepare.synthesize.users),
            "judge": cfg.evaluate.judge,
        },
        "trainable_parameters": {n: marks[n]["trainable_parameters"] for n in STAGES},
        "frozen_parameters": {n: marks[n]["frozen_parameters"] for n in STAGES},
        "stages": stages(steps, cfg, marks),
        "steps": [
            {key: mark[key] for key in ("name", "seconds", "processor_seconds", "peak_memory_mb")}
            for mark in marks.values()
        ],
        "data": marks["prepare-data"]["report"],
        "llm_fingerprint_before": marks["model"]["llm_fingerprint"],
        "llm_fingerprint_after": last_fingerprint(marks),
        "seed": cfg.prepare.domain.seed,
        "machine": machine(),
        "versions": versions(PACKAGES),
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def last_fingerprint(marks: Mapping[str, Any]) -> str:
    """The LLM's fingerprint after every stage: one value, or the one that differs."""
    start = marks["model"]["llm_fingerprint"]
    moved = [
        n for n in STAGES if marks[n]["llm_fingerprint_before"] != marks[n]["llm_fingerprint_after"]
    ]
    return f"changed in {', '.join(moved)}" if moved else start


def _samples(steps: Steps) -> list[Sample]:
    """Held-out questions to listen to: the first of either set, however well they went."""
    found: list[Sample] = []
    for name, title in (("known", "(a) known fact"), ("unseen", "(b) unseen fact")):
        found += samples_of(steps.out / "eval" / name / "items.jsonl", title)
    return found


def samples_of(path: Path, title: str, count: int = 6) -> list[Sample]:
    """The first questions with a spoken reply in the items.jsonl of an evaluation."""
    rows = [row for row in read_jsonl(path, whole=False) if row.get("reply_wav")]
    return [
        Sample(
            f"{title}, {number}",
            {
                ASKED: row["text"],
                HEARD: row["heard"],
                ANSWER: row["answer"],
                JUDGED: row["judge_reply"],
            },
            (
                Sound("Question", row["question_wav"], row.get("question_part") or {}),
                Sound("Spoken reply", path.parent / row["reply_wav"]),
            ),
        )
        for number, row in enumerate(rows[:count], 1)
    ]
