"""PocketSphinx: the fallback judge; its US English model is in the wheel (WER 0.1 to 0.3)."""

from __future__ import annotations

import numpy as np
from pocketsphinx import Decoder

from fo_core import audio

EXTRA = "judge"


class Engine:
    """Deterministic; a fresh utterance state for every wave."""

    def __init__(self) -> None:
        self._decoder = Decoder(samprate=16000, loglevel="FATAL")

    def transcribe(self, wave: np.ndarray) -> str:
        """Words heard in float32 [S] at 16 kHz, lower case."""
        self._decoder.start_utt()
        self._decoder.process_raw(audio.to_int16(wave).tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return found.hypstr if found else ""
