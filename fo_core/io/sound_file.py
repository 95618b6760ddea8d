"""Sound files of any container: libsndfile's first, then whatever PyAV (FFmpeg) decodes.

What is odd about a file is settled here, so that training, checks, shards and evaluation hear the
same: headers of streamed files that do not know their length, files that cannot be sought, float
samples at the scale of integers.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile

from fo_core.errors import AudioError, DataError
from fo_core.io.parts import is_part, read_part

log = logging.getLogger(__name__)
READABLE = "WAV, FLAC, OGG, MP3; with the package av also M4A, AAC, WebM, MP4, AMR"
CONVERT = "ffmpeg -i {} -ar 16000 OUT.wav"
ENDINGS = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64"),
    *(".sph", ".nist"),
    *(".m4a", ".m4b", ".aac", ".webm", ".mp4", ".mov", ".mka", ".mkv", ".amr", ".3gp", ".wma"),
    *(".wv", ".ape", ".spx"),  # these and the line above by PyAV
)
RAW = {  # files without a header: what FFmpeg must be told
    ".ulaw": "-f mulaw -ar 8000", ".ul": "-f mulaw -ar 8000", ".pcmu": "-f mulaw -ar 8000",
    ".alaw": "-f alaw -ar 8000", ".al": "-f alaw -ar 8000", ".pcma": "-f alaw -ar 8000",
    ".raw": "-f s16le -ar 16000", ".pcm": "-f s16le -ar 16000", ".sln": "-f s16le -ar 8000",
}  # fmt: skip
UNKNOWN = 2**60  # frames: more than any file has
LOUDEST = 16.0  # no float sample at the scale of [-1, 1] is above this; integers are
SEEKABLE = "mp4"  # the container of FFmpeg's whose time stamps count samples
BEFORE = 1.0  # s decoded before the part that is wanted, for codecs that need a run-up
BLOCK = 2**20  # frames read at a time when a whole file is looked through


class Sound(Protocol):
    """An open sound file; frames are read in order."""

    rate: int  # Hz
    channels: int
    frames: int | None  # None: its header does not say it
    deep: bool  # samples of more than 16 bits
    flac: bool  # the file is a FLAC
    scale: float  # by which float samples that were read were divided; 1 for all but odd files

    def skip(self, frames: int) -> None:
        """Go on so many frames; only before the first read."""

    def read(self, frames: int) -> np.ndarray:
        """The next frames: float32 [frames, channels], fewer where the file ends."""
        ...


@contextlib.contextmanager
def open_sound(path: str | Path | bytes) -> Iterator[Sound]:
    """Open a sound file, a part of a file that is one (fo_core/io/parts.py), or its bytes.

    Raises:
        AudioError: It is missing, a folder, or nothing here can decode it; also while it is read.
    """
    source = _source(path)
    try:
        with _opened(path, source) as sound:
            yield sound
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError, TypeError) as error:
        raise _refused(path, error) from error


def decode(data: bytes) -> tuple[np.ndarray, int]:
    """A whole sound from its bytes: float32 [S, C], and its rate in Hz.

    Raises:
        AudioError: Nothing here can decode it.
    """
    with open_sound(data) as sound:
        blocks = [sound.read(BLOCK)]
        while len(blocks[-1]):
            blocks.append(sound.read(BLOCK))
        return np.concatenate(blocks), sound.rate


def count_frames(sound: Sound) -> int:
    """Frames of a sound that was opened just now; decoded if its header does not say it."""
    if sound.frames is not None:
        return sound.frames
    total = 0
    while len(block := sound.read(BLOCK)):
        total += len(block)
    return total


def _source(path: str | Path | bytes) -> str | bytes:
    """What is opened: a file's name, or the bytes of a part."""
    if isinstance(path, bytes):
        return path
    if is_part(path):
        try:
            return read_part(path)
        except DataError as error:
            raise AudioError(str(error)) from error
    path = Path(path)
    if path.is_dir():
        raise AudioError(f"{path} is a folder", possible=READABLE, do="name a sound file")
    if not path.exists():
        raise AudioError(f"no sound file {path}", possible=READABLE, do="check the name")
    if not path.is_file():
        raise AudioError(f"{path} is not a regular file", possible=READABLE)
    return str(path)


