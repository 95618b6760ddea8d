"""``fo chat``: ask a model questions, spoken or typed; ``fo chat mic`` is in mic.py."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fo_cli import options, render
from fo_cli.mic import mic
from fo_core.errors import FoError

if TYPE_CHECKING:
    from torch import Tensor

    from fo_core.dialogue.duplex import Duplex

app = typer.Typer(no_args_is_help=True, help="Talk to a model: live, or one question.")
app.command("mic")(mic)
SOUNDS = (".wav", ".flac")  # that a reply can be written as

Reply = Annotated[
    Path | None, typer.Option("--out", help="Sound file of the reply.", metavar="REPLY.wav")
]
Again = Annotated[
    bool,
    typer.Option(
        "--again",
        help="Then read further questions of the same talk from standard input, one per line.",
    ),
]
System = Annotated[
    str | None, typer.Option("--system", help="System prompt instead of the model's own.")
]


def questions(first: str, again: bool) -> Iterator[str]:
    """The first question and, with ``again``, every line of stdin that is not empty."""
    yield first
    while again:
        if sys.stdin.isatty():
            sys.stderr.write("next question (Ctrl-D ends): ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _answer_all(first: str, again: bool, answer: Callable[[int, str], None]) -> None:
    """Call ``answer`` with the number and the text of each question.

    What is wrong with a question ends the command only where there are no others.
    """
    for number, question in enumerate(questions(first, again)):
        try:
            answer(number, question)
        except (FoError, OSError) as error:
            if not again:
                raise
            render.note(f"error: {' '.join(str(error).split())}")


def numbered(out: Path, number: int) -> Path:
    """Where the reply to a question goes: reply.wav, reply-2.wav, ..."""
    return out if not number else out.with_stem(f"{out.stem}-{number + 1}")


def _save(out: Path, wave: Tensor, rate: int) -> str | None:
    """Write the reply; None where there is none to write."""
    from fo_core.io import audio

    if not wave.numel():
        return None
    audio.write(out, wave.numpy(), rate)
    return str(out)


@app.command("file")
def file(
    question: Annotated[
        Path,
        typer.Argument(help="Recorded question, any format and rate; example: one that ships."),
    ],
    model: options.Model = options.DEFAULT_MODEL,
    out: Annotated[
        Path, typer.Option("--out", help="Sound file of the reply.", metavar="REPLY.wav")
    ] = Path("reply.wav"),
    channel: options.Channel = None,
    system: System = None,
    voice: options.Voice = None,
    sets: options.Sets = None,
    weights: options.Weights = "auto",
    device: options.Device = "auto",
    again: Again = False,
    json: options.Json = False,
) -> None:
    """Answer a recorded question with speech, as a stream, and print how fast it was.

    The question is processed in chunks of 160 ms; the reply is spoken while its text is still being
    written. --set overrides how the model talks (dialogue.json of its folder). With --again each
    further line of standard input is a recording; replies are REPLY.wav, REPLY-2.wav, ...
    """
    from fo_core.io import audio
    from fo_core.shipped import recording

    question = options.existing_file(recording(question), "question")
    options.writable(out, "reply", *SOUNDS, read=[question])
    waves = {0: audio.read(question, 16000, channel=channel)}  # before the model is loaded

    from fo_core.dialogue.drivers.answer import file_talk
    from fo_core.dialogue.settings import read_dialogue

    model = options.model_folder(model)
    options.voice_of(model, voice)
    dialogue = read_dialogue(model, sets or ())
    loaded = options.ready_model(model, dialogue, weights, device)
    talk = file_talk(loaded, dialogue, system, voice=voice)

    def answer(number: int, name: str) -> None:
        path = options.existing_file(Path(name).expanduser(), "question")
        reply = options.writable(numbered(out, number), "reply", read=[path])
        wave = waves.pop(number, None)
        wave = audio.read(path, 16000, channel=channel) if wave is None else wave
        _answer_wave(talk, path, wave, reply, json)
        options.say_channels(path, channel)

    _answer_all(str(question), again, answer)


def _answer_wave(talk: Duplex, path: Path, wave: Any, out: Path, json: bool) -> None:
    """Answer a recording [S] in a talk, and say so.

    Raises:
        FoError: Nothing was heard in it.
    """
    import torch

    from fo_core.dialogue.drivers.answer import ask_wave

    answer = ask_wave(talk, torch.from_numpy(wave))
    if answer.ended_by == "unheard":
        raise FoError(
            f"nothing was heard in {path}, so nothing is answered; no reply was written",
            possible="a recording with speech that is loud enough",
            do="listen to it: silence, hum and noise, or the wrong channel, hold no question",
        )
    written = _save(out, answer.wave, answer.sample_rate)
    timings = asdict(answer.timings)
    if json:
        found = {"text": answer.text, "out": written, "ended_by": answer.ended_by}
        render.as_json(found | {"question_seconds": len(wave) / 16000, "timings": timings})
        return
    if answer.ended_by == "dismiss":
        render.note("the model heard nothing that wants an answer; no reply was written")
        return
    render.result(answer.text)
    _say_times(written, timings)


@app.command("text")
def text(
    question: Annotated[str, typer.Argument(help="Typed question.")],
    model: options.Model = options.DEFAULT_MODEL,
    out: Reply = None,
    system: System = None,
    voice: options.Voice = None,
    sets: options.Sets = None,
    weights: options.Weights = "auto",
    device: options.Device = "auto",
    again: Again = False,
    json: options.Json = False,
) -> None:
    """Answer a typed question; with --out also in speech.

    With --again each further line of standard input is a question of the same talk.
    """
    if not question.strip():
        raise FoError("the question is empty", do="type one")
    if out is not None:
        options.writable(out, "reply", *SOUNDS)

    from fo_core.dialogue.drivers.answer import file_talk
    from fo_core.dialogue.settings import read_dialogue

    model = options.model_folder(model)
    options.voice_of(model, voice)
    dialogue = read_dialogue(model, sets or ())
    loaded = options.ready_model(model, dialogue, weights, device, parts=())
    talk = file_talk(loaded, dialogue, system, out is not None, voice)

    def answer(number: int, text: str) -> None:
        _answer_text(talk, text, None if out is None else numbered(out, number), json)

    _answer_all(question, again, answer)


def _answer_text(talk: Duplex, question: str, out: Path | None, json: bool) -> None:
    """Answer a typed question in a talk, and say so."""
    from fo_core.dialogue.drivers.answer import ask_text

    answer = ask_text(talk, question)
    written = None if out is None else _save(out, answer.wave, answer.sample_rate)
    every = asdict(answer.timings)
    timings = {name: every[name] for name in ("first_audio_ms", "reply_ms", "rtf")}
    if json:
        render.as_json({"text": answer.text, "out": written, "timings": timings})
        return
    render.result(answer.text)
    if out is not None:
        _say_times(written, timings)


def _say_times(written: str | None, timings: dict[str, Any]) -> None:
    if written is None:
        render.note("the model spoke nothing; no reply was written")
        return
    render.result(
        f"reply {written}: first audio after {timings['first_audio_ms']:.0f} ms, "
        f"real-time factor {timings['rtf']:.2f}"
    )
