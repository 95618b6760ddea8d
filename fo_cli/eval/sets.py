"""``fo eval llama-questions`` and its like: one command for every question set in ``eval/sets``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from eval import sets
from fo_cli import options, render
from fo_cli.eval import options as shared
from fo_cli.progress import Bars
from fo_core.devices.compute import choose
from fo_core.errors import DataError, FoError

COLUMNS = ("text", "answer", "speech")
AUTO = "auto"  # of --tts
JUDGED = ("judge", "second_judge", "llm_judge", "sound", "not_measured")  # new with every rescore


def add_commands(app: typer.Typer) -> None:
    """A command for each set."""
    for name in sets.names("questions"):
        app.command(name, help=_help(name))(_command(name))


def _help(name: str) -> str:
    title = sets.SETS.load(name).TITLE
    return (
        f"Table 3 on {title}: text LLM, speech to text, speech to speech, and their ratio.\n\n"
        "The spoken question is heard as a stream; a judge writes down the spoken answer; an "
        "answer is right when all words of an accepted one are in it. Text is greedy unless --set "
        "sampling.top_k=.. says otherwise. With --llm a text LLM alone is measured, with its own "
        "chat template and nothing before the question."
    )


def _command(name: str) -> Any:
    def command(
        out: shared.Out = None,
        data: Annotated[
            str | None,
            typer.Option(
                "--data", help="The published file, its folder, or a hub id.", metavar="PATH|HUB"
            ),
        ] = None,
        model: shared.Model = None,
        llm: Annotated[
            str | None,
            typer.Option("--llm", help="A text LLM instead: folder, hub id, .gguf or embedded."),
        ] = None,
        llm_dtype: Annotated[str, typer.Option("--llm-dtype", help="Of its weights.")] = "bfloat16",
        only: Annotated[
            list[str] | None,
            typer.Option("--only", help="Of text, answer, speech; may be repeated; all if none."),
        ] = None,
        tts: Annotated[
            str,
            typer.Option(
                "--tts",
                help="Engine that speaks the questions (cached); recordings: the set's own; auto: "
                "these where the set has no text without them, else edge-tts, and offline the next "
                "engine that works.",
            ),
        ] = "auto",
        subset: Annotated[
            list[str] | None,
            typer.Option("--subset", help="Of a suite of several sets; may be repeated."),
        ] = None,
        voice: Annotated[str | None, typer.Option("--voice", help="Its voice.")] = None,
        judge: shared.Judge = "faster-whisper",
        judge_model: shared.JudgeModel = None,
        judge_llm: Annotated[
            str | None,
            typer.Option(
                "--judge-llm",
                help="Model of an OpenAI-compatible endpoint that grades the answers as well.",
            ),
        ] = None,
        judge_url: Annotated[
            str | None, typer.Option("--judge-url", help="The endpoint; else $OPENAI_BASE_URL.")
        ] = None,
        max_new_tokens: Annotated[
            int, typer.Option("--max-new-tokens", min=1, help="Longest answer, typed or spoken.")
        ] = 128,
        baseline: shared.Baseline = None,
        baseline_asr: shared.BaselineASR = "faster-whisper",
        baseline_tts: shared.BaselineTTS = "hibari",
        second_judge: shared.SecondJudge = None,
        dnsmos: shared.Dnsmos = True,
        utmos: shared.Utmos = None,
        voice_like: shared.VoiceLike = None,
        overrides: options.Sets = None,
        limit: shared.Limit = None,
        resume: shared.Resume = True,
        rescore: shared.Rescore = False,
        seed: shared.Seed = 0,
        device: options.Device = "auto",
        published: shared.Published = False,
        json: options.Json = False,
    ) -> None:
        from eval import judges
        from eval.harness import asked_before, run
        from eval.report.qa_page import qa_page, timings_of
        from eval.spoken_qa import evaluation, passes
        from eval.voices import Voice
        from fo_core.io.files import read_jsonl, write_json

        known = sets.SETS.load(name)
        out = shared.results(out, name)
        ears = judges.JudgeSpec(judge, judge_model, known.LANGUAGE)
        grader = judges.LLMJudge(judge_llm, judge_url) if judge_llm else None
        if grader is not None:
            grader.check()
        spoken = Voice(tts, voice)
        parts = _subsets(known, subset)
        if rescore:
            before = asked_before(out, name)
            about, rows, left = before["about"], before["items"], before["left_out"]
            about = {k: v for k, v in about.items() if k not in JUDGED}
            replies = before["settings"].get("replies")
            columns = [
                c
                for c, there in (
                    ("text", "text" in before["settings"]),
                    ("answer", replies),
                    ("speech", replies),
                )
                if there
            ]
            if replies and not replies["speak"]:
                columns.remove("speech")
            baseline = "cascade" if "cascade" in before["settings"] else None
            speaks, key = None, dict[str, Any]()
        else:
            columns = shared.chosen(only, COLUMNS, "--only")
            columns = columns or (list(COLUMNS) if llm is None else ["text"])
            if columns != ["text"] and tts == AUTO:
                spoken = shared.speaker_of_questions(known, voice)
            _check_columns(columns, llm, spoken)
            device = choose(device)
            rows, left = _questions(name, known, data, spoken, columns, limit, parts)
            if columns != ["text"] and not any(row["question"] for row in rows):
                columns = [column for column in columns if column != "text"]
            speaks, key, about = _answering(
                model, llm, llm_dtype, device, max_new_tokens, seed, overrides or []
            )
            about |= {"set": {"name": name, "source": data}, "voice": spoken.key()}
        if columns != ["text"]:
            judges.check(judge)
            about |= {"judge": ears.key()}
        if grader is not None:
            about |= {"llm_judge": judge_llm}
        cascade = second = None
        if baseline is not None and columns != ["text"]:
            cascade = shared.cascade(baseline_asr, baseline_tts, known.LANGUAGE, rescore)
            about = {"cascade": cascade.key()} | about  # a rescore keeps the one that answered
        if second_judge is not None and "speech" in columns:
            second = shared.another_judge(second_judge, ears)
            about |= {"second_judge": second.key()}
        rate = shared.rating(dnsmos and "speech" in columns, utmos, voice_like)
        about |= shared.about_sound(rate)
        steps = passes(
            speaks, key, spoken, ears, grader, out, columns, device, cascade, second, rate
        )
        with Bars() as bars:
            found = run(
                evaluation(name, steps, about, known.LANGUAGE),
                rows,
                out,
                left,
                resume,
                rescore,
                seed,
                bars,
            )
        items = read_jsonl(out / "items.jsonl")
        write_json(out / "timings.json", timings_of(items))
        page = qa_page(found, items, out, known.TITLE, known.COLUMN)
        shared.show(found, page, out, json, published)
        if hasattr(known, "export"):
            made = known.export(items, out / "export", _model_name(about))
            render.note(f"for the suite's own scorer: {', '.join(map(str, made)) or 'nothing'}")

    return command  # fmt: skip


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
    spoken: Any,
    columns: list[Any],
    limit: int | None,
    subsets: list[str],
) -> tuple[list[Any], dict[str, str]]:
    from eval.source import known_source, locate, place_for, suite_folder
    from eval.spoken_qa import as_rows
    from eval.voices import RECORDINGS

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
    recorded = spoken.engine == RECORDINGS and columns != ["text"]
    return as_rows(questions, recorded, limit)


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
