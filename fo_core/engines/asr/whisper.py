"""Whisper through transformers: any Hugging Face folder or hub id of the family, on any device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from fo_core.errors import EngineError, first_line

EXTRA = "judge"
PACKAGE = "transformers"
DEFAULT = "openai/whisper-tiny.en (English) or -small"
RATE, WINDOW = 16000, 30  # Whisper hears 30 s at once
MAX_TOKENS = 224  # half of its decoder's room, as in the original


class Engine:
    """Greedy, in float32 on a CPU and float16 elsewhere; longer sound is heard in pieces of 30 s.

    Args:
        model: Folder or hub id; None: ``openai/whisper-tiny.en`` (``-small`` for other languages).
        language: Language code.
        device: Where it runs.
        threads: Not used: torch's own setting counts.

    Raises:
        EngineError: The model is not there and cannot be fetched, or is no Whisper.
    """

    def __init__(
        self,
        model: str | None = None,
        language: str = "en",
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        name = model or ("openai/whisper-tiny.en" if language == "en" else "openai/whisper-small")
        kind = torch.float32 if device == "cpu" else torch.float16
        try:
            folder = name if Path(name).is_dir() else _fetch(name)
            self._processor = WhisperProcessor.from_pretrained(folder)
            loaded = WhisperForConditionalGeneration.from_pretrained(folder, dtype=kind)
        except Exception as error:  # the hub client and the readers raise a dozen kinds
            raise EngineError(
                f"cannot load the Whisper model {name}: {first_line(error)}",
                possible="a Hugging Face folder or hub id of a Whisper; the judge faster-whisper",
                do="check the name and the connection (HF_HUB_OFFLINE is respected)",
            ) from error
        self._model = loaded.to(device).eval()  # type: ignore[arg-type]
        self._how: dict[str, str] = {}
        if getattr(loaded.generation_config, "is_multilingual", False):
            self._how = {"language": language, "task": "transcribe"}

    @torch.inference_mode()
    def transcribe(self, wave: np.ndarray) -> str:
        """Words heard in float32 [S] at 16 kHz."""
        said = []
        for start in range(0, len(wave), WINDOW * RATE):
            piece = wave[start : start + WINDOW * RATE]
            feats = self._processor(piece, sampling_rate=RATE, return_tensors="pt").input_features
            ids = self._model.generate(
                feats.to(self._model.device, self._model.dtype),
                do_sample=False,
                num_beams=1,
                max_new_tokens=MAX_TOKENS,
                **self._how,
            )
            said.append(self._processor.batch_decode(ids, skip_special_tokens=True)[0].strip())
        return " ".join(said).strip()


def _fetch(name: str) -> str:
    """The local snapshot of a hub repository; one request tells whether the hub is there."""
    try:
        return snapshot_download(name, local_files_only=True)
    except LocalEntryNotFoundError:
        return snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt"])