def _refused(path: str | Path | bytes, error: Exception) -> AudioError:
    if isinstance(path, bytes):
        return AudioError(f"not a sound: {error}", possible=READABLE)
    if not is_part(path) and not Path(path).stat().st_size:
        return AudioError(f"{path} is not a sound file that can be read (it has 0 bytes)",
                          possible=READABLE)  # fmt: skip
    form = RAW.get(Path(path).suffix.lower())
    if form is not None:
        convert = CONVERT.format(path).replace("-i", f"{form} -i")
        return AudioError(f"{path} has no header: its rate and form are not known",
                          possible=READABLE, do=f"{convert} (if that is its form)")  # fmt: skip
    said = str(error).partition(": ")[2] if str(error).startswith("Error opening") else str(error)
    return AudioError(f"{path} is not a sound file that can be read: {said or 'it is damaged'}",
                      possible=READABLE, do=CONVERT.format(path))  # fmt: skip


@contextlib.contextmanager
def _opened(path: str | Path | bytes, source: str | bytes) -> Iterator[Sound]:
    if isinstance(source, str) and Path(source).suffix.lower() in RAW:
        raise ValueError("no header")  # FFmpeg would guess a rate
    try:
        file = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source)
    except soundfile.SoundFileError as error:
        if not _av() or not _size(source):
            raise
        with _AvSound.open(source, str(error).partition(": ")[2]) as other:
            yield other
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(file)
        if file.frames == 0 and (repaired := _with_length(source)) is not None:
            file = stack.enter_context(soundfile.SoundFile(repaired))
        decoded: _AvSound | None = None
        if file.frames >= UNKNOWN or (file.frames == 0 and file.format != "WAV"):
            with contextlib.suppress(ValueError):
                decoded = stack.enter_context(_AvSound.open(source)) if _av() else None
        if decoded is None and file.frames >= UNKNOWN:
            raise ValueError("its header does not say how long it is")
        if decoded is not None:
            yield decoded
        else:
            yield _SndSound(file, path)


def _size(source: str | bytes) -> int:
    return len(source) if isinstance(source, bytes) else os.path.getsize(source)


def _with_length(source: str | bytes) -> io.BytesIO | None:
    """A WAV file whose data chunk says 0 bytes, as streams do, with the rest of it as data."""
    data = bytearray(source if isinstance(source, bytes) else Path(source).read_bytes())
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    at = 12
    while at + 8 < len(data):
        size = struct.unpack_from("<I", data, at + 4)[0]
        if data[at : at + 4] == b"data":
            if size or _chunks(data, at + 8):
                return None
            struct.pack_into("<I", data, at + 4, 0xFFFFFFFF)
            struct.pack_into("<I", data, 4, 0xFFFFFFFF)
            return io.BytesIO(data)
        at += 8 + size + size % 2
    return None


def _chunks(data: bytearray, at: int) -> bool:
    """Whether nothing but whole chunks follows, so that the data chunk is really empty."""
    while at + 8 <= len(data):
        if not data[at : at + 4].decode("latin-1").isprintable():
            return False
        size = struct.unpack_from("<I", data, at + 4)[0]
        at += 8 + size + size % 2
    return at in (len(data), len(data) + 1)


class _SndSound:
    """A file that libsndfile reads."""

    def __init__(self, file: soundfile.SoundFile, name: str | Path | bytes) -> None:
        self._file, self._name = file, name
        self.rate, self.channels = int(file.samplerate), int(file.channels)
        self.frames = int(file.frames) if file.frames < UNKNOWN else None
        self.deep = file.subtype not in ("PCM_16", "PCM_S8", "PCM_U8")
        self.flac = file.format == "FLAC"
        self.scale = 1.0
        self._float = file.subtype in ("FLOAT", "DOUBLE")

    def skip(self, frames: int) -> None:
        if frames > 0 and self._file.seekable():
            self._file.seek(frames)
            return
        while frames > 0 and (read := len(self.read(min(frames, BLOCK)))):
            frames -= read

    def read(self, frames: int) -> np.ndarray:
        samples = self._file.read(frames, dtype="float32", always_2d=True)
        if self._float and len(samples):
            top = float(np.abs(samples).max())
            if top > 1 or (top == 1 and np.array_equal(samples, np.round(samples))):
                known = not isinstance(self._name, bytes)  # bytes are not worth keeping
                self.scale = (_scale if known else _scale.__wrapped__)(self._name)
                samples = samples / np.float32(self.scale)
        return samples


