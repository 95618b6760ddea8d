"""One question set: its questions, who answers, the passes, the page; what a set's command runs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from eval import sets
from fo_cli.eval import options as shared
from fo_core.devices.compute import choose
from fo_core.errors import DataError, FoError
from fo_core.progress import Bars

COLUMNS = ("text", "answer", "speech")
AUTO = "auto"  # of --tts
JUDGED = ("judge", "second_judge", "llm_judge", "sound", "not_measured")  # new with every rescore


@dataclass(frozen=True)
class SetOptions:
    """Options of a set's command; the command says what each means."""

    out: Path | None = None
    data: str | None = None
    model: Path | None = None
    llm: str | None = None
    llm_dtype: str = "bfloat16"
    only: list[str] | None = None
    tts: str = AUTO
    subset: list[str] | None = None
    voice: str | None = None
    judge: str = "faster-whisper"
    judge_model: str | None = None
    judge_llm: str | None = None
    judge_url: str | None = None
    max_new_tokens: int = 128
    baseline: str | None = None
    baseline_asr: str = "faster-whisper"
    baseline_tts: str = "hibari"
    second_judge: str | None = None
    dnsmos: bool = True
    utmos: str | None = None
    voice_like: Path | None = None
    overrides: list[str] | None = None
    limit: int | None = None
    resume: bool = True
    rescore: bool = False
    seed: int = 0
    device: str = "auto"


OPTIONS = frozenset(one.name for one in fields(SetOptions))


@dataclass(frozen=True)
class Measured:
    """A set's results."""

    overview: dict[str, Any]
    page: Any
    out: Path
    exported: list[Path] | None  # files for the suite's own scorer; None: it has none


@dataclass
class _Run:
    """What a run asks of whom."""

    rows: list[Any]
    left: dict[str, str]
    columns: list[Any]
    about: dict[str, Any]
    key: dict[str, Any]
    talker: Any
    device: str
    baseline: str | None
    spoken: Any  # who speaks the questions


def measure(name: str, o: SetOptions) -> Measured:
    """Run a set, or score again what was kept.

    Args:
        name: Of the set.
        o: The options.

    Raises:
        FoError: An option, the set, the model or an engine cannot be used.
    """
    from eval import judges
    from eval.harness import run
    from eval.report.qa_page import qa_page, timings_of
    from eval.spoken_qa import evaluation, passes
    from eval.voices import Voice
    from fo_core.io.files import read_jsonl, write_json

    known = sets.SETS.load(name)
    out = shared.results(o.out, name)
    ears = judges.JudgeSpec(o.judge, o.judge_model, known.LANGUAGE)
    grader = judges.LLMJudge(o.judge_llm, o.judge_url) if o.judge_llm else None
    if grader is not None:
        grader.check()
    spoken = Voice(o.tts, o.voice)
    subsets = _subsets(known, o.subset)
    asked = _again(name, out, o, spoken) if o.rescore else _anew(name, known, o, spoken, subsets)
    spoken = asked.spoken
    about, columns = asked.about, asked.columns
    if columns != ["text"]:
        judges.check(o.judge)
        about |= {"judge": ears.key()}
    if grader is not None:
        about |= {"llm_judge": o.judge_llm}
    cascade = second = None
    if asked.baseline is not None and columns != ["text"]:
        cascade = shared.cascade(o.baseline_asr, o.baseline_tts, known.LANGUAGE, o.rescore)
        about = {"cascade": cascade.key()} | about  # a rescore keeps the one that answered
    if o.second_judge is not None and "speech" in columns:
        second = shared.another_judge(o.second_judge, ears)
        about |= {"second_judge": second.key()}
    rate = shared.rating(o.dnsmos and "speech" in columns, o.utmos, o.voice_like)
    about |= shared.about_sound(rate)
    steps = passes(
        asked.talker, asked.key, spoken, ears, grader, out, columns, asked.device, cascade, second,
        rate,
    )  # fmt: skip
    task = evaluation(name, steps, about, known.LANGUAGE)
    with Bars() as bars:
        found = run(task, asked.rows, out, asked.left, o.resume, o.rescore, o.seed, bars)
    items = read_jsonl(out / "items.jsonl")
    write_json(out / "timings.json", timings_of(items))
    exported = None
    if hasattr(known, "export"):
        exported = known.export(items, out / "export", _model_name(about))
    page = qa_page(found, items, out, known.TITLE, known.COLUMN)
    return Measured(found, page, out, exported)


