"""The report of prepared data: ``report.json``, ``.md`` and ``.html``, and all rejects in one file.

Read from the steps' folders only, so it can be written anew at any time.
"""

from __future__ import annotations

import heapq
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.chain import FOLDERS, sides_of
from data_prep.runner.cuts import file_stem
from data_prep.runner.run import Row, rows_of
from data_prep.steps.encode_turns import DECODED
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.errors import DataError, FoError
from fo_core.io.files import only_run, read_json, replacing
from fo_core.report import plots
from fo_core.report.document import Document, Picture, Sample, Section, Sound, Table
from fo_core.report.writer import write_document
from fo_core.streaming import SAMPLE_RATE

LISTEN = 10  # items to listen to
DECODINGS = 3  # of them decoded from their tokens
PLOTTED = ("question", "incomplete", "backchannel", "aside", "noise")
LICENCES = {  # of what data may be made from, as its makers state it
    "moss": "moss-003-sft-data: CC BY-NC 4.0 in its repository (the hub's card says CC BY 4.0)",
    "domain": "written for this project: that of the project",
    "embedded": "SmolLM2-135M-Instruct: Apache-2.0",
    "flite": "flite: BSD-like, voices of CMU",
    "espeak-ng": "espeak-ng: GPL-3.0; its sound is not covered by it",
    "piper": "piper: GPL-3.0 program; each voice has a licence of its own",
    "edge-tts": "edge-tts: LGPL client of a service with terms of its own",
    "kokoro": "Kokoro: Apache-2.0",
    "pocket-tts": "pocket-tts: MIT program; see the card of its voices",
}


@dataclass
class _Seen:
    """What is gathered from a manifest, in memory that grows by numbers only."""

    seconds: list[float] = field(default_factory=list)
    words: list[float] = field(default_factory=list)
    turns: Counter[str] = field(default_factory=Counter)  # by dialogue
    voices: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def write_report(out: Path) -> dict[str, Path]:
    """Write the report of a data folder.

    Returns:
        The paths by ``json``, ``md`` and ``html``.

    Raises:
        DataError: No step has run in the folder.
        FoError: Another report of the folder is being written.
    """
    out = Path(out).resolve()
    reports = {
        step: read_json(out / folder / "report.json")
        for step, folder in FOLDERS.items()
        if (out / folder / "report.json").is_file()
    }
    if not reports:
        raise DataError(f"no step has run in {out}", do="run fo prepare-data first")
    with only_run(out):
        return _written(out, reports)


def _written(out: Path, reports: dict[str, Any]) -> dict[str, Path]:
    _join_rejects(out)
    settings = read_json(out / "settings.json") if (out / "settings.json").is_file() else {}
    seen = _gather(out)
    rows = {side: len(each.seconds) for side, each in seen.items()}
    hours = {side: round(sum(each.seconds) / 3600, 3) for side, each in seen.items()}
    data = {"steps": reports, "turns": rows, "hours": hours, "config": settings}
    summary = ", ".join(f"{rows[s]:,} turns of the {s} ({hours[s]:g} h)" for s in rows)
    sections = [
        *_tables(reports, seen, settings),
        *_lengths(seen),
        *_states(out),
        *_listen(out),
        *_decoded(out),
    ]
    return write_document(out, Document("Prepared data", summary, sections), data)


def voices_of(folder: Path) -> dict[str, dict[str, Any]]:
    """What each voice said in a folder of step synthesize.

    Returns:
        ENGINE/VOICE -> {"items", "seconds", "cer" (mean of the judge's, or None), "rejected"}.
    """
    found: dict[str, dict[str, Any]] = {}

    def of(name: str) -> dict[str, Any]:
        return found.setdefault(name, {"items": 0, "seconds": 0.0, "cer": None, "rejected": 0})

    heard: dict[str, list[float]] = defaultdict(list)
    for item in _items(folder / "manifest.jsonl"):
        each = of(item.speaker)
        each["items"] += 1
        each["seconds"] += item.duration
        if "cer" in item.extra:
            heard[item.speaker].append(float(item.extra["cer"]))
    for row in rows_of(folder / "rejects.jsonl"):
        if isinstance(row, dict) and row.get("voice"):
            of(row["voice"])["rejected"] += 1
    for name, rates in heard.items():
        found[name]["cer"] = round(sum(rates) / len(rates), 4)
    for each in found.values():
        each["seconds"] = round(each["seconds"], 2)
    return dict(sorted(found.items()))


