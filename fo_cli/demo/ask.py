"""``fo demo``'s first part: the model that ships answers bundled recordings and ``--say`` texts."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from eval.report.provenance import fingerprint
from fo_cli.children import Progress
from fo_cli.demo.config import DemoConfig, Steps, processor_seconds
from fo_core.dialogue.drivers.answer import ask_wave, file_talk
from fo_core.dialogue.settings import read_dialogue
from fo_core.engines.tts import TTS, check_request
from fo_core.errors import EngineError, FoError
from fo_core.io import audio
from fo_core.io.files import read_json, read_jsonl, write_jsonl
from fo_core.models import freeze_omni
from fo_core.models.packing import pack_for_inference
from fo_core.shipped import model_folder
from fo_core.streaming import SAMPLE_RATE

FOLDER = "spoken_questions"  # in fo_cli
ROWS = "items.jsonl"
VOICES = ("hibari/heart", "piper/joe", "flite/slt", "espeak-ng/en-us")  # of --say, the best first


@dataclass(frozen=True)
class Question:
    """A question to ask aloud."""

    text: str
    voice: str  # ENGINE/VOICE that says it
    file: str = ""  # of a bundled recording; "" = spoken when it is asked
    answers: tuple[str, ...] = ()  # right ones; none = not judged

    @property
    def name(self) -> str:
        """Of its files."""
        if self.file:
            return Path(self.file).stem
        return "say-" + hashlib.sha256(f"{self.voice} {self.text}".encode()).hexdigest()[:10]


def bundled(limit: int = 0) -> list[Question]:
    """The recordings that come with the package, the first ``limit`` of them (0 = all).

    Raises:
        FoError: The list is missing or damaged.
    """
    index = _folder() / "index.json"
    try:
        rows = [Question(**row) for row in read_json(index)]
    except (FoError, OSError, TypeError) as error:
        raise _not_whole(index) from error
    return rows[: limit or None]


def _folder() -> Path:
    return Path(str(resources.files("fo_cli"))) / FOLDER


def _not_whole(path: Path) -> FoError:
    return FoError(
        f"the bundled question {path} is missing or damaged",
        do="pip install --force-reinstall freeze-omni, or check out the repository again",
    )


def questions(cfg: DemoConfig, say: Sequence[str], voice: str | None) -> list[Question]:
    """What is asked: the bundled recordings, then every ``--say``.

    Raises:
        FoError: A text has no words, the voice cannot speak, or speaks nothing; the bundle is not
            whole.
    """
    for text in say:
        if not any(char.isalnum() for char in text):
            raise FoError(f"--say {text!r} holds no words", do="give a question to ask aloud")
    if voice is not None:
        name, slash, who = voice.partition("/")
        if not slash:
            raise FoError(f"--voice {voice!r} has no engine", possible="ENGINE/VOICE, as flite/slt")
        if not say:
            raise FoError("--voice speaks what --say gives", do="add --say, or leave --voice out")
        check_request(TTS.load(name).Engine(), name, say[0], who, 1.0)
    return [*bundled(cfg.ask.limit), *(Question(text, voice or "") for text in say)]


def answered(out: Path, cfg: DemoConfig, asked: Sequence[Question]) -> list[dict[str, Any]] | None:
    """Rows of all these questions, if each was answered by the model as it is; else None."""
    rows = _rows(out, _key(cfg))
    found = [rows.get(question.name) for question in asked]
    return None if None in found else [row for row in found if row is not None]


def _rows(out: Path, key: str) -> dict[str, dict[str, Any]]:
    path = out / "ask" / ROWS
    rows = read_jsonl(path, whole=False) if path.is_file() else []
    return {row["name"]: row for row in rows if row["key"] == key}


def _key(cfg: DemoConfig) -> str:
    """Of the model and how long it may talk: answers under another key are asked for anew."""
    return f"{fingerprint(model_folder(cfg.start))} {cfg.ask.max_tokens}"


def ask(progress: Progress, out: Path, cfg: DemoConfig, asked: Sequence[Question]) -> None:
    """Answer what is not answered yet: sounds and ``items.jsonl`` in the folder ``ask``."""
    began, used = time.perf_counter(), processor_seconds()
    folder, key = out / "ask", _key(cfg)
    rows = _rows(out, key)
    missing = [question for question in asked if question.name not in rows]
    model = pack_for_inference(freeze_omni.load(model_folder(cfg.start)))
    dialogue = read_dialogue(model_folder(cfg.start))
    limit = replace(dialogue.segmenter, max_tokens=cfg.ask.max_tokens)
    dialogue = replace(dialogue, segmenter=limit)
    progress("ask", 0, len(missing))
    for done, question in enumerate(missing, 1):
        wave, path, voice = _sound(question, folder)
        found = ask_wave(file_talk(model, dialogue), torch.from_numpy(wave))
        reply = None
        if found.wave.numel():
            reply = folder / f"{question.name}.reply.flac"
            audio.write(reply, found.wave.numpy(), found.sample_rate)
        rows[question.name] = {
            "key": key,
            "name": question.name,
            "text": question.text,
            "answers": list(question.answers),
            "voice": voice,
            "bundled": bool(question.file),
            "question_wav": str(path),
            "reply_wav": None if reply is None else str(reply),
            "heard": found.question,
            "answer": found.text.strip(),
            "ended_by": found.ended_by,
            "finished": found.finished,
            "states": [[round(p, 3) for p in chunk] for chunk in found.states],
            "timings": {name: round(value, 2) for name, value in asdict(found.timings).items()},
        }
        write_jsonl(folder / ROWS, list(rows.values()))
        progress("ask", done, len(missing))
    Steps(out, cfg.start).mark("ask", began, used, {"asked": len(missing)})


def _sound(question: Question, folder: Path) -> tuple[Any, Path, str]:
    """The question's wave [S] at 16 kHz, its file and whose voice it is.

    Raises:
        FoError: The bundled file is missing or damaged, or nobody here can speak.
    """
    if question.file:
        path = _folder() / question.file
        try:
            return audio.read(path, SAMPLE_RATE), path, question.voice
        except FoError as error:
            raise _not_whole(path) from error
    path = folder / f"{question.name}.flac"
    wave, rate, voice = speak(question.text, question.voice)
    wave = audio.resample(wave, rate, SAMPLE_RATE)
    audio.write(path, wave, SAMPLE_RATE)
    return wave, path, voice


def speak(text: str, voice: str = "") -> tuple[Any, int, str]:
    """Say a text by the named voice, or by the first offline engine that is at hand.

    Returns:
        float32 [S], its rate in Hz, and ENGINE/VOICE.

    Raises:
        EngineError: The voice cannot speak, or none can.
    """
    for each in (voice,) if voice else VOICES:
        name, _, who = each.partition("/")
        try:
            engine = TTS.load(name).Engine()
            return engine.synthesize(text, who), engine.rate, each
        except EngineError:
            if voice:
                raise
    raise EngineError(
        "no voice engine is at hand to speak --say",
        possible=", ".join(VOICES),
        do="pip install hibari-tts (or the extra 'hibari'); fo prepare-data voices says more",
    )