def _again(name: str, out: Path, o: SetOptions, spoken: Any) -> _Run:
    """What a rescore works on: nobody is asked anything."""
    from eval.harness import asked_before

    before = asked_before(out, name)
    about = {k: v for k, v in before["about"].items() if k not in JUDGED}
    settings = before["settings"]
    replies = settings.get("replies")
    there = {"text": "text" in settings, "answer": bool(replies)}
    there["speech"] = bool(replies and replies["speak"])
    columns = [column for column in COLUMNS if there[column]]
    baseline = "cascade" if "cascade" in settings else None
    rows, left = before["items"], before["left_out"]
    return _Run(rows, left, columns, about, {}, None, choose(o.device), baseline, spoken)


def _anew(name: str, known: Any, o: SetOptions, spoken: Any, subsets: list[str]) -> _Run:
    columns = shared.chosen(o.only, COLUMNS, "--only")
    columns = columns or (list(COLUMNS) if o.llm is None else ["text"])
    chosen_later = o.tts == AUTO and columns != ["text"]
    if o.llm is not None or not chosen_later:
        _check_columns(columns, o.llm, spoken)
    device = choose(o.device)
    recorded = getattr(known, "RECORDED", False) if chosen_later else spoken.recorded
    rows, left = _questions(name, known, o.data, recorded and columns != ["text"], o.limit, subsets)
    if columns != ["text"] and rows and not any(row["question"] for row in rows):
        columns = [column for column in columns if column != "text"]
    talker, key, about = _answering(
        o.model, o.llm, o.llm_dtype, device, o.max_new_tokens, o.seed, o.overrides or []
    )
    if chosen_later:  # last: an engine that is out of reach takes its time to say so
        spoken = shared.speaker_of_questions(known, o.voice)
        _check_columns(columns, o.llm, spoken)
    about |= {"set": {"name": name, "source": o.data}, "voice": spoken.key()}
    return _Run(rows, left, columns, about, key, talker, device, o.baseline, spoken)


def _model_name(about: dict[str, Any]) -> str:
    """A short name of what was measured, for the names of exported files."""
    folder = Path(str(about.get("model", {}).get("folder", "model")))
    return folder.parent.name if folder.name == "model" else folder.name


def _check_columns(columns: list[Any], llm: str | None, spoken: Any) -> None:
    """Refuse what cannot be measured before any work."""
    if llm is not None and columns != ["text"]:
        raise FoError("--llm is a text LLM: it hears and speaks nothing", possible="--only text")
    if columns != ["text"]:
        spoken.check()


def _subsets(known: Any, asked: list[str] | None) -> list[str]:
    possible = list(getattr(known, "SUBSETS", ()))
    if asked and not possible:
        raise FoError(f"--subset {asked[0]}: {known.TITLE} has no subsets", do="leave it out")
    return shared.chosen(asked, possible, "--subset") or possible


def _questions(
    name: str,
    known: Any,
    data: str | None,
    recorded: bool,
    limit: int | None,
    subsets: list[str],
) -> tuple[list[Any], dict[str, str]]:
    from eval.source import known_source, locate, place_for, suite_folder
    from eval.spoken_qa import as_rows

    try:
        source = data or known_source(name, known)
        if subsets:
            questions = known.read(suite_folder(source, known, subsets), subsets)
        else:
            files = getattr(known, "FILES", ())
            questions = known.read(locate(source, known.PATTERNS, files))
    except DataError as error:
        if data is not None or getattr(known, "HUB", "") not in error.what:
            raise
        raise DataError(error.what, possible=place_for(name, known), do="set FO_DATA, or give "
                        "--data; or check the connection to the hub") from error  # fmt: skip
    rows, left = as_rows(questions, recorded, limit)
    there = {one.category for one in questions}
    return rows, {s: f"nothing of it in {source}" for s in subsets if s not in there} | left


def _answering(
    model: Path | None,
    llm: str | None,
    dtype: str,
    device: str,
    max_new_tokens: int,
    seed: int,
    overrides: list[str],
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Who answers, what its rows depend on, and what the results say about it."""
    from eval.report.provenance import describe_model, machine, versions

    about = {"seed": seed, "max_new_tokens": max_new_tokens}
    where = {"versions": versions(), "machine": machine(device)}
    if llm is not None:
        if model is not None:
            raise FoError("both --model and --llm", possible="one of the two")
        from eval.systems.talker import TextLLM

        key = {"llm": llm, "dtype": dtype, "max_new_tokens": max_new_tokens}
        return TextLLM(llm, dtype, device, max_new_tokens), key, about | {"text_llm": key} | where
    from eval.systems.talker import Talker
    from fo_core.config import to_dict

    folder = shared.needed_model(model)
    talker = Talker(folder, device, max_new_tokens, seed, overrides)
    told = to_dict(talker.dialogue)
    told.pop("duplex", None)  # settings of live talks, which an evaluation has none of
    described = describe_model(folder) | {"dialogue": told}
    key = {k: described[k] for k in ("fingerprint", "dialogue")} | about
    return talker, key, {"model": described} | about | where
