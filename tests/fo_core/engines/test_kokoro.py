"""Kokoro's voices as files; the package itself is a stand-in, its model takes minutes to load."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from fo_core.engines.tts import TTS
from fo_core.errors import EngineError


class Kokoro:
    """Keeps what it was asked; the sound is as long as the style's first number."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, np.ndarray, float, str]] = []

    @classmethod
    def from_session(cls, session: object, voices: str) -> "Kokoro":
        assert np.load(voices).files
        return cls()

    def create(self, text: str, style: np.ndarray, speed: float, lang: str):  # type: ignore[no-untyped-def]
        self.asked.append((text, style, speed, lang))
        return np.full(round(float(style[0, 0, 0])), 0.1), 24000


@pytest.fixture
def kokoro(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    package = ModuleType("kokoro_onnx")
    package.Kokoro = Kokoro  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kokoro_onnx", package)
    monkeypatch.delitem(sys.modules, "fo_core.engines.tts.kokoro", raising=False)
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(runtime, "InferenceSession", lambda *a, **k: SimpleNamespace())
    yield TTS.load("kokoro")
    sys.modules.pop("fo_core.engines.tts.kokoro", None)


def folder(root: Path) -> Path:
    """Voices as in the npm package, of 510 rows each."""
    (root / "voices").mkdir()
    for name, value in (("af_heart", 100), ("bf_emma", 200), ("ff_siwis", 300), ("mine", 400)):
        np.full((510, 1, 256), value, "<f4").tofile(root / "voices" / f"{name}.bin")
    (root / "model.onnx").touch()
    return root / "voices"


def test_voices_of_a_folder_speak_the_language_of_their_name(kokoro, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    engine = kokoro.Engine(model=tmp_path / "model.onnx", voices=folder(tmp_path))
    assert engine.voices() == ["af_heart", "bf_emma", "ff_siwis", "mine"]
    assert engine.voices("en") == ["af_heart", "bf_emma", "mine"]
    assert engine.voices("fr") == ["ff_siwis"] and engine.voices("zh") == []
    for voice, size, lang in (
        ("bf_emma", 200, "en-gb"),
        ("ff_siwis", 300, "fr-fr"),
        ("af_heart+bf_emma", 150, "en-us"),
        ("mine", 400, "en-us"),
    ):
        assert len(engine.synthesize("Hello there.", voice)) == size
        assert engine._kokoro.asked[-1][3] == lang
        assert engine._kokoro.asked[-1][1].shape == (510, 1, 256)
    with pytest.raises(EngineError, match="no voice 'af_hart'.*did you mean 'af_heart'"):
        engine.synthesize("Hello.", "af_hart")


def test_one_file_and_an_archive_are_voices(kokoro, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    one = folder(tmp_path) / "af_heart.bin"
    assert kokoro.Engine(model=tmp_path / "model.onnx", voices=one).voices() == ["af_heart"]
    archive = tmp_path / "all.npz"
    np.savez(archive, a=np.ones((3, 1, 256)), b=np.ones((4, 1, 256)))
    archive.rename(tmp_path / "voices.bin")  # kokoro-onnx's own name for such a file
    engine = kokoro.Engine(model=tmp_path / "model.onnx", voices=tmp_path / "voices.bin")
    assert engine.voices() == ["a", "b"]
    assert len(engine.synthesize("Hello.", "a+b")) == 1  # tables of different lengths


@pytest.mark.parametrize("data", [b"", b"x" * 1000, np.full((2, 256), np.nan, "<f4").tobytes()])
def test_a_file_that_is_no_voice_is_named(kokoro, tmp_path: Path, data: bytes) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "model.onnx").touch()
    (tmp_path / "odd.bin").write_bytes(data)
    with pytest.raises(EngineError, match=r"odd\.bin is no voice.*float32 tables \[n, 1, 256\]"):
        kokoro.Engine(model=tmp_path / "model.onnx", voices=tmp_path / "odd.bin")
    (tmp_path / "none").mkdir()
    with pytest.raises(EngineError, match=r"no \.bin file in .*npm pack kokoro-js"):
        kokoro.Engine(model=tmp_path / "model.onnx", voices=tmp_path / "none")
