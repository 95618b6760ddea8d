"""edge-tts: Microsoft's online voices (24 kHz MP3 over a web socket). Needs the internet."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import edge_tts
import numpy as np

from fo_core.engines.endpoint import AGAIN, ServiceDown, pause_after
from fo_core.engines.tts import CLIP, check_request, of_language
from fo_core.errors import AudioError, EngineError
from fo_core.io import audio
from fo_core.io.sound_file import decode

EXTRA = ""  # a core dependency
VOICES = [  # some of the service's several hundred, one language after the other
    "en-US-AriaNeural",
    "en-US-GuyNeural",
    "en-US-JennyNeural",
    "en-US-EmmaMultilingualNeural",
    "en-US-ChristopherNeural",
    "en-GB-SoniaNeural",
    "en-GB-RyanNeural",
    "en-AU-NatashaNeural",
    "en-IN-NeerjaNeural",
    "zh-CN-XiaoxiaoNeural",
    "zh-CN-XiaoyiNeural",
    "zh-CN-YunxiNeural",
    "zh-CN-YunjianNeural",
    "zh-CN-YunyangNeural",
    "zh-TW-HsiaoChenNeural",
    "de-DE-KatjaNeural",
    "de-DE-ConradNeural",
    "fr-FR-DeniseNeural",
    "fr-FR-HenriNeural",
    "es-ES-ElviraNeural",
    "es-ES-AlvaroNeural",
    "it-IT-ElsaNeural",
    "pt-BR-FranciscaNeural",
    "ru-RU-SvetlanaNeural",
    "ja-JP-NanamiNeural",
    "ja-JP-KeitaNeural",
    "ko-KR-SunHiNeural",
    "ko-KR-InJoonNeural",
]
OFFLINE = "the offline engines hibari, piper, flite, kokoro, espeak-ng"
SLACK = 0.3  # s by which the sound may be shorter than the service's own marks
FAULTS = (
    OSError,
    TimeoutError,
    asyncio.TimeoutError,
    aiohttp.ClientError,
    edge_tts.exceptions.EdgeTTSException,
)


class _Cut(Exception):
    """The service closed before it had said everything."""


class Engine:
    """Not deterministic: the service may change its voices.

    Args:
        timeout: Seconds for one sentence, connection included.
        retries: Tries after the first one.
        pause: Seconds before the second try, doubled for each further one.
        proxy: HTTP proxy, if any.
        concurrency: Sentences that may be asked for at the same time.
    """

    rate = 24000

    def __init__(
        self,
        timeout: float = 30.0,
        retries: int = 4,
        pause: float = 1.0,
        proxy: str | None = None,
        concurrency: int = 4,
    ) -> None:
        self.timeout, self.retries, self.pause, self.proxy = timeout, retries, pause, proxy
        self.concurrency = concurrency

    def voices(self, language: str = "") -> list[str]:
        """Well-known voices; any other name of the service's form is taken too."""
        return of_language(VOICES, language)

    def synthesize(
        self, text: str, voice: str = "en-US-AriaNeural", speed: float = 1.0
    ) -> np.ndarray:
        """Speak: float32 [S] at 24 kHz.

        Raises:
            EngineError: Bad request, or the service sent no sound or only a part of it.
            ServiceDown: It is out of reach, or refuses again and again.
        """
        own = voice.startswith(CLIP) or not voice.endswith("Neural")
        check_request(self, "edge-tts", text, voice if own else VOICES[0], speed)
        last: BaseException | None = None
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(pause_after(attempt - 1, self.pause, _asked(last)))
            try:
                return asyncio.run(asyncio.wait_for(self._speak(text, voice, speed), self.timeout))
            except (*FAULTS, _Cut) as error:
                last = error
                if not _worth_another(error):
                    break
        raise _explained(last) from last

    async def _speak(self, text: str, voice: str, speed: float) -> np.ndarray:
        talk = edge_tts.Communicate(
            text,
            voice,
            rate=f"{round((speed - 1) * 100):+d}%",
            proxy=self.proxy,
            connect_timeout=max(1, int(self.timeout)),
            receive_timeout=max(1, int(self.timeout)),
        )
        data, said, until = b"", "", 0.0
        async for part in talk.stream():
            if part["type"] == "audio":
                data += part["data"]
            else:  # where a sentence begins, how long it is (100 ns), what it says
                until = max(until, (part["offset"] + part["duration"]) / 1e7)
                said += part["text"]
        wave = self._decode(data, text)
        seconds = len(wave) / self.rate
        if seconds < until - SLACK:
            raise _Cut(f"sound for {seconds:.1f} of {until:.1f} s")
        if said and _letters(said) < 0.7 * _letters(text):
            raise _Cut(f"only {said[-40:]!r} was said")
        return wave

    def _decode(self, data: bytes, text: str) -> np.ndarray:
        try:
            samples, source = decode(data)
        except AudioError as error:
            raise EngineError(f"edge-tts sent no readable sound for {text!r}: {error}") from error
        return audio.resample(samples.mean(axis=1), source, self.rate)


def _letters(text: str) -> int:
    return sum(char.isalnum() for char in text)


def _asked(error: BaseException | None) -> str | None:
    """Seconds that the service wants to be left alone."""
    headers = getattr(error, "headers", None)
    return headers.get("Retry-After") if headers is not None else None


def _worth_another(error: BaseException) -> bool:
    status = getattr(error, "status", None)  # of a refused connection
    return not status or status in AGAIN | {401, 403}  # these two come when it is asked too often


def _explained(error: BaseException | None) -> EngineError:
    """What the last of all tries came to."""
    status = getattr(error, "status", None)
    reason = type(error).__name__.lstrip("_") + (f" ({error})" if str(error) else "")
    if status:
        return ServiceDown(
            f"edge-tts refuses with status {status}",
            possible=OFFLINE,
            do="wait a while, lower the concurrency, or update the package edge-tts",
        )
    if isinstance(error, (edge_tts.exceptions.EdgeTTSException, _Cut)):
        return EngineError(
            f"edge-tts could not speak: {reason}",
            possible=OFFLINE,
            do="check the voice's name and the text's language",
        )
    return ServiceDown(
        f"edge-tts could not speak, its service is out of reach: {reason}",
        possible=OFFLINE,
        do="check the internet connection",
    )
