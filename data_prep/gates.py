"""What a synthesised sound must pass: it is a wave, it is heard, and it is as long as its text.

Optionally a recogniser listens to it (:class:`Judge`): the share of letters that it hears otherwise
must stay below a limit.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import field
from typing import Any

import numpy as np

from fo_core.config import config
from fo_core.engines.asr import ASR, Recogniser
from fo_core.errors import DataError, EngineError
from fo_core.io import audio
from fo_core.normalize import speakable

PACE = {  # letters (Chinese: characters) a second: the fewest and the most
    "en": (4.0, 30.0),
    "zh": (1.5, 10.0),
    "ja": (2.0, 16.0),
    "ko": (2.0, 12.0),
    "": (3.0, 32.0),  # any other language
}
FEW = 8  # letters; a shorter text may be said at any pace
BRIEF = 1.0  # s; a shorter sound is never too long


class GateFault(DataError):
    """A sound that cannot be its text spoken; the message is the reason."""


@config
class GateConfig:
    """Limits of what is let through."""

    pace: Mapping[str, tuple[float, float]] = field(
        default_factory=lambda: dict(PACE)
    )  # letters a second by language, fewest and most; "" = any other
    quietest_db: float = -55.0  # least RMS of what the engine gave, dB of full scale
    clipped: float = 0.002  # largest share of samples at full scale
    longest: float = 60.0  # longest turn, s


@config
class JudgeConfig:
    """The recogniser that listens to every turn."""

    engine: str = ""  # name in fo_core.engines.asr; "" = nobody listens
    model: str = ""  # folder or hub id; "" = the engine's own, which hears English
    device: str = "cpu"  # where it runs
    cer: float = 0.3  # largest share of letters heard otherwise


def as_wave(sound: Any) -> np.ndarray:
    """What an engine gave, as float32 [S].

    Raises:
        GateFault: It is not a row of finite numbers within [-1, 1], give or take.
    """
    if sound is None:
        raise GateFault("no sound")
    try:
        wave = np.asarray(sound)
    except ValueError as error:  # rows of several lengths
        raise GateFault(f"not a wave ({type(sound).__name__})") from error
    if wave.dtype.kind != "f" or wave.ndim != 1:
        kind = f"{wave.dtype} of {wave.ndim} dimensions"
        raise GateFault(f"not a wave ({kind} instead of float32 of 1)")
    fault = sound_fault(wave)
    if fault:
        raise GateFault(fault)
    return wave.astype(np.float32, copy=False)


def sound_fault(wave: np.ndarray, quietest_db: float = -np.inf, clipped: float = 1.0) -> str:
    """Why a wave [S] is no speech, whatever its text; empty if it may be."""
    if not len(wave):
        return "no sound"
    peak = float(np.abs(wave).max())
    if not np.isfinite(peak):
        return "samples that are not numbers"
    if peak > 2.0:
        return f"samples beyond full scale (up to {peak:.3g})"
    level = 10 * np.log10(float(np.dot(wave, wave)) / len(wave) + 1e-12)
    if level < quietest_db:
        return f"silence ({level:.0f} dB)"
    loud = np.count_nonzero(np.abs(wave) >= 0.999) / len(wave) if peak >= 0.999 else 0.0
    if loud > clipped:
        return f"clipped ({loud:.1%} of the samples)"
    return ""


def length_fault(text: str, seconds: float, slowest: float, fastest: float) -> str:
    """Why so many seconds of speech cannot be the text; empty if they can."""
    seconds = max(seconds, 1e-3)
    letters = sum(char.isalpha() for char in text)
    if letters / seconds > fastest and letters > FEW:
        return f"too short for its text ({seconds:.2f} s for {letters} letters)"
    if letters / seconds < slowest and seconds > BRIEF:
        return f"too long for its text ({seconds:.2f} s for {letters} letters)"
    return ""


def pace_of(cfg: GateConfig, language: str) -> tuple[float, float]:
    """The fewest and the most letters a second of a language."""
    return cfg.pace.get(short(language)) or cfg.pace.get("") or PACE[""]


def short(language: str) -> str:
    """ "en" of "en-GB"."""
    return language.replace("_", "-").split("-")[0].lower()


class Judge:
    """Listens to speech and counts the letters that it hears otherwise.

    Args:
        cfg: Which recogniser; one of each language is loaded when it is first needed.
    """

    def __init__(self, cfg: JudgeConfig) -> None:
        self.cfg = cfg
        self._of = functools.cache(self._load)

    def _load(self, language: str) -> Recogniser:
        engine: Recogniser = ASR.load(self.cfg.engine).Engine(
            model=self.cfg.model or None, language=language, device=self.cfg.device
        )
        return engine

    def cer(self, wave: np.ndarray, rate: int, spoken: str, language: str) -> float:
        """Errors per letter of what is heard in a wave [S] against what should be said.

        Both sides are letters only, in lower case; numbers that the recogniser writes as digits
        are read out first.

        Raises:
            EngineError: The recogniser cannot work here, or does not hear the language.
        """
        from jiwer import cer

        heard = self._of(short(language)).transcribe(audio.resample(wave, rate, 16000))
        said, got = _letters(spoken), _letters(speakable(heard, language))
        return float(cer(said, got)) if said and got else float(said != got)

    def check(self, wave: np.ndarray, rate: int, spoken: str, language: str) -> float:
        """The error rate of a wave that may pass.

        Raises:
            GateFault: It is above the limit.
            EngineError: As :meth:`cer`.
        """
        rate_of_errors = self.cer(wave, rate, spoken, language)
        if rate_of_errors > self.cfg.cer:
            raise GateFault(f"not understood (CER {rate_of_errors:.2f})")
        return rate_of_errors


def open_judge(cfg: JudgeConfig) -> Judge | None:
    """The judge that is asked for.

    Raises:
        EngineError: There is no such recogniser, or its package is missing.
    """
    if not cfg.engine:
        return None
    if not 0 < cfg.cer:
        raise EngineError(f"the judge's limit cer = {cfg.cer:g} lets nothing through")
    ASR.load(cfg.engine)
    return Judge(cfg)


def _letters(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalpha())
