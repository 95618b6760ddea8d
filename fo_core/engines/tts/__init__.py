"""Text-to-speech engines: one file each, found by its name."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fo_core.errors import EngineError
from fo_core.registry import Registry, did_you_mean

TTS = Registry("text-to-speech engine", "fo_core.engines.tts")


class TextToSpeech(Protocol):
    """What each file's ``Engine`` does; making one raises EngineError if it cannot work here."""

    rate: int  # sample rate of its sound in Hz

    def voices(self) -> list[str]:
        """Names that ``synthesize`` takes, the default first."""
        ...

    def synthesize(self, text: str, voice: str, speed: float = 1.0) -> np.ndarray:
        """Speak: float32 [S] at ``rate``; the same input gives the same sound where offline."""
        ...


def check_request(engine: TextToSpeech, name: str, text: str, voice: str, speed: float) -> None:
    """Refuse what no engine can speak.

    Raises:
        EngineError: The text is empty, the voice unknown or the speed out of range.
    """
    if not any(char.isalnum() for char in text):
        raise EngineError(f"{name}: nothing to speak in {text!r}")
    if not 0.4 <= speed <= 2.5:
        raise EngineError(f"{name}: speed {speed:g} is out of range", possible="0.4 to 2.5")
    voices = engine.voices()
    if voice not in voices:
        raise EngineError(f"{name} has no voice {voice!r}", possible=did_you_mean(voice, voices))
