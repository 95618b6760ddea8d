"""PocketSphinx: the fallback judge; its US English model is in the wheel (WER 0.1 to 0.3)."""

from __future__ import annotations

import numpy as np
from pocketsphinx import Decoder

from fo_core.errors import EngineError
from fo_core.io import audio

EXTRA = "judge"
PACKAGE = "pocketsphinx"
DEFAULT = "US English of its wheel"


class Engine:
    """Deterministic; a fresh utterance state for every wave.

    Args:
        model: Not used: there is the wheel's model only.
        language: English only.
        device: Not used: it runs on the CPU.
        threads: Not used.

    Raises:
        EngineError: Another model or language is asked for.
    """

    def __init__(
        self,
        model: str | None = None,
        language: str = "en",
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        if model is not None or language != "en":
            asked = f"the model {model}" if model is not None else f"the language {language!r}"
            raise EngineError(
                f"pocketsphinx does not have {asked}",
                possible="its own US English model",
                do="take faster-whisper, whisper or funasr",
            )
        self._decoder = Decoder(samprate=16000, loglevel="FATAL")

    def transcribe(self, wave: np.ndarray) -> str:
        """Words heard in float32 [S] at 16 kHz, lower case."""
        self._decoder.start_utt()
        self._decoder.process_raw(audio.to_int16(wave).tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return found.hypstr if found else ""
