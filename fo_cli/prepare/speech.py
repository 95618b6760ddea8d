"""``fo prepare-data`` voices and speak: who can speak here, and a spoken corpus from texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fo_cli import options, render
from fo_cli.prepare.options import (
    Limit,
    Out,
    Where,
    Workers,
    chain_config,
    how,
    read_config,
    run_steps,
)
from fo_cli.prepare.options import voice as named_voice
from fo_core.errors import FoError


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("voices")(voices)
    app.command("speak")(speak)


def speak(
    texts: Annotated[
        list[str],
        typer.Argument(
            help=".txt with a text a line, or .tsv, .csv, .jsonl with named columns.",
            metavar="TEXTS...",
        ),
    ],
    out: Out,
    voice: Annotated[
        list[str],
        typer.Option(
            "--voice",
            help="Voice that reads; may be repeated: each text is read by one of them, drawn by "
            "their shares (default 1).",
            metavar="ENGINE/VOICE[@SHARE]",
        ),
    ],
    column: Annotated[
        str | None, typer.Option("--text", help="Column of the texts.", metavar="COLUMN")
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="Language of the texts; default: en.")
    ] = None,
    val: Annotated[
        float | None,
        typer.Option("--val", help="Share of the texts in val.jsonl; default: 0.02.", min=0, max=1),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Random seed of the voices; default: 0.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge", help="Recogniser that checks every sound; what it misunderstands is skipped."
        ),
    ] = None,
    sets: options.Sets = None,
    limit: Limit = 0,
    num_workers: Workers = None,
    engine: Where = None,
    json: options.Json = False,
) -> None:
    """Read texts aloud: a spoken corpus with transcripts, DIR/synthesize/train.jsonl and val.jsonl.

    After any stop, run the command again to continue; options that are left out keep their values.
    `encode --out DIR` adds speech tokens, `report` writes a report.
    """
    data = read_config(None, out) if (out / "settings.json").is_file() else {}
    if data.get("source", "texts") != "texts":
        raise FoError(f"{out} holds data of source {data['source']}", do="give another --out")
    spoken = language or data.get("texts", {}).get("language", "en")
    readers = [{**named_voice(name), "language": spoken} for name in voice]
    named = {
        "texts.input": list(texts),
        "texts.text": column,
        "texts.language": language,
        "synthesize.readers": readers,
        "synthesize.seed": seed,
        "synthesize.judge.engine": judge,
        "label_states.val": val,
        **how(num_workers, engine, limit),
    }
    cfg = chain_config({**data, "source": "texts"}, sets, named)
    options.writable(out, "data folder")
    steps = run_steps(out, cfg, ("sample", "synthesize"))
    _say_voices(out / "synthesize", steps, json)


def _say_voices(folder: Path, steps: dict[str, Any], as_json: bool) -> None:
    """What was spoken, a line a voice."""
    from data_prep.report import voices_of

    found = voices_of(folder)
    seconds, counts = steps["synthesize"]["seconds"], steps["synthesize"]["counts"]
    if as_json:
        render.as_json({"out": folder, "steps": steps, "voices": found})
        return
    rows = [
        (name, f"{each['items']:,}", f"{each['seconds']:,.1f}",
         "-" if each["cer"] is None else f"{each['cer']:.4f}", f"{each['rejected']:,}")
        for name, each in found.items()
    ]  # fmt: skip
    render.table(("voice", "texts", "seconds", "CER", "skipped"), rows)
    sound = counts.get("audio_seconds", 0.0)
    render.result(
        f"{steps['synthesize']['made']:,} of {steps['sample']['items']:,} texts, {sound:,.1f} s of "
        f"sound in {seconds:,.1f} s: {folder / 'train.jsonl'}, {folder / 'val.jsonl'}"
    )
    for step in ("sample", "synthesize"):
        for reason, count in steps[step]["rejected"].items():
            render.note(f"{step} skipped {count:,}: {reason}")


def voices(
    engine: Annotated[
        str | None, typer.Argument(help="Text-to-speech engine. Default: try all.")
    ] = None,
    language: Annotated[
        str, typer.Option("--language", help="Only voices of this language, such as en or zh.")
    ] = "",
    say: Annotated[str, typer.Option("--say", help="Text to speak (with --out).")] = "",
    voice: Annotated[
        str, typer.Option("--voice", help="Voice name; clip:FILE for engines that clone.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="Sound file for --say: .wav or .flac.")
    ] = None,
    sets: options.Sets = None,
    json: options.Json = False,
) -> None:
    """List voices for synthesize, or write a sound file in one of them (--say TEXT --out FILE).

    --set gives the engine's own settings: --set model=FILE, --set base_url=http://...
    """
    from fo_core.config import set_dotted
    from fo_core.engines.tts import TTS

    settings: dict[str, Any] = {}
    for assignment in sets or ():
        set_dotted(settings, assignment)
    if engine is None:
        if say or out or sets:
            raise FoError("--say, --out and --set need an engine", possible=", ".join(TTS.names()))
        _table({name: _listed(name, language, {}) for name in TTS.names()}, json)
        return
    if bool(say) != (out is not None):
        raise FoError("--say and --out go together")
    if out is None:
        from data_prep.steps.synthesize import engine_of

        found = engine_of(engine, _text(settings)).voices(language)
        if json:
            render.as_json({"engine": engine, "language": language, "voices": found})
            return
        for name in found:
            render.result(name)
        if not found:
            render.note(f"{engine} names no voice of {language!r}")
        if more := getattr(TTS.load(engine), "MORE_VOICES", ""):
            render.note(f"more: {more}")
        return
    _say(engine, settings, say, voice, language, out, json)


def _listed(name: str, language: str, settings: dict[str, Any]) -> list[str] | str:
    """Voices of an engine, or why it cannot work here."""
    from data_prep.steps.synthesize import engine_of

    try:
        found: list[str] = engine_of(name, _text(settings)).voices(language)
        return found
    except FoError as error:
        return str(error)


def _table(found: dict[str, list[str] | str], as_json: bool) -> None:
    if as_json:
        render.as_json(
            {k: {"voices": v} if isinstance(v, list) else {"error": v} for k, v in found.items()}
        )
        return
    rows = []
    for name, listed in found.items():
        if isinstance(listed, list):
            shown = ", ".join(listed[:6]) + (", ..." if len(listed) > 6 else "")
            rows.append([name, str(len(listed)), shown or "-"])
        else:
            rows.append([name, "-", listed.partition(";")[0]])
    render.table(["engine", "voices", ""], rows)


def _say(
    engine: str,
    settings: dict[str, Any],
    text: str,
    voice: str,
    language: str,
    out: Path,
    as_json: bool,
) -> None:
    """Write a sentence, made ready and treated as the step synthesize would."""
    from data_prep.steps.synthesize import Request, SpeechConfig, engine_of, speak
    from fo_core.io import audio
    from fo_core.normalize import speakable

    options.writable(out, "sound file", ".wav", ".flac")
    made = engine_of(engine, _text(settings))
    if not voice:
        listed = made.voices(language)
        if not listed:
            raise FoError(f"{engine} names no voice of {language!r}", do="give --voice")
        voice = listed[0]
    spoken = language or "en"
    request = Request(text, engine, voice, rate=24000, language=spoken, options=_text(settings))
    wave = speak(request, SpeechConfig())
    audio.write(out, wave, request.rate)
    said = {"out": out, "voice": f"{engine}/{voice}", "spoken": speakable(text, spoken)}
    if as_json:
        render.as_json({**said, "seconds": round(len(wave) / request.rate, 3)})
    else:
        render.result(f"{out}: {said['voice']}, {len(wave) / request.rate:.2f} s: {said['spoken']}")


def _text(settings: dict[str, Any]) -> str:
    from json import dumps

    return dumps(settings, sort_keys=True) if settings else ""
