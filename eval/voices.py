"""Questions spoken by a text-to-speech engine, once: the sounds are cached for all runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.harness import Row, Work
from fo_core.errors import DataError, EngineError, FoError
from fo_core.io import audio
from fo_core.io.files import cache_dir

RATE = 16000
ORDER = ("edge-tts", "piper", "hibari", "flite", "espeak-ng")  # the paper's, then offline ones
RECORDINGS = "recordings"  # in place of an engine: the set's own


@dataclass(frozen=True)
class Voice:
    """Who speaks the questions."""

    engine: str  # "recordings": the set's own
    voice: str | None = None  # None: the engine's first

    @property
    def recorded(self) -> bool:
        """Whether the set's own recordings are asked."""
        return self.engine == RECORDINGS

    def key(self) -> dict[str, Any]:
        """What the sounds depend on."""
        return {"tts": self.engine, "voice": self.voice}

    def check(self) -> None:
        """Refuse an unknown or uninstalled engine before any work.

        Raises:
            EngineError: There is none of this name, or its package is missing.
        """
        if self.engine != RECORDINGS:
            from fo_core.engines.tts import TTS

            TTS.load(self.engine)

    def open(self) -> Work:
        """Work that adds ``question_audio`` and ``question_seconds`` to rows with a ``question``.

        Raises:
            EngineError: The engine cannot work here.
        """
        if self.engine == RECORDINGS:
            return _recorded
        from fo_core.engines.tts import TTS

        engine = TTS.load(self.engine).Engine()
        voice = self.voice or engine.voices()[0]
        folder = cache_dir() / "questions" / self.engine / voice.replace("/", "_")

        def speak(rows: Sequence[Row]) -> list[Row]:
            return [_described(_spoken(row["question"], engine, voice, folder)) for row in rows]

        return speak


def first_that_speaks(language: str, voice: str | None = None) -> tuple[Voice, dict[str, str]]:
    """The first engine of :data:`ORDER` that speaks a word here, and why those before it do not.

    Raises:
        EngineError: None does.
    """
    from fo_core.engines.tts import TTS

    failed: dict[str, str] = {}
    for name in ORDER:
        try:
            engine = TTS.load(name).Engine()
            if hasattr(engine, "retries"):  # a service: one try tells whether it is there
                engine.retries = 0
            named = voice or next(iter(engine.voices(language)), "")
            if not named:
                raise EngineError(f"no voice of the language {language!r}")
            if len(engine.synthesize("Hello.", named)):
                return Voice(name, named), failed
            failed[name] = "no sound came"
        except FoError as error:
            failed[name] = error.what
    raise EngineError(
        "no speech engine works here to speak the questions",
        possible=f"--tts {', '.join(ORDER)}, or --tts recordings",
        do="; ".join(f"{name}: {why}" for name, why in failed.items()),
    )


def _spoken(text: str, engine: Any, voice: str, folder: Path) -> Path:
    if not any(char.isalnum() for char in text):
        raise DataError(f"nothing to speak in {text!r}")
    path = folder / (hashlib.sha256(text.encode()).hexdigest()[:24] + ".flac")
    if not path.is_file():
        wave = engine.synthesize(text, voice)
        audio.write(path, audio.resample(wave, engine.rate, RATE), RATE)
    return path


def _recorded(rows: Sequence[Row]) -> list[Row]:
    return [_described(Path(row["recorded_audio"])) for row in rows]


def _described(path: Path) -> Row:
    samples, rate, _ = audio.info(path)
    return {"question_audio": str(path), "question_seconds": round(samples / rate, 3)}
