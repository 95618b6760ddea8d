"""FunASR's Paraformer, the paper's judge of Chinese speech (``paraformer-zh``)."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from funasr import AutoModel

from fo_core.errors import EngineError, first_line

EXTRA = "funasr"
PACKAGE = "funasr"
DEFAULT = "paraformer-zh (Chinese) or -en"


class Engine:
    """Paraformer without punctuation.

    Args:
        model: Name of FunASR's model zoo or a folder; None: ``paraformer-zh`` (``-en``).
        language: ``zh`` or ``en``.
        device: Where it runs.
        threads: Threads on a CPU.

    Raises:
        EngineError: The model is not there and cannot be fetched.
    """

    def __init__(
        self,
        model: str | None = None,
        language: str = "zh",
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        name = model or ("paraformer-en" if language == "en" else "paraformer-zh")
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it says hello on stdout
                self._model = AutoModel(
                    model=name,
                    device=device,
                    ncpu=threads,
                    disable_update=True,
                    disable_pbar=True,
                    disable_log=True,
                )
        except Exception as error:  # the model hub's client raises what it likes
            raise EngineError(
                f"cannot load FunASR's model {name}: {first_line(error)}",
                possible="a model of FunASR's zoo, or a folder with one",
                do="check the name and the connection",
            ) from error

    def transcribe(self, wave: np.ndarray) -> str:
        """Words heard in float32 [S] at 16 kHz."""
        if not len(wave):
            return ""
        found = self._model.generate(input=np.asarray(wave, dtype=np.float32), fs=16000)
        return " ".join(str(part.get("text", "")) for part in found).strip()
