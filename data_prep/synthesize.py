"""Text to speech at scale: a cache of FLAC files keyed by what was asked for.

A file appears whole or not at all, so the step resumes after any kill. What an engine cannot
speak, or speaks badly (the sanity gate), is listed with the reason and does not stop the rest.
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.gates import GateConfig, as_wave, length_fault, pace_of, short, sound_fault
from data_prep.normalize import speakable
from fo_core import audio
from fo_core.config import config
from fo_core.engines.tts import CLIP, TTS, clip_of
from fo_core.errors import DataError, EngineError, FoError
from fo_core.files import write_jsonl

VERSION = 1  # of the treatment below: a change of it makes new files
TRANSPORT = frozenset(  # settings of engines that say how to ask, not what is heard
    "timeout retries tries pause proxy threads concurrency base_url key_env".split()
)
Progress = Callable[[str, int, int], None]  # (step, done, total)


def quiet(step: str, done: int, total: int) -> None:
    """A progress call that says nothing."""


@config
class SpeechConfig:
    """How speech is treated after the engine, and what the sanity gate lets through."""

    loudness_db: float = -23.0  # RMS of the active frames, dB of full scale
    margin: float = 0.02  # silence left at both ends, s
    fastest: float = 30.0  # most letters a second
    slowest: float = 4.0  # fewest letters a second
    quietest_db: float = -55.0  # least RMS of what the engine gave, dB of full scale
    clipped: float = 0.002  # largest share of samples at full scale


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


@dataclass(frozen=True)
class Spoken:
    """What came of a batch of requests."""

    paths: dict[Request, Path]
    rejects: list[dict[str, Any]]  # request fields and "reason"
    made: int  # files that were not there before


def gate(wave: np.ndarray, rate: int, text: str, cfg: SpeechConfig, language: str = "en") -> str:
    """Why a wave [S] cannot be the text spoken; empty if it can."""
    fault = sound_fault(wave, cfg.quietest_db, cfg.clipped)
    if fault:
        return fault
    start, end = audio.speech_bounds(wave, rate)
    pace = cfg.slowest, cfg.fastest
    if short(language) != "en":
        pace = pace_of(GateConfig(), language)
    return length_fault(text, (end - start) / rate, *pace)


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
    reason = gate(as_wave(wave), source, text, cfg, request.language)
    if reason:
        raise DataError(reason)
    return treat(wave, source, request.rate, cfg)


def _work(job: tuple[list[Request], str, SpeechConfig]) -> list[str]:
    """Speak some requests into the cache; a reason for each, empty where it went well.

    An engine that cannot be made here ends the whole step: EngineError.
    """
    requests, cache, cfg = job
    reasons = []
    for request in requests:
        engine_of(request.engine, request.options)
        try:
            audio.write(request.path(Path(cache), cfg), speak(request, cfg), request.rate)
            reasons.append("")
        except FoError as error:
            reasons.append(str(error))
        except (OSError, RuntimeError, ValueError) as error:  # an engine's own
            reasons.append(f"{type(error).__name__}: {error}")
    return reasons


def synthesize(
    requests: Iterable[Request],
    cache: str | Path,
    cfg: SpeechConfig | None = None,
    num_workers: int = 2,
    progress: Progress = quiet,
    rejects_path: str | Path | None = None,
) -> Spoken:
    """Speak every request that is not in the cache yet.

    Args:
        requests: What to speak; equal ones are spoken once.
        cache: Folder of FLAC files.
        cfg: Treatment and gate.
        num_workers: Processes side by side; 1 works in this process.
        progress: Called with ("synthesize", done, total).
        rejects_path: Where to list what failed, as JSONL.

    Raises:
        EngineError: An engine that is asked for cannot work on this machine.
        DataError: Everything was rejected.
    """
    cfg = cfg or SpeechConfig()
    cache = Path(cache)
    unique = list(dict.fromkeys(requests))
    missing = [r for r in unique if not r.path(cache, cfg).exists()]
    for name in sorted({r.engine for r in missing}):
        TTS.load(name)  # fail before any work
    missing.sort(key=lambda r: (r.engine, r.voice, r.text))
    rejects: list[dict[str, Any]] = []
    done = len(unique) - len(missing)
    progress("synthesize", done, len(unique))
    jobs = [(missing[i : i + 8], str(cache), cfg) for i in range(0, len(missing), 8)]
    for (batch, _, _), reasons in zip(jobs, _run(jobs, num_workers), strict=True):
        for request, reason in zip(batch, reasons, strict=True):
            if reason:
                rejects.append({**request.__dict__, "reason": reason})
        done += len(batch)
        progress("synthesize", done, len(unique))
    if rejects_path is not None:
        write_jsonl(rejects_path, rejects)
    if rejects and len(rejects) == len(unique):
        first = rejects[0]
        error = f"{first['engine']} could speak nothing: {first['reason']}"
        raise EngineError(error, do="choose another engine, or mend this one")
    bad = {Request(**{k: v for k, v in r.items() if k != "reason"}) for r in rejects}
    paths = {r: r.path(cache, cfg) for r in unique if r not in bad}
    return Spoken(paths, rejects, len(missing) - len(rejects))


def _run(
    jobs: Sequence[tuple[list[Request], str, SpeechConfig]], num_workers: int
) -> Iterator[list[str]]:
    if num_workers <= 1 or len(jobs) <= 1:
        yield from map(_work, jobs)
        return
    context = multiprocessing.get_context("spawn")  # fork is unsafe once torch has threads
    with ProcessPoolExecutor(min(num_workers, len(jobs)), mp_context=context) as pool:
        try:
            yield from pool.map(_work, jobs)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
