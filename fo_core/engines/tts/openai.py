"""Voices behind an OpenAI-compatible ``/audio/speech`` endpoint; needs no package."""

from __future__ import annotations

import os

import numpy as np

from fo_core.engines.endpoint import check_url, post
from fo_core.engines.tts import CLIP, check_request
from fo_core.errors import AudioError, EngineError
from fo_core.io import audio
from fo_core.io.sound_file import decode

EXTRA = ""
VOICES = ["alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer"]


class Engine:
    """A model of an endpoint; any voice's name is taken, since each server has its own.

    Args:
        model: The model's name there.
        base_url: Such as ``http://127.0.0.1:8000/v1``; None: ``$OPENAI_BASE_URL``.
        key_env: Environment variable that holds the key, if one is needed.
        response_format: "wav", "flac", "mp3" or "opus"; "pcm" is 16-bit samples at 24 kHz.
        instructions: Sent along where it is not empty: how to speak.
        tries: How often a sentence is asked for before the engine gives up.
        pause: Seconds before the second try, doubled for each further one.
        timeout: Seconds that one sentence may take.
        concurrency: Sentences that may be asked for at the same time.

    Raises:
        EngineError: There is no address.
    """

    rate = 24000

    def __init__(
        self,
        model: str = "gpt-4o-mini-tts",
        base_url: str | None = None,
        key_env: str = "OPENAI_API_KEY",
        response_format: str = "wav",
        instructions: str = "",
        tries: int = 5,
        pause: float = 1.0,
        timeout: float = 60.0,
        concurrency: int = 8,
    ) -> None:
        address = base_url or os.environ.get("OPENAI_BASE_URL", "")
        self.url = check_url(address, f"the voices of {model!r}", "OPENAI_BASE_URL")
        self.url += "/audio/speech"
        self.model, self.format, self.instructions = model, response_format, instructions
        self.key = os.environ.get(key_env)
        self.tries, self.pause, self.timeout = tries, pause, timeout
        self.concurrency = concurrency

    def voices(self, language: str = "") -> list[str]:
        """OpenAI's own names, which speak any language; other servers have others."""
        return list(VOICES)

    def synthesize(self, text: str, voice: str = "alloy", speed: float = 1.0) -> np.ndarray:
        """Speak: float32 [S] at 24 kHz.

        Raises:
            EngineError: Bad request, the endpoint refuses it, or it sends no sound.
            ServiceDown: It gives no answer.
        """
        known = voice if voice.startswith(CLIP) or not voice.strip() else VOICES[0]
        check_request(self, "openai", text, known, speed)
        body = {
            "model": self.model,
            "input": text,
            "voice": voice,
            "response_format": self.format,
            "speed": speed,
        }
        if self.instructions:
            body["instructions"] = self.instructions
        data = post(self.url, body, self.key, self.tries, self.pause, self.timeout)
        return self._decode(data, text)

    def _decode(self, data: bytes, text: str) -> np.ndarray:
        if self.format == "pcm":
            return audio.from_int16(np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2"))
        try:
            samples, source = decode(data)
        except AudioError as error:
            said = data[:80].decode(errors="replace").strip()
            raise EngineError(
                f"{self.url} sent no readable sound for {text[:60]!r}: {said!r}",
                possible="an OpenAI-compatible speech endpoint",
                do=f"check that it knows response_format {self.format!r}",
            ) from error
        return audio.resample(samples.mean(axis=1), source, self.rate)
