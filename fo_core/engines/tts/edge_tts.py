"""edge-tts: Microsoft's online voices (24 kHz MP3 over a web socket). Needs the internet."""

from __future__ import annotations

import asyncio
import io

import edge_tts
import numpy as np
import soundfile

from fo_core import audio
from fo_core.engines.tts import check_request
from fo_core.errors import EngineError

EXTRA = "edge"
VOICES = [  # some of the service's several hundred
    "en-US-AriaNeural",
    "en-US-GuyNeural",
    "en-US-JennyNeural",
    "en-GB-SoniaNeural",
    "en-GB-RyanNeural",
    "zh-CN-XiaoxiaoNeural",
    "zh-CN-YunxiNeural",
]
RETRYABLE = (OSError, TimeoutError, asyncio.TimeoutError, edge_tts.exceptions.EdgeTTSException)


class Engine:
    """Not deterministic: the service may change its voices.

    Args:
        timeout: Seconds for one sentence, connection included.
        retries: Tries after the first one.
        proxy: HTTP proxy, if any.
    """

    rate = 24000

    def __init__(self, timeout: float = 30.0, retries: int = 2, proxy: str | None = None) -> None:
        self.timeout, self.retries, self.proxy = timeout, retries, proxy

    def voices(self) -> list[str]:
        """Well-known voices; any other name of the service's form is taken too."""
        return list(VOICES)

    def synthesize(
        self, text: str, voice: str = "en-US-AriaNeural", speed: float = 1.0
    ) -> np.ndarray:
        """Speak: float32 [S] at 24 kHz.

        Raises:
            EngineError: Bad request, the service is out of reach, or it sent no sound.
        """
        known = voice if not voice.endswith("Neural") else VOICES[0]
        check_request(self, "edge-tts", text, known, speed)
        last: BaseException | None = None
        for _ in range(self.retries + 1):
            try:
                data = asyncio.run(asyncio.wait_for(self._fetch(text, voice, speed), self.timeout))
                return self._decode(data, text)
            except RETRYABLE as error:
                last = error
        reason = type(last).__name__ + (f" ({last})" if str(last) else "")
        raise EngineError(
            f"edge-tts could not speak: {reason}",
            possible="the offline engines piper, flite, kokoro, espeak-ng",
            do="check the internet connection and the voice's name",
        ) from last

    async def _fetch(self, text: str, voice: str, speed: float) -> bytes:
        talk = edge_tts.Communicate(
            text,
            voice,
            rate=f"{round((speed - 1) * 100):+d}%",
            proxy=self.proxy,
            connect_timeout=max(1, int(self.timeout)),
            receive_timeout=max(1, int(self.timeout)),
        )
        return b"".join([part["data"] async for part in talk.stream() if part["type"] == "audio"])

    def _decode(self, data: bytes, text: str) -> np.ndarray:
        try:
            samples, source = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise EngineError(f"edge-tts sent no readable sound for {text!r}: {error}") from error
        return audio.resample(samples.mean(axis=1), source, self.rate)
