"""Audio on the wire: PCM at any rate and G.711, in base64; streamed to and from float samples."""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fo_core.errors import DataError

Kind = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
_G711: dict[str, str] = {"audio/pcmu": "ULAW", "audio/pcma": "ALAW"}
SPEECH_RATE = 24000  # Hz of what the model says
MIN_RATE, MAX_RATE = 8000, 96000  # Hz
MAX_AUDIO = 15 * 2**20  # bytes of one message


@dataclass(frozen=True)
class WireFormat:
    """How samples are written: ``audio/pcm`` is little-endian int16, the others are G.711 at 8 kHz.

    Raises:
        DataError: The rate is out of range.
    """

    kind: Kind = "audio/pcm"
    rate: int = 24000  # Hz

    def __post_init__(self) -> None:
        if self.kind in _G711 and self.rate != 8000:
            raise DataError(f"{self.kind} has 8000 samples a second, not {self.rate}")
        if not MIN_RATE <= self.rate <= MAX_RATE:
            raise DataError(
                f"audio at {self.rate} Hz", possible=f"{MIN_RATE} to {MAX_RATE}", do="resample it"
            )

    @property
    def width(self) -> int:
        """Bytes a sample."""
        return 1 if self.kind in _G711 else 2

    def decode(self, data: bytes) -> np.ndarray:
        """Bytes to float32 [S] in [-1, 1].

        Raises:
            DataError: There is half a sample at the end.
        """
        if len(data) % self.width:
            raise DataError(f"{len(data)} bytes are no whole number of 16-bit samples")
        if self.kind == "audio/pcm":
            return np.frombuffer(data, "<i2").astype(np.float32) / 32768
        if not data:
            return np.zeros(0, np.float32)
        import soundfile

        wave, _ = soundfile.read(
            io.BytesIO(data),
            format="RAW",
            subtype=_G711[self.kind],
            samplerate=self.rate,
            channels=1,
            dtype="float32",
        )
        return wave

    def encode(self, wave: np.ndarray) -> bytes:
        """float [S] to bytes; what is beyond [-1, 1] is clipped."""
        pcm = np.round(np.clip(wave, -1, 1) * 32767).astype("<i2")
        if self.kind == "audio/pcm":
            return pcm.tobytes()
        if not pcm.size:
            return b""
        import soundfile

        file = io.BytesIO()
        soundfile.write(file, pcm, self.rate, format="RAW", subtype=_G711[self.kind])
        return file.getvalue()


class Resampler:
    """float32 [S] at one rate to float32 [S'] at another, block by block."""

    def __init__(self, source: int, target: int) -> None:
        self.rates = source, target
        self._stream = self._open()

    def _open(self) -> Any:
        source, target = self.rates
        if source == target:
            return None
        import soxr

        return soxr.ResampleStream(source, target, 1, dtype="float32")

    def step(self, wave: np.ndarray) -> np.ndarray:
        """What is certain after these samples; a few milliseconds stay behind."""
        wave = np.asarray(wave, np.float32)
        return wave if self._stream is None else self._stream.resample_chunk(wave)

    def flush(self) -> np.ndarray:
        """What stayed behind; the next ``step`` starts anew."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        rest = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        self._stream = self._open()
        return rest


def from_base64(text: str, limit: int) -> bytes:
    """Bytes of a message.

    Args:
        text: Base64.
        limit: Bytes that are allowed.

    Raises:
        DataError: It is no base64, or longer than allowed.
    """
    if len(text) > 4 * (limit // 3 + 1):
        raise DataError(f"more than {limit:,} bytes of audio in one message", do="send less")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError("audio is no base64", do=f"encode it ({error})") from error


def to_base64(data: bytes) -> str:
    """Bytes as base64 text."""
    return base64.b64encode(data).decode("ascii")
