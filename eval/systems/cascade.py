"""The cascade that a user would build instead: recogniser, the same text LLM, a speech engine.

It answers with the model's own frozen LLM, after the same system text and examples, and is timed
as such a system runs: the question is recognised when it has ended, the answer is spoken sentence
by sentence, the first one as soon as it is written.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.judges import JudgeSpec
from eval.systems.talker import Talker

NAME = "cascade"


@dataclass(frozen=True)
class CascadeReply:
    """What a cascade made of a spoken question."""

    heard: str  # the recogniser's words
    text: str  # the LLM's answer
    finished: bool  # the LLM ended it by itself
    wave: np.ndarray  # float32 [S] at ``rate``; empty where nothing was spoken
    rate: int  # Hz
    first_audio_ms: float | None  # from the end of the question to the first sound
    work_seconds: float  # from the end of the question to the last sound


@dataclass(frozen=True)
class CascadeSpec:
    """Which recogniser and which voice stand around the LLM."""

    ears: JudgeSpec
    engine: str = "hibari"
    voice: str | None = None  # None: the engine's first

    def key(self) -> dict[str, Any]:
        """What its answers depend on besides the LLM."""
        heard = {f"ears_{name}": value for name, value in self.ears.key().items()}
        return heard | {"cascade_tts": self.engine, "cascade_voice": self.voice}

    def check(self) -> None:
        """Refuse an unknown or uninstalled engine before any work.

        Raises:
            EngineError: There is none of this name, or its package is missing.
        """
        from eval import judges
        from fo_core.engines.tts import TTS

        judges.check(self.ears.name)
        TTS.load(self.engine)


class Cascade:
    """A loaded cascade.

    Args:
        talker: Whose LLM answers, and how it is asked.
        spec: What stands around it.
        device: Where the recogniser runs.

    Raises:
        EngineError: The recogniser or the voice cannot work here.
    """

    def __init__(self, talker: Talker, spec: CascadeSpec, device: str = "cpu") -> None:
        from fo_core.engines.tts import TTS

        self.talker, self.ears = talker, spec.ears.open(device)
        self.engine = TTS.load(spec.engine).Engine()
        self.voice = spec.voice or self.engine.voices()[0]
        talker.prepare()  # as a live system has, and as ours: no question waits for it

    def ask(self, wave: np.ndarray, speak: bool = True) -> CascadeReply:
        """Answer a question [S] at 16 kHz."""
        began = time.perf_counter()
        heard = self.ears.transcribe(wave)
        if not any(char.isalnum() for char in heard):
            spent = time.perf_counter() - began
            silence = np.zeros(0, np.float32)
            return CascadeReply("", "", True, silence, self.engine.rate, None, spent)
        waves: list[np.ndarray] = []
        first = None
        answer = self.talker.answer_by_sentence(heard)
        while True:
            try:
                sentence = next(answer)
            except StopIteration as end:
                text, finished = end.value
                break
            if speak and any(char.isalnum() for char in sentence):
                waves.append(self.engine.synthesize(sentence, self.voice))
                first = first or 1000 * (time.perf_counter() - began)
        spent = time.perf_counter() - began
        sound = _joined(waves)
        return CascadeReply(heard, text, finished, sound, self.engine.rate, first, spent)


def _joined(waves: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(waves) if waves else np.zeros(0, np.float32)
