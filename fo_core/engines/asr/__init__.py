"""Speech recognisers that judge our speech: one file each, found by its name."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fo_core.registry import Registry

ASR = Registry("speech recogniser", "fo_core.engines.asr")


class Recogniser(Protocol):
    """What each file's ``Engine`` does; making one raises EngineError if it cannot work here."""

    def transcribe(self, wave: np.ndarray) -> str:
        """Words heard in float32 [S] at 16 kHz; an empty string if none."""
        ...
