"""Text-to-speech engines: one file each, found by its name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from fo_core.errors import EngineError
from fo_core.registry import Registry, did_you_mean

TTS = Registry("text-to-speech engine", "fo_core.engines.tts")
CLIP = "clip:"  # "clip:FILE" is the voice of whoever speaks in the sound file


class TextToSpeech(Protocol):
    """What each file's ``Engine`` does; making one raises EngineError if it cannot work here.

    Two things are said only by engines that differ: ``clones = True``, it takes the voice of a
    recording (a voice named "clip:FILE"); ``concurrency``, how many sentences may be asked for at
    the same time from several threads (a service's engine; the others take one at a time). An
    engine that knows its durations also has ``synthesize_aligned`` (hibari).
    """

    rate: int  # sample rate of its sound in Hz

    def voices(self, language: str = "") -> list[str]:
        """Names that ``synthesize`` takes, the default first; of a language, if one is given."""
        ...

    def synthesize(self, text: str, voice: str, speed: float = 1.0) -> np.ndarray:
        """Speak: float32 [S] at ``rate``; the same input gives the same sound where offline."""
        ...


def check_request(engine: TextToSpeech, name: str, text: str, voice: str, speed: float) -> None:
    """Refuse what no engine can speak.

    Raises:
        EngineError: The text is empty, the voice unknown or the speed out of range; a clip is not
            there, or the engine cannot take a voice from one.
    """
    if not any(char.isalnum() for char in text):
        raise EngineError(f"{name}: nothing to speak in {text!r}")
    if not 0.4 <= speed <= 2.5:
        raise EngineError(f"{name}: speed {speed:g} is out of range", possible="0.4 to 2.5")
    if voice.startswith(CLIP):
        clip_of(voice)
        if not getattr(engine, "clones", False):
            raise EngineError(
                f"{name} cannot take a voice from a clip", possible="the engine pocket-tts"
            )
        return
    voices = engine.voices()
    if voice not in voices:
        raise EngineError(f"{name} has no voice {voice!r}", possible=did_you_mean(voice, voices))


def clip_of(voice: str) -> Path:
    """The sound file of a voice named "clip:FILE".

    Raises:
        EngineError: It is not there.
    """
    path = Path(voice.removeprefix(CLIP)).expanduser()
    if not path.is_file():
        raise EngineError(f"no clip {path}", possible="clip:FILE, some seconds of one speaker")
    return path


def of_language(codes: Iterable[str], language: str) -> list[str]:
    """The codes ("en-US-...", "en_us") whose first part is the language; all if it is empty."""
    wanted = language.replace("_", "-").split("-")[0].lower()
    return [c for c in codes if not wanted or c.replace("_", "-").split("-")[0].lower() == wanted]
