"""Several evaluations of one model on one page: a row for each set, the paper's tables below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.report import published
from eval.report.qa_page import NAMES
from eval.report.results import Page, number, spread
from fo_core.errors import DataError
from fo_core.io.files import read_json, write_json
from fo_core.report.document import Section, Table

OVERVIEW, TIMINGS = "overview.json", "timings.json"
KIND = "suite"
_COLUMNS = ("text", "answer", "speech", "cascade", "cascade_speech")
_LEGS = {
    "first_text": "LLM: end of the question to the first piece of text",
    "decoder_prefill": "speech decoder reads it",
    "first_tokens": "speech tokens of the first sound",
    "codec": "codec",
}


def collect(out: Path, suite: str, parts: Sequence[str], left: Mapping[str, str]) -> dict[str, Any]:
    """The suite's overview from those of its parts, written to ``overview.json``.

    Args:
        out: The suite's folder; each part's is in it.
        suite: Its name.
        parts: Those that were measured.
        left: Those that were not, and why.
    """
    found = {name: read_json(out / name / OVERVIEW) for name in parts}
    metrics = {f"{n}/{k}": v for n, one in found.items() for k, v in one["metrics"].items()}
    about: dict[str, Any] = {}  # of the first part; judge and cascade of the first that has some
    for one in found.values():
        about = one["about"] | about
    overview = {
        "evaluation": f"{KIND} {suite}",
        "parts": {n: {k: one[k] for k in ("evaluation", "items", "asked", "complete")}
                  for n, one in found.items()},
        "items": sum(one["items"] for one in found.values()),
        "asked": sum(one["asked"] for one in found.values()),
        "complete": all(one["complete"] for one in found.values()) and not left,
        "metrics": metrics,
        "skipped": [{"id": name, "why": why} for name, why in left.items()],
        "about": about,
    }  # fmt: skip
    write_json(out / OVERVIEW, overview)
    timings = {n: read_json(out / n / TIMINGS) for n in parts if (out / n / TIMINGS).is_file()}
    write_json(out / TIMINGS, timings)
    return overview


def read_suite(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Overview and timings of a suite's folder.

    Raises:
        DataError: It holds none.
    """
    if not (out / OVERVIEW).is_file():
        raise DataError(f"{out} holds no results", possible="the --out folder of fo eval all")
    overview = read_json(out / OVERVIEW)
    if "parts" not in overview:
        raise DataError(
            f"{out} holds one evaluation ({overview.get('evaluation')}), no suite",
            do="fo eval all --suite quick makes one",
        )
    return overview, read_json(out / TIMINGS) if (out / TIMINGS).is_file() else {}


def suite_page(overview: Mapping[str, Any], timings: Mapping[str, Any]) -> Page:
    """One page: answers, sound, latency, recognition, speech of given texts; what was left out."""
    questions = [n for n in overview["parts"] if f"{n}/answer_words" in overview["metrics"]]
    sections = [
        *(_answers(overview, timings, questions) if questions else ()),
        *_table_four(timings),
        *_recognition(overview),
        *_beside_paper(overview, questions),
    ]
    if overview["skipped"]:
        rows = tuple((row["id"], row["why"]) for row in overview["skipped"])
        table = Table(("part", "why"), rows)
        sections.append(Section("Parts that were not measured", "", (table,)))
    bars = [
        (f"{name}/{column}_accuracy", f"{name}: {NAMES[column]}")
        for name in questions
        for column in _COLUMNS
    ]
    model = overview["about"].get("model", {}).get("folder", "")
    title = str(overview["evaluation"]).capitalize()
    return Page(title, f"{model}: {overview['items']} items.", sections, bars)


def _answers(
    overview: Mapping[str, Any], timings: Mapping[str, Any], names: Sequence[str]
) -> list[Section]:
    return [
        Section(
            "Spoken questions",
            "Right: all words of an accepted answer in the reply. Retained: right answers to the "
            "spoken question by right ones to the typed, with its interval paired by question. "
            "The cascade is a recogniser, the same LLM and a speech engine on the same sound.",
            (answers_table(overview, names),),
        ),
        Section("Lengths and strictness", "Strict: the answer is in the first sentence.",
                (strict_table(overview, names),)),
        Section("Ears and voice", "", (sound_table(overview, timings, names),)),
    ]  # fmt: skip


def answers_table(overview: Mapping[str, Any], names: Sequence[str]) -> Table:
    """Accuracy of every column, and the retained shares."""
    m = overview["metrics"]
    there = [c for c in _COLUMNS if any(f"{n}/{c}_accuracy" in m for n in names)]
    kept = [c for c in there if c not in ("text", "cascade")]
    head = ("set", "items", *(NAMES[c] for c in there),
            *(f"{NAMES[c]}, retained" for c in kept))  # fmt: skip
    rows = []
    for name in names:
        cells = [number(_value(m, f"{name}/{c}_accuracy")) for c in there]
        for column in kept:
            found = m.get(f"{name}/{column}_ratio")
            cells.append(f"{number(found['value'])} ({spread(found)})" if found else "")
        rows.append((name, str(overview["parts"][name]["items"]), *cells))
    return Table(head, tuple(rows), tuple(range(1, len(head))))