@functools.lru_cache(maxsize=256)
def _scale(name: str | Path | bytes) -> float:
    """What the float samples of a file are to be divided by: 1, or the top of an integer type."""
    top = 0.0
    source = _source(name)
    with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
        for block in file.blocks(BLOCK, dtype="float32", always_2d=True):
            top = max(top, float(np.nan_to_num(np.abs(block), posinf=0).max(initial=0.0)))
    full = full_scale(top)
    if full != 1:
        said = "a sound" if isinstance(name, bytes) else name
        log.warning("%s: float samples up to %.0f, divided by %.0f", said, top, full)
    return full


def full_scale(top: float) -> float:
    """What float samples are to be divided by whose loudest is ``top``: 1, 2^15, 2^23 or 2^31."""
    if top <= LOUDEST:
        return 1.0
    return 2.0 ** next((bits for bits in (15, 23) if top <= 1.1 * 2**bits), 31)


def _av() -> bool:
    """Whether PyAV is installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


class _AvSound:
    """A file that FFmpeg's libraries decode; its length is known at its end only."""

    frames: int | None = None
    deep, flac, scale = True, False, 1.0

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self.rate, self.channels = int(stream.rate or 8000), int(stream.channels or 1)
        self._begun: int | None = None  # the sample at which decoding began
        self._blocks = self._decoded()
        self._fill()
        self.channels = self._held[0].shape[1]

    def _fill(self) -> None:
        """Decode the first block from where the container is."""
        self._held = [next(self._blocks, np.zeros((0, self.channels), np.float32))]

    @classmethod
    @contextlib.contextmanager
    def open(cls, source: str | bytes, why: str = "") -> Iterator[_AvSound]:
        """Open a file; ``why`` is what another decoder said of it.

        Raises:
            ValueError: It holds no sound, or cannot be decoded.
        """
        import av

        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        try:
            with av.open(opened, "r") as container:
                if not container.streams.audio:
                    raise ValueError(why or "it holds no sound")
                yield cls(container, container.streams.audio[0])
        except av.error.FFmpegError as error:
            raise ValueError(why or error.strerror) from error

    def _decoded(self) -> Iterator[np.ndarray]:
        """Blocks of float32 [S, C] from where the container is."""
        import av

        resampler = None
        for frame in self._container.decode(self._stream):
            if resampler is None:
                self.rate = int(frame.sample_rate)
                resampler = av.AudioResampler("fltp", frame.layout, self.rate)
                self._begun = self._time(frame)
            for part in resampler.resample(frame):
                yield part.to_ndarray().T.astype(np.float32)
        for part in resampler.resample(None) if resampler is not None else ():
            yield part.to_ndarray().T.astype(np.float32)

    def _time(self, frame: Any) -> int | None:
        """At which sample a frame begins, by its time stamp."""
        if frame.pts is None or frame.time_base is None:
            return None
        return round(float(frame.pts * frame.time_base) * self.rate)

    def skip(self, frames: int) -> None:
        exact = SEEKABLE in self._container.format.name
        origin = self._begun
        if exact and origin is not None and frames > 4 * BEFORE * self.rate:
            seconds = (frames + origin) / self.rate - BEFORE
            self._container.seek(int(seconds / self._stream.time_base), stream=self._stream)
            self._blocks = self._decoded()
            self._fill()
            if self._begun is None or self._begun > frames + origin:
                raise ValueError(f"cannot be sought to {frames / self.rate:.1f} s")
            frames -= self._begun - origin
        while frames > 0 and (read := len(self.read(min(frames, BLOCK)))):
            frames -= read

    def read(self, frames: int) -> np.ndarray:
        held = sum(map(len, self._held))
        while held < frames:
            block = next(self._blocks, None)
            if block is None:
                break
            self._held.append(block)
            held += len(block)
        made = np.concatenate(self._held)
        self._held = [made[frames:]]
        return made[:frames]
