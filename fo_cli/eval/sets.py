"""``fo eval llama-questions`` and its like: one command for every question set in ``eval/sets``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from eval import sets
from fo_cli import options, render
from fo_cli.eval import measure
from fo_cli.eval import options as shared


def add_commands(app: typer.Typer) -> None:
    """A command for each set."""
    for name in sets.names("questions"):
        app.command(name, help=_help(name))(_command(name))


def _help(name: str) -> str:
    title = sets.SETS.load(name).TITLE
    return (
        f"Spoken question answering on {title} (the paper's table 3).\n\n"
        "Right answers of the text LLM, from speech to text, from speech to speech, and "
        "their ratio. The spoken question is processed as a stream; a recogniser "
        "transcribes the spoken answer; an answer is right when it contains all words "
        "of an accepted one. Text is greedy unless --set sampling.top_k=.. says "
        "otherwise. With --llm a text LLM alone is measured, with its own chat template "
        "and nothing before the question."
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
            typer.Option(
                "--llm", help="Measure a text LLM instead: folder, hub id, .gguf or embedded."
            ),
        ] = None,
        llm_dtype: Annotated[str, typer.Option("--llm-dtype", help="Of its weights.")] = "bfloat16",
        only: Annotated[
            list[str] | None,
            typer.Option(
                "--only",
                help="Only this column: text, answer or speech; may be repeated. Default: all.",
            ),
        ] = None,
        tts: Annotated[
            str,
            typer.Option(
                "--tts",
                help="Engine that speaks the questions (cached); recordings: the set's own; auto: "
                "the recordings where the set has no texts, else edge-tts, or offline the "
                "next engine that works.",
            ),
        ] = "auto",
        subset: Annotated[
            list[str] | None,
            typer.Option("--subset", help="Part of a suite of several sets; may be repeated."),
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
            str | None,
            typer.Option("--judge-url", help="URL of the endpoint. Default: $OPENAI_BASE_URL."),
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
        given = {k: v for k, v in locals().items() if k in measure.OPTIONS}
        done = measure.measure(name, measure.SetOptions(**given))
        shared.show(done.overview, done.page, done.out, json, published)
        if done.exported is not None:
            listed = ", ".join(map(str, done.exported)) or "nothing"
            render.note(f"for the suite's own scorer: {listed}")

    return command  # fmt: skip