def _tables(
    reports: dict[str, Any], seen: dict[str, _Seen], settings: dict[str, Any]
) -> list[Section]:
    steps = []
    for step, report in reports.items():
        counts = report.get("counts", {})
        more = {k: v for k, v in counts.items() if not k.startswith("dialogues of ")}
        dropped = sum(report.get("rejected", {}).values())
        steps.append(
            (step, f"{report['items']:,}", f"{report['made']:,}", f"{report['rows']:,}",
             f"{dropped:,}", f"{report['seconds']:,}", f"{report['items_per_second']:,}",
             ", ".join(f"{k.replace('_', ' ')} {v:,.6g}" for k, v in more.items()))
        )  # fmt: skip
    rules = [
        (step, reason, f"{count:,}")
        for step, report in reports.items()
        for reason, count in report.get("rejected", {}).items()
    ]
    filters = [
        (name, f"{each['turns']:,}", f"{each['cut']:,}", f"{each['dropped']:,}")
        for name, each in reports.get("sample", {}).get("filters", {}).items()
        if any(each.values())
    ]
    voices = [
        (side, voice, f"{len(seconds):,}", f"{sum(seconds) / 3600:.3f}")
        for side, each in seen.items()
        for voice, seconds in sorted(each.voices.items())
    ]
    head = ("step", "in", "used", "rows out", "dropped", "seconds", "items/s", "counted")
    shown = [
        ("Steps", "An item of encode is a group of turns.", Table(head, steps, range(1, 7))),
        ("Dropped, by rule", "Listed in rejects.jsonl.",
         Table(("step", "reason", "items"), rules, (2,))),
        ("Filters of the sample", "Turns that a filter stopped; dialogues that end before one; "
         "dialogues dropped.", Table(("filter", "turns", "cut", "dropped"), filters, (1, 2, 3))),
        ("Voices", "", Table(("side", "voice", "turns", "hours"), voices, (2, 3))),
    ]  # fmt: skip
    states = reports.get("label-states", {}).get("states")
    if states:
        shares = [
            (f"state {s}", f"{share:.4f}", states["built"].get(s, ""))
            for s, share in states["state_share"].items()
        ]
        asked = states["asked_for_a_turn"]
        kinds = [
            (k, f"{v:,}", str(asked.get(k.removesuffix("s"), "")))
            for k, v in {**states["recordings"], **states["with"]}.items()
        ]
        shown.append(
            (
                "States",
                f"{states['chunks']:,} chunks of 160 ms.",
                Table(("state", "share of chunks", "how it was built"), shares, (1,)),
            )
        )
        shown.append(
            ("Recordings", "", Table(("kind", "recordings", "asked for a turn"), kinds, (1, 2)))
        )
    found = reports.get("encode", {}).get("check")
    if found:
        cells = [(k.replace("_", " "), f"{v:g}") for k, v in found.items()]
        note = ("A sample was decoded again; mean difference of log mel magnitudes; where somebody "
                "listened, the share of letters that he heard otherwise.")  # fmt: skip
        shown.append(("Speech tokens", note, Table(("what", "value"), cells, (1,))))
    licences = Table(("source", "licence"), _sources(reports, settings))
    shown.append(("Sources and licences", "", licences))
    return [Section(title, note, (table,)) for title, note, table in shown if table.rows]


def _sources(reports: dict[str, Any], settings: dict[str, Any]) -> list[tuple[str, ...]]:
    source = settings.get("source", "moss")
    paths = reports.get("sample", {}).get("sources", ())
    if source in ("texts", "questions", "corpus"):
        paths = settings["texts"]["input"]
    known = LICENCES.get(source, "not known here: see where it comes from")
    rows = [(Path(path).name, known) for path in paths]
    if source == "domain":
        rows.append(("questions: data_prep/sources/domain.py", known))
    llm = settings.get("regenerate", {}).get("llm")
    if llm and "regenerate" in reports:
        rows.append((f"answers: {llm}", LICENCES.get(llm, "see the model's card")))
    both = settings.get("synthesize", {})
    engines = [s["engine"] for side in sides_of(source) for s in both.get(side, ())]
    rows += [(f"voices: {name}", LICENCES.get(name, "see the engine's terms")) for name in
             dict.fromkeys(engines)]  # fmt: skip
    return [tuple(row) for row in rows]


def _gather(out: Path) -> dict[str, _Seen]:
    """Lengths and voices of both sides."""
    seen: dict[str, _Seen] = {}
    for side, path in _sides(out):
        each = seen.setdefault(side, _Seen())
        for item in _items(path, side):
            if side == "user" and item.kind not in ("question", ""):
                continue
            each.seconds.append(item.duration)
            each.words.append(len(item.text.split()))
            each.turns[item.dialogue] += 1
            each.voices[item.speaker].append(item.duration)
    return seen


