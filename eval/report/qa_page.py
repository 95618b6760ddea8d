"""The page of a spoken question set: table 3 with what stands beside it, latency, samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.report import published
from eval.report.results import Metric, Overview, Page, metric_table, number, spread
from fo_core.report.document import (
    ANSWER,
    ASKED,
    HEARD,
    JUDGED,
    TYPED,
    Sample,
    Section,
    Sound,
    Table,
)

Row = Mapping[str, Any]
SAMPLES = 8
NAMES = {
    "text": "text LLM",
    "answer": "speech → text",
    "speech": "speech → speech",
    "cascade": "cascade, text",
    "cascade_speech": "cascade, speech",
}
_WORDS = {"text": "text_words", "answer": "answer_words", "speech": "answer_words",
          "cascade": "cascade_words", "cascade_speech": "cascade_words"}  # fmt: skip
_HEARD = {"answer": "hearing_wer", "cascade": "cascade_hearing_wer"}
_SPOKEN = {"speech": "speech_wer", "cascade_speech": "cascade_speech_wer"}

_MEANINGS = {
    "text": "the frozen LLM's answer to the typed question",
    "answer": "the text of the answer to the spoken question",
    "speech": "what the judge hears in the spoken answer",
    "cascade": "recogniser and the same LLM: its text",
    "cascade_speech": "what the judge hears of the cascade's voice",
}
_RETAINED = tuple(
    Metric(f"{kind}{column}_{what}", f"{NAMES[column]} {sign} text LLM{by}", meaning)
    for kind, by in (("", ""), ("llm_judge_", ", by the LLM judge"))
    for what, sign, meaning in (
        ("ratio", "÷", "what of its score survives, paired by question"),
        ("gap", "−", "difference, paired by question"),
    )
    for column in NAMES
    if column != "text"
)
QA_METRICS = (
    *(Metric(f"{c}_accuracy", n, _MEANINGS[c]) for c, n in NAMES.items()),
    *(Metric(f"strict_{c}_accuracy", f"{n}, strict", "answer in the first sentence")
      for c, n in NAMES.items()),
    *_RETAINED,
    Metric("answer_over_cascade", "speech → text − cascade", "difference, paired by question"),
    Metric("speech_over_cascade", "speech → speech − cascade", "the same of the spoken answers"),
    *(Metric(f"llm_judge_{c}_accuracy", f"{n}, by the LLM judge", "an LLM graded the answer")
      for c, n in NAMES.items()),
    Metric("llm_judge_undecided", "grades that are neither yes nor no", "left out above"),
    Metric("hearing_wer", "WER of hearing", "words of the model's ears against the question"),
    Metric("cascade_hearing_wer", "WER of hearing, cascade", "its recogniser, the same sound"),
    Metric("judge_wer", "the judge's own WER", "on the questions' sound, whose text is known"),
    Metric("speech_wer", "WER of the speech", "the judge's transcript against the answer's text"),
    Metric("speech_cer", "CER of the speech", "the same in characters"),
    Metric("speech_wer_2", "WER of the speech, second judge", "another judge on the same sound"),
    Metric("speech_accuracy_2", "speech → speech, second judge", "right, as the other judge hears"),
    Metric("judges_disagree", "judges disagree", "right for one judge and wrong for the other"),
    Metric("cascade_speech_wer", "WER of the cascade's speech", "against the text it speaks"),
    Metric("cascade_speech_wer_2", "WER of the cascade's speech, second judge", "the same"),
    Metric("cascade_speech_accuracy_2", "cascade, speech, second judge", "right, as it hears"),
    Metric("cascade_judges_disagree", "judges disagree on the cascade", "the same"),
    *(Metric(f"{kind}{key}", f"{name}{of}", meaning, "")
      for key, name, meaning in (
          ("dnsmos", "DNSMOS", "how the replies sound, 1 to 5, as listeners would say"),
          ("utmos", "UTMOS", "naturalness, 1 to 5, as listeners would say"),
          ("distillmos", "Distill-MOS", "quality, 1 to 5, as listeners would say"),
          ("similarity", "speaker similarity", "cosine to the voice that was asked for"),
      )
      for kind, of in (("", ""), ("cascade_", ", cascade"))),
    Metric("pace", "words a minute", "of the spoken answers", ""),
    Metric("answer_words", "words of an answer", "mean, spoken question", ""),
    Metric("text_words", "words of an answer, text LLM", "mean, typed question", ""),
    Metric("cascade_words", "words of an answer, cascade", "mean, spoken question", ""),
    Metric("reply_seconds", "length of the speech", "mean", "s"),
    Metric("empty_answers", "empty answers", "no text at all"),
    Metric("cut_answers", "answers that did not end", "cut at the longest length"),
    Metric("dismissed_questions", "questions taken for no question", "by the state head"),
    Metric("mute_replies", "answers without sound", "text, but no speech"),
    Metric("endless_replies", "speech that did not end", "a piece was cut at its limit"),
    Metric("looping_replies", "speech that repeats itself", "a phrase three times in a row"),
)  # fmt: skip


def columns_table(overview: Overview, timings: Mapping[str, Any]) -> Table:
    """A row for each column of table 3: quality, length, errors and latency side by side."""
    m = overview["metrics"]
    head = ("", "right", "95 %", "strict", "of the text LLM's", "95 %, paired", "words",
            "WER heard", "WER spoken", "first audio, p50", "RTF")  # fmt: skip

    def value(key: str, unit: str = "%") -> str:
        return number(m[key]["value"], unit) if key in m else ""

    rows = []
    for column, name in NAMES.items():
        if f"{column}_accuracy" not in m:
            continue
        timed = timings.get({"speech": "model", "cascade_speech": "cascade"}.get(column, ""), {})
        first, rtf = timed.get("first_audio_ms_p50"), timed.get("rtf")
        ratio = f"{column}_ratio"
        rows.append(
            (
                name,
                value(f"{column}_accuracy"),
                spread(m[f"{column}_accuracy"]),
                value(f"strict_{column}_accuracy"),
                value(ratio),
                spread(m.get(ratio)),
                value(_WORDS[column], "").rstrip("0").rstrip("."),
                value(_HEARD.get(column, "")),
                value(_SPOKEN.get(column, "")),
                "" if first is None else f"{first:,.0f} ms",
                "" if rtf is None else f"{rtf:.2f}",
            )
        )
    return Table(head, tuple(rows), tuple(range(1, len(head))))


def timings_of(rows: Sequence[Row]) -> dict[str, Any]:
    """First audio (ms: mean, p50, p90) and real-time factor of the model and of the cascade.

    Kept apart from the scores: they are of one machine at one time, and change with every run.
    """
    found: dict[str, Any] = {}
    for name, kind, seconds in (
        ("model", "", "reply_seconds"),
        ("cascade", "cascade_", "cascade_seconds"),
    ):
        spoken = [row for row in rows if row.get(f"{kind}first_audio_ms") is not None]
        if not spoken:
            continue
        first = np.array([row[f"{kind}first_audio_ms"] for row in spoken])
        found[name] = {
            "items": len(spoken),
            "first_audio_ms": round(float(first.mean()), 1),
            "first_audio_ms_p50": round(float(np.percentile(first, 50)), 1),
            "first_audio_ms_p90": round(float(np.percentile(first, 90)), 1),
        }
        timed = [row for row in spoken if row.get(f"{kind}work_seconds") and row[seconds]]
        if timed:
            work = sum(row[f"{kind}work_seconds"] for row in timed)
            legs = _legs([row["legs"] for row in timed if not kind and row.get("legs")])
            found[name] |= {"legs": legs} if legs else {}
            found[name]["rtf"] = round(work / sum(row[seconds] for row in timed), 3)
    return found


def _legs(legs: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(name for one in legs for name in one):
        values = np.array([one[name] for one in legs if name in one])
        p50, p90 = np.percentile(values, [50, 90])
        numbers = {"mean": values.mean(), "p50": p50, "p90": p90}
        found[name] = {key: round(float(value), 1) for key, value in numbers.items()}
    return found


def qa_page(overview: Overview, rows: Sequence[Row], out: Path, title: str, column: str) -> Page:
    """Table 3: its columns with intervals, and the published systems.

    Args:
        overview: Of the run.
        rows: Its items.
        out: Its folder.
        title: Of the set.
        column: The set's name in the paper's table, or "".
    """
    judge = overview["about"].get("judge", {})
    summary = f"{overview['items']} questions; judge: {judge.get('judge', 'none')}."
    timings = timings_of(rows)
    sections = [
        Section(
            "Scores",
            "Right: all words of an accepted answer are in the reply, after normalising, in any "
            "place, which is generous to long replies: mean words and the strict column (in the "
            "first sentence) stand beside. Intervals: bootstrap over the questions.",
            (columns_table(overview, timings),),
        ),
        *_parts(overview),
        Section("Every score", "", (metric_table(overview, QA_METRICS),)),
    ]
    if timings:
        sections.append(_latency(timings))
    known = published.qa_rows(column)
    if known:
        ours = overview["metrics"].get("speech_accuracy") or overview["metrics"].get(
            "text_accuracy"
        )
        listed = [(system, f"{value:.1f} %") for system, value in known.items()]
        listed.append(("this run", number(ours["value"] if ours else None)))
        text = (
            f"Accuracy as published in {published.SOURCE}; its questions were spoken by edge-tts."
        )
        table = Table(("system", title), tuple(listed), (1,))
        sections.append(Section("Beside the paper", text, (table,)))
    bars = [(m.key, m.name) for m in QA_METRICS if m.key.endswith(("accuracy", "ratio"))]
    return Page(title, summary, sections, bars, _samples(rows, out))


def _parts(overview: Overview) -> list[Section]:
    """Accuracy by part of the set, and the mean of the parts."""
    m = overview["metrics"]
    parts = list(dict.fromkeys(k.split("/")[1] for k in m if k.startswith("part/")))
    columns = [c for c in NAMES if any(f"part/{part}/{c}" in m for part in parts)]
    if not columns:
        return []
    found = {p: [m.get(f"part/{p}/{c}") for c in columns] for p in parts}
    rows = [
        (part, *(number(f["value"] if f else None) for f in values),
         str(max(f["items"] for f in values if f)))
        for part, values in found.items()
    ]  # fmt: skip
    means = []
    for place in range(len(columns)):
        values = [row[place]["value"] for row in found.values() if row[place]]
        means.append(number(sum(values) / len(values) if values else None))
    rows.append(("mean of the parts", *means, ""))
    head = ("part", *(NAMES[c] for c in columns), "items")
    table = Table(head, tuple(rows), tuple(range(1, len(head))))
    return [Section("By part", "Each by the rule of its part.", (table,))]


def _latency(timings: Mapping[str, Any]) -> Section:
    rows = tuple(
        (
            name,
            *(f"{t[key]:,.0f}" for key in ("first_audio_ms", "first_audio_ms_p50",
                                           "first_audio_ms_p90")),
            f"{t['rtf']:.2f}" if "rtf" in t else "",
            str(t["items"]),
        )
        for name, t in timings.items()
    )  # fmt: skip
    head = ("", "first audio, mean ms", "p50", "p90", "real-time factor", "items")
    text = (
        "From the end of the question to the first sound, and the work behind that end by the "
        "length of the reply. The model has heard while the question was spoken; the cascade "
        "recognises it when it has ended. A busy machine shows here."
    )
    return Section("Latency", text, (Table(head, rows, (1, 2, 3, 4, 5)),))


def _samples(rows: Sequence[Row], out: Path) -> list[Sample]:
    found = [
        Sample(
            row["id"],
            {
                ASKED: f"{row['question']} ({', '.join(row['answers'][:5])})".strip(),
                HEARD: row.get("model_heard") or row.get("heard_question"),
                ANSWER: row.get("answer"),
                TYPED: row.get("text_answer"),
                JUDGED: row.get("heard"),
            },
            [
                Sound(name, path)
                for name, path in (
                    ("Question", row.get("question_audio")),
                    ("Spoken reply", row.get("reply_wav") and out / row["reply_wav"]),
                )
                if path
            ],
        )
        for row in rows
        if "answer" in row
    ]
    return found[:SAMPLES]
