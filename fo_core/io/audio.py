"""Sound in and out: any file that can be decoded becomes mono float32 at the wanted rate."""

from __future__ import annotations

import functools
import io
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from fo_core.errors import AudioError
from fo_core.io.files import replacing
from fo_core.io.sound_file import count_frames, open_sound

log = logging.getLogger(__name__)
Wave = np.ndarray  # float32 [S], mono, in [-1, 1]

MIN_SECONDS = 0.1  # shorter sound holds no word
MAX_SECONDS = 120.0  # longest question by default
FRAME_SECONDS = 0.01  # energy is measured in frames of this length
CANCELLED = 0.05  # of the loudest channel's level: a mean below it has lost the sound


class Head(NamedTuple):
    """What is known of a sound file without its samples."""

    frames: int
    rate: int  # Hz
    channels: int


def read(
    path: str | Path,
    rate: int = 16000,
    max_seconds: float = MAX_SECONDS,
    min_seconds: float = MIN_SECONDS,
    start: float = 0.0,
    duration: float | None = None,
    channel: int | None = None,
) -> Wave:
    """Read a sound file as a mono wave.

    Args:
        path: Any format, sample rate and number of channels that fo_core/io/sound_file.py opens.
        rate: Wanted sample rate in Hz.
        max_seconds: Longer files are refused, before they are decoded where their header says it.
        min_seconds: Shorter files are refused.
        start: Where to start reading, in seconds.
        duration: How much to read, in seconds; None reads to the end.
        channel: The one to take, from 0; None averages them.

    Returns:
        float32 [S] in [-1, 1].

    Raises:
        AudioError: The file is missing, a folder, empty, not sound, too short, too long, has no
            such channel, or holds NaN or infinite samples.
    """
    with open_sound(path) as sound:
        source = sound.rate
        first = round(start * source)
        wanted = None if duration is None else round(duration * source)
        if sound.frames is not None:
            left = max(0, sound.frames - first)
            wanted = left if wanted is None else min(left, wanted)
            _check_length(path, wanted / source, min_seconds, max_seconds)
        sound.skip(first)
        limit = round(max_seconds * source) + 1
        samples = sound.read(limit if wanted is None else min(wanted, limit))
    _check_length(path, len(samples) / source, min_seconds, max_seconds)
    wave = resample(mono(path, samples, channel), source, rate)
    if not np.isfinite(wave).all():
        raise AudioError(f"{path} holds samples that are not numbers", do="export it again")
    return wave


def mono(path: str | Path, samples: np.ndarray, channel: int | None) -> Wave:
    """One channel of samples [S, C], or the mean of all."""
    _, channels = samples.shape
    if channel is not None:
        if not 0 <= channel < channels:
            raise AudioError(f"{path} has no channel {channel}", possible=f"0 to {channels - 1}")
        return samples[:, channel]
    mean = samples.mean(axis=1)
    if channels > 1:
        levels = np.sqrt((samples**2).mean(axis=0))
        if np.sqrt((mean**2).mean()) < CANCELLED * levels.max():
            _say_cancelled(str(path), channels)
    return mean


@functools.lru_cache(maxsize=4096)
def _say_cancelled(path: str, channels: int) -> None:
    """Say it once a file."""
    log.warning("%s: its %d channels cancel each other out when averaged; take one of them "
                "(--channel 0)", path, channels)  # fmt: skip


def _check_length(path: str | Path, seconds: float, shortest: float, longest: float) -> None:
    if seconds == 0:
        raise AudioError(f"{path} holds no samples", possible=f"{shortest:g} to {longest:g} s")
    if seconds < shortest:
        raise AudioError(
            f"{path} is too short: {seconds:.3f} s", possible=f"{shortest:g} to {longest:g} s"
        )
    if seconds > longest:
        raise AudioError(
            f"{path} is too long: {seconds:.1f} s",
            possible=f"at most {longest:g} s",
            do="cut it, or raise the limit",
        )


def info(path: str | Path) -> Head:
    """What a sound file is; it is decoded only where its header does not say its length.

    Raises:
        AudioError: It is missing or not sound.
    """
    with open_sound(path) as sound:
        return Head(count_frames(sound), sound.rate, sound.channels)


