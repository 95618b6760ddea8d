"""The page of ``fo demo``: what the model that ships answered, and every step of the pipeline."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from eval.metrics.contains import contains
from eval.report.provenance import PACKAGES, machine, versions
from fo_cli.demo import report as demo_report
from fo_cli.demo import sections as demo_sections
from fo_cli.demo.ask import VOICES
from fo_cli.demo.config import DemoConfig, Steps
from fo_cli.demo.sections import MEASURES, shown, value_of
from fo_core.io.files import read_json, write_json
from fo_core.report.document import (
    ANSWER,
    ASKED,
    HEARD,
    Document,
    Sample,
    Section,
    Sound,
    Table,
)
from fo_core.report.writer import write_document

Row = Mapping[str, Any]
ORDER = (
    *("ask", "prepare-data", "model", "input-1", "input-2", "input-3"),
    *("output-1", "encode", "align", "output-2", "output-3", "evaluate-start", "evaluate-known"),
)


def spoken_line(row: Row) -> str:
    """A question that was asked aloud, what was heard and what was said, on one line."""
    said = row["answer"] or f"(no answer: {row['ended_by']})"
    first = row["timings"]["first_audio_ms"]
    timing = f"  [first audio after {first:.0f} ms]" if row["reply_wav"] else ""
    return f"{row['text']}  →  heard: {row['heard'] or '(nothing)'}  →  {said}{timing}"


def write(
    steps: Steps, cfg: DemoConfig, rows: Sequence[Row], wall: float, processor: float
) -> list[str]:
    """Write ``report.json``, ``.md`` and ``.html``.

    Args:
        steps: The demo's folder.
        cfg: Its settings.
        rows: What was asked first, see :mod:`fo_cli.demo.ask`.
        wall: Seconds of this run.
        processor: Processor seconds of this run.

    Returns:
        Lines to show: where sounds and report are, what it took.

    Raises:
        CheckpointError: The LLM's weights are not what they were at the start.
    """
    marks = {name: read_json(steps.marker(name)) for name in ORDER if steps.done(name)}
    spent = _spent(steps, wall, processor)
    report = _report(steps, cfg, marks, rows, spent)
    history = demo_report.history(steps)
    known = steps.out / "eval" / "known" / "items.jsonl"
    samples = [*map(_sample, rows), *demo_report.samples_of(known, "after the steps", 3)]
    found = sections(report, rows, history, samples)
    paths = write_document(steps.out, Document(report["title"], report["summary"], found), report)
    demo_report.check_frozen(report)
    sounds = [row["reply_wav"] for row in rows if row["reply_wav"]]
    return [
        *([f"sounds: {sounds[0]} ..."] if sounds else []),
        f"report: {paths['html']}",
        f"took {spent['wall_seconds']:.0f} s, {spent['processor_seconds']:.0f} s of processor time",
    ]


def _spent(steps: Steps, wall: float, processor: float) -> dict[str, Any]:
    """Seconds of all runs in this folder that came to their end, this one among them."""
    path = steps.out / "spent.json"
    before = read_json(path) if path.is_file() else {}
    total = {
        "wall_seconds": round(before.get("wall_seconds", 0.0) + wall, 1),
        "processor_seconds": round(before.get("processor_seconds", 0.0) + processor, 1),
        "load_average": round(psutil.getloadavg()[0], 1),
    }
    write_json(path, total)
    return total


def _report(
    steps: Steps, cfg: DemoConfig, marks: Mapping[str, Any], rows: Sequence[Row], spent: Row
) -> dict[str, Any]:
    judged = [row for row in rows if row["answers"]]
    return {
        "title": "Freeze-Omni demo",
        "summary": "fo-smol, the model that ships, answers spoken questions; then every step of "
        "the pipeline runs once on this machine, small, starting from it.",
        "asked": [{k: v for k, v in row.items() if k != "key"} for row in rows],
        "asked_right": sum(contains(row["answer"], row["answers"]) for row in judged),
        "asked_judged": len(judged),
        "start": marks["evaluate-start"]["scores"] if cfg.evaluate.start else {},
        "after": marks["evaluate-known"]["scores"],
        "stages": demo_report.stages(steps, cfg, marks),
        "steps": [
            {key: mark.get(key) for key in ("name", "seconds", "processor_seconds",
                                            "peak_memory_mb")}
            for mark in marks.values()
        ],
        "data": marks["prepare-data"]["report"],
        "llm_fingerprint_before": marks["model"]["llm_fingerprint"],
        "llm_fingerprint_after": demo_report.last_fingerprint(marks),
        "seed": cfg.prepare.domain.seed,
        "machine": machine() | {"load average at the end": spent["load_average"]},
        "versions": versions(PACKAGES),
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
        **spent,
    }  # fmt: skip


def sections(
    report: Row,
    rows: Sequence[Row],
    history: Mapping[str, Sequence[Row]],
    samples: Sequence[Sample],
) -> list[Section]:
    """The sections of the page, in order."""
    found = [
        _asked(report, rows),
        demo_sections.hear(
            samples,
            "First the questions above, all of them; behind them held-out questions to the model "
            "after the training steps below.",
        ),
        demo_sections.training(report),
        demo_sections.loss_curves(
            history,
            "A handful of steps each, on a dozen dialogues: they show that losses are finite and "
            "that each stage starts where fo-smol left off, nothing more.",
        ),
        _evaluation(report),
        demo_sections.frozen(report),
        demo_sections.time_and_memory(report),
        demo_sections.machine(report),
    ]
    return [section for section in found if section is not None]


def _asked(report: Row, rows: Sequence[Row]) -> Section:
    text = (
        "Questions and voices of the bundled recordings were fixed before fo-smol was asked any of "
        "them, and fo-smol was trained on none of these voices. Of "
        f"{report['asked_judged']} bundled questions {report['asked_right']} got an answer with "
        "the right words in it. Its frozen LLM has 135M parameters and knows little; what was "
        "misheard is shown beside what was asked."
    )
    head = ("asked", "voice", "heard", "answer", "right", "state that ended it", "first audio, ms")
    table: tuple[tuple[str, ...], ...] = tuple(
        (
            row["text"],
            row["voice"],
            row["heard"] or "(nothing)",
            row["answer"] or "(none)",
            _right(row),
            str(ENDED.get(row["ended_by"], row["ended_by"])),
            f"{row['timings']['first_audio_ms']:.0f}" if row["reply_wav"] else "–",
        )
        for row in rows
    )
    return Section("fo-smol answers", text, (Table(head, table, (6,)),))


ENDED = {
    "respond": "respond",
    "input-end": "end of the recording",
    "unheard": "nothing was heard",
    "dismiss": "dismiss",
}


def _right(row: Row) -> str:
    if not row["answers"]:
        return "not judged"
    return "✔ yes" if contains(row["answer"], row["answers"]) else "✘ no"


def _evaluation(report: Row) -> Section:
    start, after = report["start"], report["after"]
    rows: list[tuple[str, ...]] = [
        (
            *("questions", str(start.get("items", 0)), str(after["items"])),
            *("", "the same where both were asked"),
        )
    ]
    rows += [
        (m.name, shown(value_of(start, m.key), m.unit), shown(value_of(after, m.key), m.unit),
         m.better, m.meaning)
        for m in MEASURES
    ]  # fmt: skip
    text = (
        "Held-out questions of the demo's closed domain, asked of fo-smol and of the copy that the "
        "steps above trained on. So few questions measure nothing: they show that the evaluation "
        "works. What fo-smol can do is on its card, measured on public sets. The trained copy "
        "does not replace it; fo demo --from-scratch trains for about an hour, make fo-smol longer."
    )
    head = ("measure", "fo-smol", "after the steps", "better", "what it tells")
    return Section("Evaluation", text, (Table(head, tuple(rows), (1, 2)),))


def _sample(row: Row) -> Sample:
    t = row["timings"]
    known = not row["bundled"] and row["voice"] in VOICES
    note = "fo-smol learned from this voice" if known else None
    if not row["finished"]:
        note = "the text was cut at the demo's limit"
    legs = (
        f"first audio {t['first_audio_ms']:.0f} ms after the question's end: LLM reads the rest "
        f"{t['prefill_ms']:.0f}, first text {t['first_text_ms']:.0f}, decoder reads it "
        f"{t['decoder_prefill_ms']:.0f}, speech tokens {t['first_tokens_ms']:.0f}, codec "
        f"{t['codec_ms']:.0f}. A chunk of 160 ms is heard in {t['listen_ms']:.0f} ms (slowest "
        f"{t['listen_max_ms']:.0f}); {t['reply_seconds']:.1f} s of reply, real-time factor "
        f"{t['rtf']:.2f}"
    )
    reply = [Sound("Spoken reply", row["reply_wav"])] if row["reply_wav"] else []
    return Sample(
        f"{row['voice']}: {row['text']}",
        {
            ASKED: row["text"],
            HEARD: row["heard"],
            ANSWER: row["answer"],
            "how fast": legs if reply else None,
            "note": note,
        },
        (Sound("Question", row["question_wav"]), *reply),
        row["states"],
    )
