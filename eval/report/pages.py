"""What each evaluation shows: scores as in the paper's table, the paper's rows, samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.report import published
from eval.report.results import Overview, Page, number, spread
from fo_core.report.document import ANSWER, ASKED, JUDGED, Sample, Section, Sound, Table

Row = Mapping[str, Any]
SAMPLES = 8


def asr_page(overview: Overview) -> Page:
    """Table 1: a row for each condition and reading, a column for each part, the paper's below."""
    metrics = overview["metrics"]
    keys = [key.rsplit("/", 2) for key in metrics if not key.endswith("/cut")]
    parts = list(dict.fromkeys(part for part, _, _ in keys))
    lines = list(dict.fromkeys((condition, reading) for _, condition, reading in keys))
    rows, ranges, bars = [], [], []
    for condition, reading in lines:
        name = f"{_condition(condition)}, {READING[reading]}"
        found = [metrics.get(f"{part}/{condition}/{reading}") for part in parts]
        cuts = [metrics.get(f"{part}/{condition}/cut") for part in parts]
        cut = sum(round(c["value"] * c["items"]) for c in cuts if c) if reading == "llm" else 0
        rows.append((name, *(number(f["value"] if f else None) for f in found), str(cut)))
        ranges.append((name, *(spread(f) for f in found)))
        bars += [(f"{part}/{condition}/{reading}", f"{part}: {name}") for part in parts]
    places = tuple(range(1, len(parts) + 1))
    head = ("heard", *parts)
    sections = [
        Section(
            "Error rates",
            "Words; characters where the language is written without blanks. Not ended: "
            "transcripts of the LLM that were cut.",
            (Table((*head, "not ended"), tuple(rows), (*places, len(parts) + 1)),),
        ),
        Section("95 % intervals", "Bootstrap over the utterances.",
                (Table(head, tuple(ranges), places),)),
    ]  # fmt: skip
    columns = [c for c in published.ASR_COLUMNS if c in parts]
    if columns:
        at = [published.ASR_COLUMNS.index(column) for column in columns]
        known = [
            (system, *(f"{values[i]:.2f} %" for i in at))
            for system, values in published.ASR.items()
        ]
        text = f"As published in {published.SOURCE} (through the LLM)."
        table = Table(("system", *columns), tuple(known), tuple(range(1, len(columns) + 1)))
        sections.append(Section("Beside the paper", text, (table,)))
    return Page("Speech recognition", f"{overview['items']} utterances.", sections, bars)


READING = {"ctc": "encoder's CTC", "llm": "through the LLM"}
VARIANT = {
    "bare": "without prefix",
    "no-prefix": "without prefix + pre-network",
    "no-pre-network": "with prefix",
    "full": "with prefix + pre-network",
}
TTS_MEASURES = (
    ("wer", "WER", "%"), ("cer", "CER", "%"), ("dnsmos", "DNSMOS", ""),
    ("utmos", "UTMOS", ""), ("distillmos", "Distill-MOS", ""),
    ("similarity", "speaker similarity", ""), ("pace", "words/s", ""), ("endless", "endless", "%"),
    ("early_stop", "early stop", "%"), ("loop", "loop", "%"),
)  # fmt: skip


def _condition(name: str) -> str:
    chunk, _, path = name.partition("-")
    return f"chunk = {chunk}, {path}"


