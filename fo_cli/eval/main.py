"""``fo eval``: measure a model: recognition, speech, spoken questions; compare two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fo_cli import options, render
from fo_cli.eval import codec, duplex, sets, suite
from fo_cli.eval import options as shared
from fo_core.devices.compute import choose
from fo_core.errors import FoError
from fo_core.progress import Bars

app = typer.Typer(
    no_args_is_help=True, help="Measure a model: recognition, speech, spoken questions."
)
sets.add_commands(app)
app.command("all")(suite.run_all)
app.command("codec")(codec.codec)
app.command("duplex")(duplex.duplex)

Path_ = Literal["streaming", "offline", "both"]
READINGS = ("ctc", "llm")
VARIANTS = ("bare", "no-prefix", "no-pre-network", "full")


@app.command("asr")
def asr(
    out: shared.Out = None,
    model: shared.Model = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            help="Manifest, or a table with a header; may be repeated.",
            metavar="JSONL|TSV",
        ),
    ] = None,
    corpus_set: Annotated[
        str | None, typer.Option("--set", help="aishell-1, librispeech or wenetspeech.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option("--corpus", help="Folder of that set.", metavar="DIR")
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option("--part", help="Part of the set. Default: all that are there."),
    ] = None,
    chunk: Annotated[
        list[str] | None,
        typer.Option("--chunk", help="Frames of 40 ms, or inf; may be repeated.", metavar="N|inf"),
    ] = None,
    path: Annotated[Path_, typer.Option("--path", help="How chunks are encoded.")] = "streaming",
    reading: Annotated[
        list[str] | None, typer.Option("--read", help="ctc: by the CTC head; llm: by the LLM.")
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Only utterances of this language.")
    ] = None,
    limit: shared.Limit = None,
    resume: shared.Resume = True,
    rescore: shared.Rescore = False,
    seed: shared.Seed = 0,
    device: options.Device = "auto",
    published: shared.Published = False,
    json: options.Json = False,
) -> None:
    """Speech recognition (the paper's table 1): CTC head and LLM, by chunk size.

    Without chunks (--chunk inf) an utterance is encoded as a whole; with chunks as a stream, or
    (--path offline) as a whole with the chunk mask, which must give the same result.
    """  # fmt: skip
    from eval import speech_data
    from eval.asr import evaluation, passes
    from eval.harness import asked_before, run
    from eval.report.pages import asr_page
    from eval.report.provenance import describe_model

    out = shared.results(out, "asr")
    about: dict[str, Any]
    if rescore:
        before = asked_before(out, "asr")
        about, rows, left = before["about"], before["items"], before["left_out"]
        steps = passes("", {}, [], None)
    else:
        folder = shared.needed_model(model)
        device = choose(device)
        from eval.systems.hearing import conditions

        how = conditions(chunk or ["4"], path)
        parts, left = _speech(data or [], corpus_set, corpus, part or [])
        rows, more = speech_data.as_rows(parts, language, limit)
        left |= more
        about = shared.about(describe_model(folder), device, seed)
        about["conditions"] = [condition.name for condition in how]
        key = {"fingerprint": about["model"]["fingerprint"]}
        steps = passes(
            str(folder), key, how, shared.chosen(reading, READINGS, "--read") or None, device
        )
    with Bars() as bars:
        found = run(evaluation(steps, about), rows, out, left, resume, rescore, seed, bars)
    shared.show(found, asr_page(found), out, json, published)


def _speech(
    data: list[Path], corpus_set: str | None, corpus: Path | None, part: list[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    from eval import speech_data

    parts: dict[str, Any] = {}
    left: dict[str, str] = {}
    for file in data:
        items, more = speech_data.from_file(options.existing_file(file, "manifest"))
        name = file.absolute().parent.name if file.stem == "manifest" else file.stem
        parts[name if name not in parts else str(file)] = items
        left |= more
    if corpus_set is not None:
        if corpus is None:
            raise FoError(f"--set {corpus_set} needs its folder", do="add --corpus DIR")
        options.existing_folder(corpus, "corpus")
        parts |= speech_data.from_set(corpus_set, corpus, part)
    if not parts:
        raise FoError("nothing to hear", possible="--data MANIFEST, or --set NAME --corpus DIR")
    return parts, left


@app.command("tts")
def tts(
    out: shared.Out = None,
    model: shared.Model = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Manifest of spoken answers.", metavar="JSONL"),
    ] = None,
    top_k: Annotated[
        list[int] | None,
        typer.Option(
            "--top-k",
            min=1,
            help="Top-k of the speech tokens; may be repeated. Default: each of 1 to 5.",
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            help="Parts of the decoder that are used: full (the default), no-prefix, "
            "no-pre-network, bare; may be repeated.",
        ),
    ] = None,
    judge: shared.Judge = "faster-whisper",
    judge_model: shared.JudgeModel = None,
    dnsmos: shared.Dnsmos = True,
    utmos: shared.Utmos = None,
    language: Annotated[str, typer.Option("--language", help="Of the answers.")] = "en",
    limit: shared.Limit = None,
    resume: shared.Resume = True,
    rescore: shared.Rescore = False,
    seed: shared.Seed = 0,
    device: options.Device = "auto",
    published: shared.Published = False,
    json: options.Json = False,
) -> None:
    """Speech of given answers (the paper's table 2): error rates by top-k and decoder parts.

    The decoder reads the LLM's text and hidden states. The manifest has spoken answers (text,
    recording, previous messages). For comparison the judge's error rate on the recordings
    themselves and through the codec is given, with DNSMOS, pace, loops and early stops.
    """  # fmt: skip
    from eval import judges
    from eval.harness import asked_before, run
    from eval.report.pages import tts_page
    from eval.report.provenance import describe_model
    from eval.tts import as_rows, evaluation, passes
    from fo_core.data import manifest
    from fo_core.io.files import read_jsonl

    out = shared.results(out, "tts")
    judges.check(judge)
    device = choose(device)
    ears = judges.JudgeSpec(judge, judge_model, language)
    rate = shared.rating(dnsmos, utmos, originals=True)
    if rescore:
        before = asked_before(out, "tts")
        about, rows, left = before["about"], before["items"], before["left_out"]
        steps = passes("", {}, [], [], ears, out, seed, device, rate)
    else:
        folder = shared.needed_model(model)
        if data is None:
            raise FoError("nothing to speak", possible="--data MANIFEST of spoken answers")
        rows, left = as_rows(manifest.read(data), limit)
        about = shared.about(describe_model(folder), device, seed) | {"data": str(data)}
        key = {"fingerprint": about["model"]["fingerprint"], "seed": seed}
        variants = shared.chosen(variant, VARIANTS, "--variant") or ["full"]
        steps = passes(
            str(folder), key, top_k or [1, 2, 3, 4, 5], variants, ears, out, seed, device, rate
        )
    about = about | {"judge": ears.key()} | shared.about_sound(rate)
    with Bars() as bars:
        found = run(evaluation(steps, about), rows, out, left, resume, rescore, seed, bars)
    page = tts_page(found, read_jsonl(out / "items.jsonl"), out)
    shared.show(found, page, out, json, published)


suite.COMMANDS |= {"asr": asr, "tts": tts}


@app.command("qa")
def qa(
    user: Annotated[
        Path, typer.Option("--user", help="Manifest of spoken questions.", metavar="JSONL")
    ],
    model: options.Model = options.DEFAULT_MODEL,
    out: shared.Out = None,
    assistant: Annotated[
        Path | None,
        typer.Option("--assistant", help="Manifest of the spoken answers.", metavar="JSONL"),
    ] = None,
    judge: shared.Judge = "faster-whisper",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Parallel processes.")] = 1,
    limit: shared.Limit = None,
    json: options.Json = False,
) -> None:
    """Ask every question of a manifest and measure each step, from recognition to the judged reply.


    A stopped run continues; every item is kept in items.jsonl. With --assistant the judge's error
    rate on the answer voice itself and through the codec is given for comparison. With several
    workers the timings are those of a loaded machine.
    """
    from fo_core.data import manifest
    from fo_core.engines.asr import ASR

    model, out = options.model_folder(model), shared.results(out, "qa")
    questions = manifest.read(user)[:limit]
    answers = manifest.read(assistant) if assistant else []
    ASR.load(judge)  # an unknown judge is said before any work

    from eval.qa_run import evaluate_folder

    with Bars() as bars:
        found = evaluate_folder(model, questions, answers, out, judge, workers, bars)
    _say(found, out, json)


@app.command("compare")
def compare(
    a: Annotated[Path, typer.Argument(help="Results folder of one run.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="Results folder of another.", metavar="B")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write compare.md, compare.json.")
    ] = None,
    seed: shared.Seed = 0,
    json: options.Json = False,
) -> None:
    """Compare two runs: paired differences on their common items, with intervals."""
    from eval.report import compare as comparing

    for folder in (a, b):
        options.existing_folder(folder, "results folder")
    found = comparing.compare(a, b, seed)
    if out is not None:
        comparing.write(found, options.writable(out, "results folder"))
    if json:
        render.as_json(found)
        return
    table = comparing.table(found)
    render.table(table.head, table.rows)
    render.note(f"{found['shared']} items in both; * = the interval of the difference leaves out 0")
    for row in found["differ"]:
        if row["what"].startswith(("model.folder", "model.fingerprint", "judge", "voice", "seed")):
            render.note(f"differs: {row['what']}: {row['a']} | {row['b']}")


def _say(found: dict[str, Any], out: Path, json: bool) -> None:
    if json:
        render.as_json(found)
        return
    for name, value in found.items():
        if isinstance(value, dict):
            for part, inner in value.items():
                score = inner.get("f1") if isinstance(inner, dict) else inner
                if not isinstance(score, list):
                    render.result(f"{name} {part}: {_number(score)}")
        else:
            render.result(f"{name}: {_number(value)}")
    render.note(f"every item is in {out / 'items.jsonl'}")


def _number(value: Any) -> str:
    if value is None:
        return "not measured"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
