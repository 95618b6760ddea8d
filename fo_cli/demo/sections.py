"""Sections of the demos' reports, from their plain ``report`` dict.

The dict holds the results of held-out set (a) at the top level and those of set (b) under
``unseen_facts``, each with the keys of :data:`MEASURES` and ``items``; ``state_f1`` maps each state
to an F1 or to precision, recall, f1 and support, and ``macro`` to a number. Beside them stand
``parts`` (which encoder, adapter, decoder and codec types ran), ``stages``, ``steps`` (name,
seconds, peak_memory_mb), ``wall_seconds``, ``llm_fingerprint_before`` and ``_after``, ``machine``,
``versions``, ``seed``, ``title`` and ``summary``. A value that is not in the dict is shown as "not
measured"; nothing is made up and nothing is skipped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fo_core.report import plots
from fo_core.report.document import MISSING, Picture, Sample, Section, Table

SET_A = "(a) unseen wordings of known facts"
SET_B = "(b) unseen facts"


@dataclass(frozen=True)
class Measure:
    """One measured value: its key in the dict, its name, what it tells, and which way is better."""

    key: str
    name: str
    meaning: str
    unit: str = "ratio"  # ratio, ms, or x (a factor)
    better: str = "lower"


@dataclass(frozen=True)
class Aim:
    """A bound that set (a) is to meet, fixed before anything was measured."""

    key: str
    bound: float
    at_most: bool

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


MEASURES = (
    Measure("input1_wer", "input-1 WER", "what the streaming encoder hears (greedy CTC)"),
    Measure("input2_wer", "input-2 WER", "what the frozen LLM repeats from the adapter's vectors"),
    Measure(
        "answer_agreement",
        "answer agreement",
        "the answer to the spoken question is the LLM's answer to the typed one",
        better="higher",
    ),
    Measure(
        "text_accuracy",
        "text accuracy",
        "the LLM's answer to the typed question holds the right answer",
        better="higher",
    ),
    Measure(
        "speech_accuracy",
        "speech accuracy",
        "the spoken reply, as the judge hears it, holds the right answer",
        better="higher",
    ),
    Measure("wer_original", "judge on the original", "the judge's own error on the TTS voice"),
    Measure("wer_codec", "judge on the codec", "the same speech through the codec"),
    Measure("wer_reply", "judge on our reply", "the reply's speech against the text it speaks"),
    Measure("wer_reply_excess", "reply − original", "what our voice adds to the judge's error"),
    Measure("state_f1_macro", "state F1, macro", "mean over the dialogue states", better="higher"),
    Measure("first_audio_ms", "first audio, median", "end of question to first sound", "ms"),
    Measure("first_audio_ms_p90", "first audio, 90 %", "nine of ten replies start sooner", "ms"),
    Measure("rtf", "real-time factor", "seconds of work per second of reply", "x"),
)

AIMS = (
    Aim("input1_wer", 0.15, True),
    Aim("answer_agreement", 0.6, False),
    Aim("wer_reply_excess", 0.35, True),
    Aim("state_f1_macro", 0.8, False),
)


def value_of(results: Mapping[str, Any], key: str) -> float | None:
    """One measured value of a set; the derived ones are worked out here."""
    if key == "wer_reply_excess":
        reply, original = results.get("wer_reply"), results.get("wer_original")
        return None if reply is None or original is None else reply - original
    if key == "state_f1_macro":
        return (results.get("state_f1") or {}).get("macro")
    return results.get(key)


def shown(value: Any, unit: str = "ratio") -> str:
    """A number as text: ratios with three decimals, milliseconds whole, factors with two."""
    if value is None:
        return MISSING
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if unit == "ms":
        return f"{value:,.0f} ms"
    if unit == "x":
        return f"{value:.2f} ×"
    return f"{value:.3f}"


def verdicts(report: Mapping[str, Any]) -> list[tuple[Aim, float | None, bool | None]]:
    """Every aim with the value of set (a) and whether it was met; None where not measured."""
    found = [(aim, value_of(report, aim.key)) for aim in AIMS]
    return [(aim, value, None if value is None else aim.met(value)) for aim, value in found]


def said(aim: Aim, value: float | None) -> str:
    """An aim beside its value, in a few words."""
    measured = MISSING if value is None else f"{value:.3f}"
    return f"{aim.key} {measured} (aim {'≤' if aim.at_most else '≥'} {aim.bound})"


def sections(
    report: Mapping[str, Any], history: Mapping[str, Any], samples: Sequence[Sample]
) -> list[Section]:
    """All sections in the order of the report; those without anything to say are skipped."""
    found = [
        _parts(report),
        _aims(report),
        _results(report),
        _states(report),
        hear(samples, "Held-out questions and what came back."),
        training(report),
        loss_curves(history),
        time_and_memory(report),
        frozen(report),
        machine(report),
    ]
    return [section for section in found if section is not None]


def hear(samples: Sequence[Sample], text: str) -> Section | None:
    """Samples to listen to."""
    return Section("Hear it", text, samples=samples) if samples else None


def loss_curves(
    history: Mapping[str, Sequence[Mapping[str, Any]]], text: str = ""
) -> Section | None:
    """Losses over the steps, a panel a stage.

    Args:
        history: Stage name to records ``{"step", "loss"?, "val_loss"?}``; where a stage has several
            objectives, its first ``NAME.loss`` is its training loss.
        text: What they show.
    """
    if not history:
        return None
    drawn = plots.curves(
        {
            stage: (plots.points(rows, _training_key(rows)), plots.points(rows, "val_loss"))
            for stage, rows in history.items()
        }
    )
    words = f"Training and held-out loss against steps for {', '.join(history)}"
    return Section("Loss curves", text, pictures=(Picture(drawn, words),))


def _training_key(records: Sequence[Mapping[str, Any]]) -> str:
    keys = [key for record in records for key in record]
    ends = (key for key in keys if key.endswith(".loss") and not key.startswith("val_"))
    return "loss" if "loss" in keys else next(ends, "loss")


def _parts(report: Mapping[str, Any]) -> Section | None:
    parts = report.get("parts")
    if not parts:
        return None
    rows = tuple((str(part), str(which)) for part, which in parts.items())
    text = "These modules made every number and every sound below."
    return Section("What spoke", text, (Table(("part", "type"), rows),))


def _aims(report: Mapping[str, Any]) -> Section:
    names = {measure.key: measure.name for measure in MEASURES}
    marks = {True: "✔ met", False: "✘ missed", None: "– not measured"}
    rows = tuple(
        (
            names[aim.key],
            f"{'≤' if aim.at_most else '≥'} {aim.bound}",
            shown(value),
            marks[met] if value is None or met else f"{marks[met]} by {abs(value - aim.bound):.3f}",
        )
        for aim, value, met in verdicts(report)
    )
    text = f"Bounds on set {SET_A}, fixed beforehand. No number was tuned on held-out questions."
    return Section("Aims", text, (Table(("measure", "aim", "measured", "verdict"), rows, (1, 2)),))


def _results(report: Mapping[str, Any]) -> Section:
    unseen = report.get("unseen_facts") or {}
    rows: list[tuple[str, ...]] = [
        (
            measure.name,
            shown(value_of(report, measure.key), measure.unit),
            shown(value_of(unseen, measure.key), measure.unit),
            measure.better,
            measure.meaning,
        )
        for measure in MEASURES
    ]
    counts = [str(r.get("items", MISSING)) for r in (report, unseen)]
    rows.insert(0, ("questions", *counts, "", "spoken held-out questions in the set"))
    text = (
        f"{SET_A}: new wordings and new recordings of facts whose reply the speaking side was "
        f"trained on, the closed domain's own use. {SET_B}: facts that no training data held in "
        "any form. Error rates are shares of words and can pass 1."
    )
    head = ("measure", SET_A, SET_B, "better", "what it tells")
    return Section("Results on held-out questions", text, (Table(head, tuple(rows), (1, 2)),))


def _states(report: Mapping[str, Any]) -> Section | None:
    sets = [(SET_A, report), (SET_B, report.get("unseen_facts") or {})]
    rows = []
    for name, results in sets:
        for state, score in (results.get("state_f1") or {}).items():
            if state in ("macro", "confusion"):
                continue
            known = score if isinstance(score, Mapping) else {"f1": score}
            cells = [shown(known.get(k)) for k in ("precision", "recall", "f1")]
            rows.append((name, str(state), *cells, str(known.get("support", MISSING))))
    if not rows:
        return None
    head = ("set", "state", "precision", "recall", "F1", "chunks")
    text = "The state head's word after every 160 ms of speech, against the labels."
    return Section("Dialogue states", text, (Table(head, tuple(rows), (2, 3, 4, 5)),))


def training(report: Mapping[str, Any]) -> Section | None:
    """What each stage trained, for how long, and its held-out loss."""
    rows = []
    for name, stage in (report.get("stages") or {}).items():
        known = dict(stage)
        rows.append(
            (
                str(name),
                str(known.get("summary", "")),
                _count(known.get("trainable_parameters")),
                _count(known.get("frozen_parameters")),
                _count(known.get("steps")),
                _pair(known.get("first_val_loss"), known.get("last_val_loss")),
            )
        )
    if not rows:
        return None
    head = ("stage", "trains", "trainable", "frozen", "steps", "held-out loss, first → last")
    text = "Six stages over one loop. Losses of different stages are not comparable."
    return Section("Training", text, (Table(head, tuple(rows), (2, 3, 4, 5)),))


def time_and_memory(report: Mapping[str, Any]) -> Section | None:
    """What each step took."""
    steps: Sequence[Mapping[str, Any]] = report.get("steps") or ()
    if not steps:
        return None
    columns = (
        ("seconds", "seconds", ".1f"),
        ("processor_seconds", "processor seconds", ".1f"),
        ("peak_memory_mb", "peak memory, MB", ".0f"),
    )
    rows = [
        (
            str(step.get("name", "")),
            *(MISSING if step.get(k) is None else f"{step[k]:,{form}}" for k, _, form in columns),
        )
        for step in steps
    ]
    total = sum(step.get("seconds") or 0.0 for step in steps)
    wall = report.get("wall_seconds")
    text = f"All steps together took {total / 60:.1f} minutes"
    text += f" ({wall / 60:.1f} of wall time: lanes ran side by side)." if wall else "."
    head = ("step", *(name for _, name, _ in columns))
    return Section("Time and memory", text, (Table(head, tuple(rows), (1, 2, 3)),))


def frozen(report: Mapping[str, Any]) -> Section | None:
    """Whether the LLM is what it was."""
    before, after = report.get("llm_fingerprint_before"), report.get("llm_fingerprint_after")
    if before is None and after is None:
        return None
    same = before == after
    text = (
        "The LLM's weights are bit for bit what they were before training."
        if same
        else "The LLM's weights CHANGED: this run broke its promise."
    )
    rows = (("before", str(before)), ("after", str(after)))
    return Section("Frozen LLM", text, (Table(("LLM weights", "fingerprint"), rows),))


def machine(report: Mapping[str, Any]) -> Section | None:
    """Where it ran, with which versions and seed."""
    rows = [("seed", str(report["seed"]))] if "seed" in report else []
    for group in ("machine", "versions"):
        found = report.get(group)
        if isinstance(found, Mapping):
            rows += [(str(k), str(v)) for k, v in found.items()]
        elif found is not None:
            rows.append((group, str(found)))
    if not rows:
        return None
    return Section("Machine and versions", "", (Table(("what", "value"), tuple(rows)),))


def _count(value: Any) -> str:
    return MISSING if value is None else f"{value:,}"


def _pair(first: Any, last: Any) -> str:
    return MISSING if first is None or last is None else f"{first:.3f} → {last:.3f}"