def strict_table(overview: Mapping[str, Any], names: Sequence[str]) -> Table:
    """Strict accuracies, mean words, and where two judges disagree."""
    m = overview["metrics"]
    there = [c for c in _COLUMNS if any(f"{n}/strict_{c}_accuracy" in m for n in names)]
    head = ("set", *(f"{NAMES[c]}, strict" for c in there), "words, text LLM", "words, answer",
            "words, cascade", "judges disagree")  # fmt: skip
    rows = [
        (
            name,
            *(number(_value(m, f"{name}/strict_{c}_accuracy")) for c in there),
            *(_plain(_value(m, f"{name}/{key}_words")) for key in ("text", "answer", "cascade")),
            number(_value(m, f"{name}/judges_disagree")),
        )
        for name in names
    ]
    return Table(head, tuple(rows), tuple(range(1, len(head))))


def sound_table(
    overview: Mapping[str, Any], timings: Mapping[str, Any], names: Sequence[str]
) -> Table:
    """A row for the model and for the cascade on each set: errors, sound, pace, latency."""
    m = overview["metrics"]
    head = ("set", "who", "WER heard", "WER spoken", "second judge", "DNSMOS", "UTMOS",
            "Distill-MOS", "similarity", "words/min", "first audio p50", "p90", "RTF")  # fmt: skip
    rows = []
    for name in names:
        for who, kind in (("model", ""), ("cascade", "cascade_")):
            if f"{name}/{kind}speech_wer" not in m:
                continue
            time = timings.get(name, {}).get(who, {})
            pace = _value(m, f"{name}/pace") if not kind else None
            rows.append(
                (
                    name,
                    who,
                    *(
                        number(_value(m, f"{name}/{kind}{key}"))
                        for key in ("hearing_wer", "speech_wer", "speech_wer_2")
                    ),
                    *(
                        _plain(_value(m, f"{name}/{kind}{key}"), 2)
                        for key in ("dnsmos", "utmos", "distillmos", "similarity")
                    ),
                    _plain(pace, 0),
                    *(_ms(time.get(f"first_audio_ms_{p}")) for p in ("p50", "p90")),
                    _plain(time.get("rtf"), 2),
                )
            )
    return Table(head, tuple(rows), tuple(range(2, len(head))))


def _table_four(timings: Mapping[str, Any]) -> list[Section]:
    rows = []
    for name, found in timings.items():
        legs = found.get("model", {}).get("legs", {})
        for leg, meaning in _LEGS.items():
            if leg in legs:
                values = (f"{legs[leg][k]:,.0f}" for k in ("mean", "p50", "p90"))
                rows.append((name, meaning, *values))
    if not rows:
        return []
    text = "Table 4 of the paper: from the end of the question to the first sound, ms."
    head = ("set", "leg", "mean", "p50", "p90")
    return [Section("Latency by leg", text, (Table(head, tuple(rows), (2, 3, 4)),))]


def _recognition(overview: Mapping[str, Any]) -> list[Section]:
    """Tables 1 and 2, as far as they were measured."""
    kinds = {"asr": "Recognition", "tts": "Speech of given texts"}
    found = []
    for kind, title in kinds.items():
        rows = [
            (name, key.removeprefix(f"{name}/"), number(m["value"]), spread(m), str(m["items"]))
            for name, part in overview["parts"].items()
            if part["evaluation"] == kind
            for key, m in overview["metrics"].items()
            if key.startswith(f"{name}/") and key.rsplit("/", 1)[-1] in ("ctc", "llm", "wer", "cer")
        ]
        if rows:
            head = ("part", "what", "error rate", "95 %", "items")
            found.append(Section(title, "", (Table(head, tuple(rows), (2, 3, 4)),)))
    return found


def _beside_paper(overview: Mapping[str, Any], names: Sequence[str]) -> list[Section]:
    from eval import sets

    columns = {n: getattr(sets.SETS.load(n), "COLUMN", "") for n in names if n in sets.SETS.names()}
    columns = {name: column for name, column in columns.items() if column}
    if not columns:
        return []
    systems = list(dict.fromkeys(s for c in columns.values() for s in published.qa_rows(c)))
    rows = [
        (system, *(_share(published.qa_rows(c).get(system)) for c in columns.values()))
        for system in systems
    ]
    m = overview["metrics"]
    scores = (number(_value(m, f"{name}/speech_accuracy")) for name in columns)
    ours = ("this run, speech → speech", *scores)
    head = ("system", *columns)
    table = Table(head, (*rows, ours), tuple(range(1, len(head))))
    return [Section("Beside the paper", f"As published in {published.SOURCE}.", (table,))]


def _share(percent: float | None) -> str:
    return "" if percent is None else f"{percent:.1f} %"


def _value(metrics: Mapping[str, Any], key: str) -> float | None:
    return metrics[key]["value"] if key in metrics else None


def _plain(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f} ms"
