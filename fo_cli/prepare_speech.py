"""``fo prepare-data voices``: which engines work here, which voices they have, how one sounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fo_cli import options, render
from fo_core.errors import FoError


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("voices")(voices)


def voices(
    engine: Annotated[
        str | None, typer.Argument(help="Text-to-speech engine; without one, all are tried.")
    ] = None,
    language: Annotated[
        str, typer.Option("--language", help="Only voices of this language, such as en or zh.")
    ] = "",
    say: Annotated[str, typer.Option("--say", help="Text to hear (with --out).")] = "",
    voice: Annotated[
        str, typer.Option("--voice", help="Whose voice; clip:FILE where the engine can.")
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
        from data_prep.synthesize import engine_of

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
    from data_prep.synthesize import engine_of

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
    from data_prep.normalize import speakable
    from data_prep.synthesize import Request, SpeechConfig, engine_of, speak
    from fo_core import audio

    options.writable(out, "sound file")
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