def tts_page(overview: Overview, rows: Sequence[Row], out: Path) -> Page:
    """Table 2: CER by top-k and parts of the decoder, everything else below, the paper's rows."""
    metrics = overview["metrics"]
    names = list(dict.fromkeys(key.rsplit("/", 1)[0] for key in metrics))
    ours = [name for name in names if "/" in name]
    variants = list(dict.fromkeys(name.split("/")[0] for name in ours))
    top_k = sorted({int(name.split("/")[1]) for name in ours})
    grids = []
    for measure in ("cer", "wer"):
        head = (f"{measure.upper()} by top-k", *map(str, top_k))
        lines = [
            (VARIANT[v], *(number(_value(metrics, f"{v}/{k}/{measure}")) for k in top_k))
            for v in variants
        ]
        grids.append(Table(head, tuple(lines), tuple(range(1, len(top_k) + 1))))
    every = Table(
        ("speech", *(name for _, name, _ in TTS_MEASURES), "95 % interval of the WER"),
        tuple(
            (_speech(name), *(number(_value(metrics, f"{name}/{key}"), unit)
                              for key, _, unit in TTS_MEASURES),
             spread(metrics.get(f"{name}/wer")))
            for name in names
        ),
        tuple(range(1, len(TTS_MEASURES) + 2)),
    )  # fmt: skip
    known = Table(
        ("CER by top-k", *map(str, published.TTS_COLUMNS)),
        tuple((VARIANT[v], *(f"{x:.2f} %" for x in row)) for v, row in published.TTS.items()),
        tuple(range(1, 6)),
    )
    judge = overview["about"].get("judge", {}).get("judge", "")
    sections = [
        Section(
            "Error rate of our speech",
            f"Heard by {judge}. Parts are skipped when speaking; the model was not trained "
            "without them.",
            tuple(grids),
        ),
        Section("Everything", "Original: the recordings, the judge's own error. Codec: these "
                "through the codec.", (every,)),
        Section("Beside the paper", f"{published.SOURCE}: 1,000 utterances, judged by "
                "paraformer-zh; every row is a model of its own.", (known,)),
    ]  # fmt: skip
    bars = [(f"{name}/wer", _speech(name)) for name in names]
    samples = [
        _sample(
            row,
            row["id"],
            out / spoken["file"],
            f"{row['text']} ({_speech(name)})",
            row["heard"][name],
        )
        for row in rows
        for name, spoken in list(row["spoken"].items())[-1:]
        if spoken["file"]
    ]
    title = f"{overview['items']} answers; judge: {judge}."
    return Page("Speech of given texts", title, sections, bars, samples[:SAMPLES])


CODEC_MEASURES = (
    ("wer", "WER", "%"), ("cer", "CER", "%"), ("own_voice", "its own voice", "%"),
    ("lent_voice", "the lent voice", "%"), ("pitch_way", "pitch, way to the lent", "%"),
    ("dnsmos", "DNSMOS", ""), ("utmos", "UTMOS", ""), ("distillmos", "Distill-MOS", ""),
    ("similarity", "speaker similarity", ""),
)  # fmt: skip


def codec_page(overview: Overview, rows: Sequence[Row], out: Path) -> Page:
    """Words and voice of the recordings, of the codec, and with exchanged global tokens."""
    metrics = overview["metrics"]
    names = list(dict.fromkeys(key.split("/")[0] for key in metrics))
    table = Table(
        ("speech", *(name for _, name, _ in CODEC_MEASURES), "95 % interval of the WER"),
        tuple(
            (name, *(number(_value(metrics, f"{name}/{key}"), unit)
                     for key, _, unit in CODEC_MEASURES), spread(metrics.get(f"{name}/wer")))
            for name in names
        ),
        tuple(range(1, len(CODEC_MEASURES) + 2)),
    )  # fmt: skip
    judge = overview["about"].get("judge", {}).get("judge", "")
    text = (
        "Codec: a recording with its own global tokens; exchanged: with those of another speaker's "
        f"recording. Words by {judge}; voices by a classifier of the recordings; pitch: 0 is the "
        "recording's own median, 100 % that of the speaker who lends the voice."
    )
    samples = [
        _sample(
            row,
            f"{row['id']} in the voice of {row['lender']}",
            out / row["spoken"]["exchanged"]["file"],
            f"taken for {row['voice']['exchanged']}, lent by {row['lent']['voice']}",
            row["heard"]["exchanged"],
        )
        for row in rows
    ]
    title = f"{overview['items']} recordings; judge: {judge}."
    bars = [(f"{name}/wer", name) for name in names]
    return Page("What the codec's global tokens carry", title,
                [Section("Words and voices", text, (table,))], bars, samples[:SAMPLES])  # fmt: skip


def _sample(row: Row, title: str, spoken: Path, answer: str, heard: str) -> Sample:
    """A recording beside what was made of it."""
    part = {"start": row["start"], "duration": row["seconds"], "channel": row.get("channel")}
    texts = {ASKED: f"the original recording of: {row['text']}", ANSWER: answer, JUDGED: heard}
    sounds = (Sound("Question", row["audio"], part), Sound("Spoken reply", spoken))
    return Sample(title, texts, sounds)


def _value(metrics: Mapping[str, Any], key: str) -> float | None:
    return metrics[key]["value"] if key in metrics else None


def _speech(name: str) -> str:
    variant, _, k = name.partition("/")
    return f"{VARIANT[variant]}, top-k {k}" if k else name
