"""One sentence by a text-to-speech engine: what is asked for, the engine, the treatment behind it.

A sound's file is named after all that its samples depend on, so nothing is made twice.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.gates import GateConfig, as_wave, length_fault, pace_of, sound_fault
from fo_core.config import config
from fo_core.engines.tts import CLIP, TTS, clip_of
from fo_core.errors import DataError, EngineError
from fo_core.io import audio
from fo_core.normalize import speakable

VERSION = 1  # of the treatment below: a change of it makes new files
TRANSPORT = frozenset(  # settings of engines that say how to ask, not what is heard
    "timeout retries tries pause proxy threads concurrency base_url key_env".split()
)


@config
class SpeechConfig:
    """How speech is treated after the engine."""

    loudness_db: float = -23.0  # RMS of the active frames, dB of full scale
    margin: float = 0.02  # silence left at both ends, s


@dataclass(frozen=True)
class Request:
    """One sentence to speak; equal requests share one file."""

    text: str
    engine: str
    voice: str
    speed: float = 1.0
    rate: int = 16000  # of the file, Hz
    language: str = "en"
    pitch: float = 0.0  # semitones above the voice's own
    options: str = ""  # JSON of the engine's own settings

    def key(self, cfg: SpeechConfig) -> str:
        """Hash of everything that the file's samples depend on."""
        said: list[Any] = [VERSION, self.text, self.engine, self.voice, round(self.speed, 4)]
        said += [self.rate, cfg.loudness_db, cfg.margin]
        if (self.language, self.pitch, self.options) != ("en", 0.0, ""):
            said += [self.language, round(self.pitch, 4), heard_options(self.options)]
        if self.voice.startswith(CLIP):
            said.append(digest(str(clip_of(self.voice))))
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]

    def path(self, cache: Path, cfg: SpeechConfig) -> Path:
        """Where its file lies in the cache."""
        key = self.key(cfg)
        return cache / key[:2] / f"{key}.flac"


def heard_options(options: str) -> dict[str, Any]:
    """The settings of an engine that change what is heard, not how it is asked."""
    known = json.loads(options) if options else {}
    return {k: v for k, v in sorted(known.items()) if k not in TRANSPORT}


@functools.cache
def digest(clip: str) -> str:
    """Hash of a file that is not expected to change."""
    return hashlib.sha256(Path(clip).read_bytes()).hexdigest()


def gate(
    wave: np.ndarray, rate: int, text: str, cfg: GateConfig | None = None, language: str = "en"
) -> str:
    """Why a wave [S] cannot be the text spoken; empty if it can."""
    cfg = cfg or GateConfig()
    fault = sound_fault(wave, cfg.quietest_db, cfg.clipped)
    if fault:
        return fault
    start, end = audio.speech_bounds(wave, rate)
    return length_fault(text, (end - start) / rate, *pace_of(cfg, language))


_ENGINES: dict[str, Any] = {}  # of a worker process: an engine is made once


def engine_of(name: str, options: str = "") -> Any:
    """This process's engine with these settings.

    Raises:
        EngineError: It cannot work here, or does not know a setting.
    """
    key = name + options
    if key not in _ENGINES:
        settings = json.loads(options) if options else {}
        try:
            _ENGINES[key] = TTS.load(name).Engine(**settings)
        except TypeError as error:
            raise EngineError(f"{name}: wrong options {options}: {error}") from error
    return _ENGINES[key]


def close_engines() -> None:
    """Let go of this process's engines; the next request opens its own again."""
    _ENGINES.clear()


def raw(request: Request, text: str) -> tuple[np.ndarray, int]:
    """What the engine says: a wave [S] and its sample rate in Hz.

    A higher pitch is slower speech played faster: the engine keeps its timing, and playing moves
    both pitch and timbre.

    Raises:
        EngineError: The engine failed.
    """
    engine = engine_of(request.engine, request.options)
    higher = 2 ** (request.pitch / 12)
    wave = engine.synthesize(text, request.voice, request.speed / higher)
    return wave, round(engine.rate * higher)


def treat(wave: np.ndarray, source: int, rate: int, cfg: SpeechConfig) -> np.ndarray:
    """Resampled from ``source`` to ``rate`` Hz, trimmed, at the loudness: float32 [S]."""
    wave = audio.trim(audio.resample(wave, source, rate), rate, cfg.margin)
    return audio.normalise(wave, rate, cfg.loudness_db)


def heard_trim(wave: np.ndarray, source: int, rate: int, cfg: SpeechConfig) -> tuple[float, int]:
    """What :func:`treat` does to a wave's time: seconds cut in front, samples that are left."""
    wave = audio.resample(wave, source, rate)
    start, _ = audio.speech_bounds(wave, rate)
    before = max(0, start - round(cfg.margin * rate)) / rate
    return before, len(audio.trim(wave, rate, cfg.margin))


def speak(request: Request, cfg: SpeechConfig) -> np.ndarray:
    """Speak one request: trimmed, loudness-normalised float32 [S] at ``request.rate``.

    Raises:
        EngineError: The engine failed.
        DataError: The sanity gate refused what it said.
    """
    text = speakable(request.text, request.language)
    if not text:
        raise DataError(f"nothing to speak in {request.text!r}")
    wave, source = raw(request, text)
    reason = gate(as_wave(wave), source, text, language=request.language)
    if reason:
        raise DataError(reason)
    return treat(wave, source, request.rate, cfg)
