"""Text to speech at scale: a cache of FLAC files keyed by what was asked for.

A file appears whole or not at all, so the step resumes after any kill. What an engine cannot
speak, or speaks badly (the sanity gate), is listed with the reason and does not stop the rest.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.normalize import speakable
from fo_core import audio
from fo_core.config import config
from fo_core.engines.tts import TTS
from fo_core.errors import DataError, EngineError, FoError
from fo_core.files import write_jsonl

VERSION = 1  # of the treatment below: a change of it makes new files
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

    def key(self, cfg: SpeechConfig) -> str:
        """Hash of everything that the file's samples depend on."""
        said = [VERSION, self.text, self.engine, self.voice, round(self.speed, 4), self.rate]
        said += [cfg.loudness_db, cfg.margin]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]

    def path(self, cache: Path, cfg: SpeechConfig) -> Path:
        """Where its file lies in the cache."""
        key = self.key(cfg)
        return cache / key[:2] / f"{key}.flac"


@dataclass(frozen=True)
class Spoken:
    """What came of a batch of requests."""

    paths: dict[Request, Path]
    rejects: list[dict[str, Any]]  # request fields and "reason"
    made: int  # files that were not there before


def gate(wave: np.ndarray, rate: int, text: str, cfg: SpeechConfig) -> str:
    """Why a wave [S] cannot be the text spoken; empty if it can."""
    if not len(wave) or not np.isfinite(wave).all():
        return "no sound" if not len(wave) else "samples that are not numbers"
    level = 10 * np.log10(float((wave.astype(np.float64) ** 2).mean()) + 1e-12)
    if level < cfg.quietest_db:
        return f"silence ({level:.0f} dB)"
    loud = float((np.abs(wave) >= 0.999).mean())
    if loud > cfg.clipped:
        return f"clipped ({loud:.1%} of the samples)"
    start, end = audio.speech_bounds(wave, rate)
    seconds = max((end - start) / rate, 1e-3)
    letters = sum(char.isalpha() for char in text)
    if letters / seconds > cfg.fastest and letters > 8:
        return f"too short for its text ({seconds:.2f} s for {letters} letters)"
    if letters / seconds < cfg.slowest and seconds > 1.0:
        return f"too long for its text ({seconds:.2f} s for {letters} letters)"
    return ""


_ENGINES: dict[str, Any] = {}  # of a worker process: an engine is made once


def _engine(name: str) -> Any:
    if name not in _ENGINES:
        _ENGINES[name] = TTS.load(name).Engine()
    return _ENGINES[name]


def speak(request: Request, cfg: SpeechConfig) -> np.ndarray:
    """Speak one request: trimmed, loudness-normalised float32 [S] at ``request.rate``.

    Raises:
        EngineError: The engine failed.
        DataError: The sanity gate refused what it said.
    """
    engine = _engine(request.engine)
    text = speakable(request.text)
    if not text:
        raise DataError(f"nothing to speak in {request.text!r}")
    raw = engine.synthesize(text, request.voice, request.speed)
    reason = gate(raw, engine.rate, text, cfg)
    if reason:
        raise DataError(reason)
    wave = audio.resample(raw, engine.rate, request.rate)
    return audio.normalise(
        audio.trim(wave, request.rate, cfg.margin), request.rate, cfg.loudness_db
    )


def _work(job: tuple[list[Request], str, SpeechConfig]) -> list[str]:
    """Speak some requests into the cache; a reason for each, empty where it went well.

    An engine that cannot be made here ends the whole step: EngineError.
    """
    requests, cache, cfg = job
    reasons = []
    for request in requests:
        _engine(request.engine)
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
