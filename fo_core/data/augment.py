"""Training-time changes of a recording: they leave its words and keep its labels right.

lhotse's transforms do what they can do here: speed, rooms, codecs. Its telephone band and its room
generator need torchaudio; ours are a few lines each.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
from pydantic import Field

from fo_core.config import config
from fo_core.data.manifest import Item
from fo_core.errors import DataError
from fo_core.io import audio
from fo_core.io.sound_file import ENDINGS

CHUNK_SECONDS = 0.16  # of one state label
TELEPHONE_RATE, TELEPHONE_LOW = 8000, 300.0  # Hz


@config
class AugmentConfig:
    """Shares and ranges; everything is drawn anew each epoch from (seed, epoch, item)."""

    gain_db: tuple[float, float] = (-6.0, 6.0)  # loudness change, dB
    noise_share: float = 0.3  # share of the recordings that get noise
    snr_db: tuple[float, float] = (10.0, 40.0)  # signal-to-noise ratio, dB
    noise_tilt: tuple[float, float] = (0.0, 2.0)  # power falls with frequency ** tilt
    noise_files: str = ""  # folder of noises; empty: noise is generated
    tilt_share: float = 0.3  # share with a frequency tilt, like another microphone
    tilt_db: tuple[float, float] = (-6.0, 6.0)  # its gain at half the sample rate, dB
    speed_share: float = 0.0  # share that is played faster or slower; changes the length
    speeds: tuple[Annotated[float, Field(ge=0.5, le=2.0)], ...] = (0.9, 1.1)  # factors to draw from
    room_share: float = 0.0  # share that gets the reverberation of a room
    room_files: str = ""  # folder of impulse responses; empty: rooms are simulated
    room_t60: tuple[float, float] = (0.15, 0.7)  # reverberation time (T60) of simulated rooms, s
    room_direct_db: tuple[float, float] = (0.0, 15.0)  # direct sound over the room's, dB
    codec_share: float = 0.0  # share that goes through a lossy codec
    codecs: tuple[str, ...] = ("opus", "mp3", "vorbis")  # codecs of lhotse to draw from
    codec_level: tuple[float, float] = (0.4, 0.95)  # compression: 0 least, 1 most
    telephone_share: float = 0.0  # share that goes through a telephone: 300 to 4000 Hz, mu-law


def check_folders(cfg: AugmentConfig) -> None:
    """Refuse folders without sounds before the first item needs one.

    Raises:
        DataError: A folder of noises or rooms that is in use holds no sound.
    """
    for share, folder in ((cfg.noise_share, cfg.noise_files), (cfg.room_share, cfg.room_files)):
        if share and folder:
            _files(folder)


def coloured_noise(draw: np.random.Generator, size: int, tilt: float) -> np.ndarray:
    """Noise of RMS 1: float32 [size], power falling with frequency ** tilt."""
    spectrum = np.fft.rfft(draw.standard_normal(size))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-tilt / 2)
    return _rms_one(np.fft.irfft(spectrum, size))


def augment(
    wave: np.ndarray, cfg: AugmentConfig, draw: np.random.Generator, rate: int = 16000
) -> np.ndarray:
    """A changed copy of a wave: float32 [S], same length, peak at most 1.

    What is off draws nothing, so that turning an effect on changes none of the others' kinds.

    Raises:
        DataError: A folder of noises or rooms holds no sound.
        AudioError: A file of it cannot be read.
    """
    if not len(wave):
        return wave
    changed: np.ndarray = wave
    if cfg.room_share and draw.random() < cfg.room_share:
        changed = in_room(changed, cfg, draw, rate)
    changed = changed * np.float32(10 ** (draw.uniform(*cfg.gain_db) / 20))
    if draw.random() < cfg.tilt_share:
        spectrum = np.fft.rfft(changed)
        slope = np.linspace(0, draw.uniform(*cfg.tilt_db), len(spectrum))
        changed = np.fft.irfft(spectrum * 10 ** (slope / 20), len(wave))
    if draw.random() < cfg.noise_share:
        rms = np.sqrt((changed.astype(np.float64) ** 2).mean())
        level = rms / 10 ** (draw.uniform(*cfg.snr_db) / 20)
        changed = changed + level * _noise(len(wave), cfg, draw, rate)
    if cfg.codec_share and draw.random() < cfg.codec_share:
        name = cfg.codecs[int(draw.integers(len(cfg.codecs)))]
        changed = through_codec(changed, name, float(draw.uniform(*cfg.codec_level)), rate)
    if cfg.telephone_share and draw.random() < cfg.telephone_share:
        changed = through_telephone(changed, rate)
    peak = float(np.abs(changed).max())
    return (changed / max(1.0, peak)).astype(np.float32)


def augment_item(
    item: Item, wave: np.ndarray, rate: int, cfg: AugmentConfig, draw: np.random.Generator
) -> tuple[Item, np.ndarray]:
    """A changed item with its changed wave; speed moves the labels along with the sound.

    Args:
        item: As the manifest has it.
        wave: Its sound [S] at ``rate``.
        rate: Hz.
        cfg: What may happen.
        draw: Of (seed, epoch, item).
    """
    if cfg.speed_share and len(wave) and draw.random() < cfg.speed_share:
        item, wave = faster(item, wave, rate, cfg.speeds[int(draw.integers(len(cfg.speeds)))])
    return item, augment(wave, cfg, draw, rate)


def faster(item: Item, wave: np.ndarray, rate: int, factor: float) -> tuple[Item, np.ndarray]:
    """An item played ``factor`` times as fast, pitch included; its labels fit the new sound.

    A wave with states ends with a whole chunk again (a part of one is cut from its tail); codec
    tokens do not fit any more and are dropped.
    """
    if factor == 1.0:
        return item, wave
    from lhotse.augmentation import Speed

    moved = np.asarray(Speed(factor)(np.ascontiguousarray(wave[None], np.float32), rate))[0]
    states = item.states
    if states:
        chunk = round(CHUNK_SECONDS * rate)
        moved = moved[: max(len(moved) // chunk, 1) * chunk]
        states = stretched(states, factor, -(-len(moved) // chunk), item.speech_end)
    changed = replace(
        item,
        seconds=len(moved) / rate,
        states=states,
        speech_tokens=(),
        speech_start=item.speech_start / factor,
        speech_end=item.speech_end / factor,
    )
    return changed, moved


def stretched(
    states: tuple[int, ...], factor: float, chunks: int, speech_end: float = 0.0
) -> tuple[int, ...]:
    """State labels of a sound that is played ``factor`` times as fast.

    The change that follows the end of speech keeps its distance from it, counted in chunks, since
    it is the first whole chunk behind the end (plus a delay) that is labelled so. Any other change
    goes to the first chunk that starts no earlier than it did.

    Args:
        states: Old labels.
        factor: Above 1 is faster.
        chunks: How many labels the new sound needs.
        speech_end: Of the old sound, s; 0 if it is not known.
    """
    ends_in = int(np.ceil(round(speech_end / CHUNK_SECONDS, 6))) if speech_end else 0
    ends_now = int(np.ceil(round(speech_end / factor / CHUNK_SECONDS, 6)))
    made, ended = [states[0]] * chunks, False
    for old in range(1, len(states)):
        if states[old] == states[old - 1]:
            continue
        new = int(np.ceil(round(old / factor, 6)))
        if speech_end and old >= ends_in and not ended:
            new, ended = ends_now + old - ends_in, True
        made[new:] = [states[old]] * max(0, chunks - new)
    return tuple(made)


def in_room(
    wave: np.ndarray, cfg: AugmentConfig, draw: np.random.Generator, rate: int
) -> np.ndarray:
    """A wave [S] as heard in a room, at its old power; the direct sound stays where it was."""
    from lhotse.augmentation import ReverbWithImpulseResponse

    response: Callable[..., np.ndarray] = functools.partial(_response, cfg, draw, rate)
    # lhotse scales 16-bit responses down, and the power is put right afterwards
    room = ReverbWithImpulseResponse(rir_generator=response)
    return np.asarray(room(np.ascontiguousarray(wave[None], np.float32), rate))[0]


def through_codec(wave: np.ndarray, codec: str, level: float, rate: int) -> np.ndarray:
    """A wave [S] coded and decoded: same length.

    Raises:
        DataError: libsndfile has no such codec.
    """
    from lhotse.augmentation import Compress

    peak = max(1.0, float(np.abs(wave).max()))  # a codec clips
    scaled = np.ascontiguousarray(wave[None] / peak, np.float32)
    try:
        coded = Compress(codec=codec, compression_level=level)(scaled, rate)
    except (ValueError, RuntimeError) as error:
        raise DataError(
            f"augment.codecs: {codec!r} at {rate} Hz: {error}", possible="opus, mp3, vorbis"
        ) from error
    return _fitted(np.asarray(coded)[0], len(wave)) * peak


def through_telephone(wave: np.ndarray, rate: int) -> np.ndarray:
    """A wave [S] through a telephone line: 300 to 4000 Hz, 8-bit mu-law at 8 kHz."""
    peak = max(1.0, float(np.abs(wave).max()))
    narrow = audio.resample(np.asarray(wave, np.float32) / np.float32(peak), rate, TELEPHONE_RATE)
    spectrum = np.fft.rfft(narrow)
    spectrum[: int(np.ceil(TELEPHONE_LOW * len(narrow) / TELEPHONE_RATE))] = 0
    narrow = np.clip(np.fft.irfft(spectrum, len(narrow)), -1, 1)
    line = io.BytesIO()
    form: dict[str, Any] = {"format": "RAW", "subtype": "ULAW"}
    soundfile.write(line, narrow, TELEPHONE_RATE, **form)
    line.seek(0)
    heard, _ = soundfile.read(line, dtype="float32", samplerate=TELEPHONE_RATE, channels=1, **form)
    return _fitted(audio.resample(heard, TELEPHONE_RATE, rate), len(wave)) * peak


def _response(
    cfg: AugmentConfig, draw: np.random.Generator, rate: int, nsource: int = 1
) -> np.ndarray:
    """An impulse response [1, S]: of a file, or a direct sound and a tail that dies away."""
    if cfg.room_files:
        files = _files(cfg.room_files)
        path = files[int(draw.integers(len(files)))]
        return audio.read(path, rate, min_seconds=0)[None]
    t60, direct = draw.uniform(*cfg.room_t60), 10 ** (draw.uniform(*cfg.room_direct_db) / 20)
    gap = draw.uniform(0.002, 0.01)  # s until the first echo
    time = np.arange(1, round(t60 * rate)) / rate
    tail = draw.standard_normal(len(time)) * 10 ** (-3 * time / t60) * (time >= gap)
    tail /= np.sqrt((tail**2).sum()) + 1e-9
    tail = np.clip(tail / direct, -0.99, 0.99)  # the direct sound is the highest peak
    return np.concatenate([[1.0], tail])[None].astype(np.float32)


def _noise(size: int, cfg: AugmentConfig, draw: np.random.Generator, rate: int) -> np.ndarray:
    """Noise of RMS 1: float32 [size]."""
    if not cfg.noise_files:
        return coloured_noise(draw, size, draw.uniform(*cfg.noise_tilt))
    files = _files(cfg.noise_files)
    path = files[int(draw.integers(len(files)))]
    frames, source, _ = audio.info(path)
    start = draw.uniform(0, max(0.0, frames / source - size / rate))
    piece = audio.read(path, rate, min_seconds=0, start=start, duration=size / rate + 0.1)
    return _rms_one(np.resize(piece, size) if len(piece) < size else piece[:size])


@functools.cache
def _files(folder: str) -> tuple[Path, ...]:
    found = tuple(sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in ENDINGS))
    if not found:
        raise DataError(f"augment: no sound in {folder!r}", possible=f"{', '.join(ENDINGS)} files")
    return found


def _rms_one(wave: np.ndarray) -> np.ndarray:
    return (wave / (np.sqrt((wave**2).mean()) + 1e-9)).astype(np.float32)


def _fitted(wave: np.ndarray, size: int) -> np.ndarray:
    """A wave cut or padded with zeros to a length."""
    return wave[:size] if len(wave) >= size else np.pad(wave, (0, size - len(wave)))