def _sides(out: Path) -> Iterator[tuple[str, Path]]:
    """The manifests of both sides; where they are not made yet, as they were spoken."""
    spoken = out / FOLDERS["synthesize"] / "manifest.jsonl"
    for side in ("user", "assistant"):
        path = out / side / "manifest.jsonl"
        if path.is_file() or spoken.is_file():
            yield side, path if path.is_file() else spoken


def _items(path: Path, side: str = "") -> Iterator[Item]:
    """Items of a manifest; of one side, where that is said (nobody's is what a reader says)."""
    for row in rows_of(path):
        if isinstance(row, dict):
            item = manifest.from_cut(row)
            if not side or (item.role or "assistant") == side or path.parent.name == side:
                yield item


def _join_rejects(out: Path) -> None:
    with (
        replacing(out / "rejects.jsonl") as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        for step, folder in FOLDERS.items():
            path = out / folder / "rejects.jsonl"
            if path.is_file():
                for row in rows_of(path):
                    if isinstance(row, dict):
                        named: Row = {"id": "", "step": step, **row}
                        file.write(json.dumps(named, ensure_ascii=False) + "\n")


def _lengths(seen: dict[str, _Seen]) -> list[Section]:
    lengths = {
        **{f"seconds, {side}": each.seconds for side, each in seen.items()},
        **{f"words, {side}": each.words for side, each in seen.items()},
    }
    if "user" in seen:
        lengths["turns of a dialogue"] = [float(v) for v in seen["user"].turns.values()]
    if not any(lengths.values()):
        return []
    drawn = Picture(plots.histograms(lengths), "Histograms of lengths")
    return [Section("Durations and lengths", pictures=(drawn,))]


def _order(item: Item) -> tuple[int, str]:
    return zlib.crc32(item.id.encode()), item.id


def _states(out: Path) -> list[Section]:
    """Waveforms and states: two questions, and one of each other kind."""
    title, path = "Recordings and their states", out / FOLDERS["label-states"] / "manifest.jsonl"
    if not path.is_file():
        return []
    first: dict[str, list[Item]] = {kind: [] for kind in PLOTTED}
    for item in _items(path):
        if item.kind in first and len(first[item.kind]) < 20:
            first[item.kind].append(item)
    chosen = [
        i for kind in PLOTTED for i in sorted(first[kind], key=_order)[: 1 + (kind == "question")]
    ]
    if not chosen:
        return []
    try:
        drawn = plots.recordings([_recording(item) for item in chosen])
    except FoError as error:
        return [Section(title, str(error))]
    words = "Waveforms of recordings over the colours of their states"
    return [Section(title, pictures=(Picture(drawn, words, "png"),))]


def _recording(item: Item) -> plots.Recording:
    said = item.text or str(item.extra.get("whole_text", item.extra.get("noise", "")))
    said = said if len(said) < 90 else said[:87] + "..."
    wave = item.load_audio(SAMPLE_RATE)
    return plots.Recording(f"{item.kind}: {said}", wave, SAMPLE_RATE, item.states, item.speech_end)


def _listen(out: Path) -> list[Section]:
    """Ten turns with their answers, drawn evenly by a hash of their ids."""
    sides = dict(_sides(out))
    if "user" not in sides:
        return []
    users = (item for item in _items(sides["user"], "user") if item.kind == "question")
    asked = heapq.nsmallest(LISTEN, users, key=_order)
    wanted = {(i.dialogue, i.turn + 1) for i in asked}
    answers = {(i.dialogue, i.turn): i for i in _items(sides["assistant"], "assistant")
               if (i.dialogue, i.turn) in wanted}  # fmt: skip
    samples = []
    for item in asked:
        answer = answers.get((item.dialogue, item.turn + 1))
        both = {"user": item} | ({"assistant": answer} if answer else {})
        texts = {side: f"{each.speaker}: {each.text}" for side, each in both.items()}
        sounds = [Sound(side, each.audio, each.part) for side, each in both.items()]
        samples.append(Sample(item.id, texts, sounds, spectrograms=False))
    return [Section("Ten turns to listen to", samples=samples)] if samples else []


def _decoded(out: Path) -> list[Section]:
    """Some answers beside what the codec makes of their tokens."""
    folder = out / FOLDERS["encode"]
    paths = sorted((folder / DECODED).glob("*.flac"))[:DECODINGS]
    items = {file_stem(i.id): i for i in _items(folder / "manifest.jsonl")} if paths else {}
    samples = [
        Sample(item.id, {"text": item.text},
               (Sound("Spoken", item.audio, item.part), Sound("Decoded", path)))
        for path in paths
        if (item := items.get(path.stem)) is not None
    ]  # fmt: skip
    return [Section("Decoded from speech tokens", samples=samples)] if samples else []
