"""One turn of a dialogue spoken: made ready, said by an engine, treated, judged, put away."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from data_prep import gates
from data_prep.gates import GateFault, Judge
from data_prep.runner.outcome import unforeseen
from data_prep.runner.run import StopRun
from data_prep.steps import synthesize
from data_prep.steps.speakers import SynthesizeConfig
from data_prep.steps.synthesize import Request
from fo_core.engines.endpoint import ServiceDown
from fo_core.engines.tts import TextToSpeech
from fo_core.errors import AudioError, EngineError, FoError
from fo_core.io import audio
from fo_core.normalize import speakable


@dataclass(frozen=True)
class Said:
    """A turn that was spoken."""

    request: Request
    text: str  # as it was read out
    path: Path
    samples: int
    cer: float | None  # of the judge
    tries: int


@dataclass
class Tally:
    """Counts of a dialogue, that several threads add to."""

    counts: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, value: float = 1) -> None:
        """Add to a count."""
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + value


class Speaking:
    """What a worker process keeps open: engines with their semaphores, and the judge.

    Args:
        cfg: Treatment, gates, second tries.
        sounds: Folder of the sound files.
        judge: Listens, if there is one.
    """

    def __init__(self, cfg: SynthesizeConfig, sounds: Path, judge: Judge | None) -> None:
        self.cfg, self.sounds, self.judge = cfg, sounds, judge
        self.hearing = threading.Lock()  # one sound at a time is judged
        self.threads = 2  # one speaks, one treats what was spoken before
        self._semaphores: dict[tuple[str, str], threading.Semaphore] = {}

    def engine(self, name: str, options: str) -> TextToSpeech:
        """An engine, opened the first time.

        Raises:
            EngineError: It cannot work here.
        """
        engine: TextToSpeech = synthesize.engine_of(name, options)
        abreast = max(1, getattr(engine, "concurrency", 1))
        if (name, options) not in self._semaphores:
            self._semaphores[name, options] = threading.Semaphore(abreast)
            self.threads = max(self.threads, abreast + 1)
        return engine

    def raw(self, request: Request, text: str, tally: Tally) -> tuple[np.ndarray, int]:
        """What the engine says, when it is this request's turn, and its sample rate in Hz.

        Raises:
            EngineError: It failed, whatever it raised itself.
        """
        with self._semaphores[request.engine, request.options]:
            started = time.perf_counter()
            try:
                return synthesize.raw(request, text)
            except EngineError:
                raise
            except FoError as error:
                raise EngineError(str(error)) from error
            except Exception as error:  # an engine's own
                raise EngineError(unforeseen(error)) from error
            finally:
                tally.add("engine_seconds", time.perf_counter() - started)


def say(request: Request, now: Speaking, tally: Tally) -> Said | str:
    """Speak one written turn, again if it fails a gate; else why it cannot be spoken.

    Raises:
        StopRun: A service is down, or the judge cannot work.
        DataError: The sound cannot be written.
    """
    cfg = now.cfg
    if len(request.text) > cfg.longest_text:
        return f"turn too long ({len(request.text)} characters)"
    text = speakable(request.text, request.language)
    if not text:
        return "nothing to speak"
    request = replace(request, text=text)
    reason = ""
    speeds = (1.0, cfg.again_at) if cfg.again_at else (1.0,)
    for tries, share in enumerate(speeds, 1):
        asked = replace(request, speed=round(request.speed * share, 3))
        try:
            return _say_once(asked, text, now, tally, tries)
        except GateFault as error:
            reason = str(error)
            tally.add("failed a gate")
        except ServiceDown as error:
            raise StopRun(str(error)) from error
        except EngineError as error:
            return f"{request.engine} failed: {error}"
    return reason


def _say_once(request: Request, text: str, now: Speaking, tally: Tally, tries: int) -> Said:
    cfg = now.cfg
    path = request.path(now.sounds, cfg.speech)
    wave = None
    samples = _found(path)
    if samples:
        tally.add("sounds found")
    else:
        sound, source = now.raw(request, text, tally)
        sound = gates.as_wave(sound)
        fault = gates.sound_fault(sound, cfg.gates.quietest_db, cfg.gates.clipped)
        if fault:
            raise GateFault(fault)
        wave = synthesize.treat(sound, source, request.rate, cfg.speech)
        samples = len(wave)
        tally.add("sounds made")
    seconds = samples / request.rate
    if seconds > cfg.gates.longest:
        raise GateFault(f"too long ({seconds:.0f} s)")
    slowest, fastest = gates.pace_of(cfg.gates, request.language)
    fault = gates.length_fault(text, seconds - 2 * cfg.speech.margin, slowest, fastest)
    if fault:
        raise GateFault(fault)
    cer = _judged(request, text, now, tally, path, wave)
    if wave is not None:
        audio.write(path, wave, request.rate)
    return Said(request, text, path, samples, cer, tries)


def _found(path: Path) -> int:
    """Samples of a sound that is there already; 0 if it is not, or is damaged."""
    try:
        return audio.info(path)[0] if path.exists() else 0
    except AudioError:
        return 0


def _judged(
    request: Request,
    text: str,
    now: Speaking,
    tally: Tally,
    path: Path,
    wave: np.ndarray | None,
) -> float | None:
    """The judge's error rate on the samples as they are, or will be, in the file."""
    if now.judge is None:
        return None
    if wave is None:
        heard = audio.read(path, request.rate, now.cfg.gates.longest + 1, min_seconds=0)
    else:
        heard = audio.from_int16(audio.to_int16(wave))
    started = time.perf_counter()
    try:
        with now.hearing:
            return round(now.judge.check(heard, request.rate, text, request.language), 4)
    except EngineError as error:
        raise StopRun(str(error)) from error
    finally:
        tally.add("judge_seconds", time.perf_counter() - started)
