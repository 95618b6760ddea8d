"""Speech recognisers that judge our speech: one file each, found by its name."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fo_core.registry import Registry

ASR = Registry("speech recogniser", "fo_core.engines.asr")


class Recogniser(Protocol):
    """What each file's ``Engine`` does; making one raises EngineError if it cannot work here.

    It is made with ``Engine(model=None, language="en", device="cpu", threads=1)``: ``model`` is a
    folder or a hub id, None takes the engine's own default. The file also says which extra brings
    its package (``EXTRA``), what the package is called (``PACKAGE``) and what the default model is
    (``DEFAULT``), so that results can name it.
    """

    def transcribe(self, wave: np.ndarray) -> str:
        """Words heard in float32 [S] at 16 kHz; an empty string if none."""
        ...