def write(path: str | Path, wave: Wave, rate: int) -> None:
    """Write a wave as 16-bit FLAC or WAV (by the name's ending), atomically.

    Args:
        path: File to write; its folder is made if needed.
        wave: [S], anything that numpy reads; values beyond [-1, 1] are clipped.
        rate: Sample rate in Hz.

    Raises:
        AudioError: The ending is unknown, or the samples are not finite.
        DataError: The place cannot be written.
    """
    path = Path(path)
    kinds = {".flac": "FLAC", ".wav": "WAV"}
    if path.suffix.lower() not in kinds:
        raise AudioError(f"cannot write {path}: unknown ending", possible=".wav, .flac")
    samples = np.asarray(wave, dtype=np.float32).reshape(-1)
    if not np.isfinite(samples).all():
        raise AudioError(f"cannot write {path}: the sound holds samples that are not numbers")
    encoded = io.BytesIO()  # libsndfile would sync each file to the disk, and hide why it cannot
    try:
        soundfile.write(encoded, to_int16(samples), rate, format=kinds[path.suffix.lower()])
    except soundfile.SoundFileError as error:
        raise AudioError(f"cannot write {path} at {rate} Hz: {error}") from error
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())


def to_int16(wave: Wave) -> np.ndarray:
    """16-bit form of a wave, clipped: int16 [S]; dividing by 32768 gives the wave back."""
    return np.clip(np.round(np.asarray(wave) * 32768.0), -32768, 32767).astype(np.int16)


def from_int16(samples: np.ndarray) -> Wave:
    """Float form of 16-bit samples: float32 [S]."""
    return samples.astype(np.float32) / np.float32(32768.0)


def resample(wave: Wave, source: int, target: int) -> Wave:
    """Change the sample rate (Hz) of a wave [S]; the length becomes S * target / source."""
    wave = np.ascontiguousarray(wave, dtype=np.float32)
    if source == target or not wave.size:
        return wave
    return soxr.resample(wave, source, target, quality="HQ").astype(np.float32)


def energy_db(wave: Wave, rate: int) -> np.ndarray:
    """Energy of each 10 ms frame in dB relative to full scale: float [ceil(S / frame)]."""
    size = round(rate * FRAME_SECONDS)
    wave = np.asarray(wave, dtype=np.float64)
    whole = len(wave) // size
    frames, rest = wave[: whole * size].reshape(-1, size), wave[whole * size :]
    power = np.einsum("ij,ij->i", frames, frames)
    power = (np.append(power, rest @ rest) if len(rest) else power) / size
    return 10 * np.log10(power + 1e-10)


def speech_bounds(wave: Wave, rate: int, below_peak_db: float = 40.0) -> tuple[int, int]:
    """First and one-past-last sample of what is louder than the loudest frame less some dB.

    Returns:
        (start, end) in samples; (0, 0) for silence.
    """
    if not len(wave):
        return 0, 0
    level = energy_db(wave, rate)
    if level.max() < -70:
        return 0, 0
    loud = np.flatnonzero(level > level.max() - below_peak_db)
    size = round(rate * FRAME_SECONDS)
    return int(loud[0]) * size, min(int(loud[-1] + 1) * size, len(wave))


def trim(wave: Wave, rate: int, margin: float = 0.02) -> Wave:
    """Cut the silence at both ends, all but ``margin`` seconds."""
    start, end = speech_bounds(wave, rate)
    keep = round(margin * rate)
    return wave[max(0, start - keep) : end + keep]


def normalise(wave: Wave, rate: int, level_db: float = -23.0, peak: float = 0.95) -> Wave:
    """Scale to a loudness (RMS in dB of the frames that are not silence), keeping a peak limit."""
    level = energy_db(wave, rate) if len(wave) else np.zeros(0)
    active = level[level > level.max() - 30] if level.size else level
    if not active.size or level.max() < -90:
        return wave
    rms_db = 10 * np.log10((10 ** (active / 10)).mean())
    gain = 10 ** ((level_db - rms_db) / 20)
    top = float(np.abs(wave).max()) * gain
    return (wave * (gain if top <= peak else gain * peak / top)).astype(np.float32)
