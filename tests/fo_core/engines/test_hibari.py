"""The engine hibari: exact alignments, voices that are files."""

from pathlib import Path

import numpy as np
import pytest

from fo_core.engines.tts import TTS
from fo_core.errors import EngineError

TEXT = "Dr. Smith paid $3.50. The sky is blue, isn't it?"


@pytest.fixture(scope="module")
def hibari(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    pytest.importorskip("hibari")
    pytest.importorskip("onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HIBARI_HOME", str(tmp_path_factory.mktemp("voices")))
        yield TTS.load("hibari")


@pytest.mark.parametrize("speed", [1.0, 0.73])
def test_alignment_covers_the_same_wave_in_whole_frames(hibari, speed: float) -> None:  # type: ignore[no-untyped-def]
    engine = hibari.Engine()
    wave, alignment = engine.synthesize_aligned(TEXT, "heart", speed)
    assert np.array_equal(wave, engine.synthesize(TEXT, "heart", speed))
    assert len(wave) == hibari.FRAME * sum(frames for _, frames in alignment)
    assert all(frames >= 1 for _, frames in alignment)
    phonemes = "".join(symbol for symbol, _ in alignment)
    assert phonemes.count(hibari.SILENCE) == 4  # both ends of two sentences
    assert "skˈI ɪz blˈu" in phonemes and phonemes.endswith("ɪt?_")
    assert alignment == hibari.Engine().synthesize_aligned(TEXT, "heart", speed)[1]


def test_the_silence_at_the_start_is_where_the_alignment_says(hibari) -> None:  # type: ignore[no-untyped-def]
    wave, alignment = hibari.Engine().synthesize_aligned("Stop.", "heart")
    assert alignment[0] == (hibari.SILENCE, 12)
    quiet = wave[: 6 * hibari.FRAME]  # of 12: the sound of the first letter may begin before it
    assert np.abs(quiet).max() < 0.02 * np.abs(wave).max()


def test_voices_are_the_files_that_are_there(hibari, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    engine = hibari.Engine()
    assert engine.voices() == ["heart"] and engine.voices("de") == []
    with pytest.raises(EngineError, match="'emma' is not on this machine.*bf_emma.int8.onnx"):
        engine.synthesize("Hello.", "emma")
    with pytest.raises(EngineError, match=r"no hibari voice .*nobody\.onnx"):
        hibari.Engine(model=tmp_path / "nobody.onnx")
    heart = Path(hibari.hibari_voices.ASSETS) / "hibari.onnx"
    (tmp_path / "mine.onnx").symlink_to(heart)
    own = hibari.Engine(model=tmp_path / "mine.onnx")
    assert own.voices() == ["mine"]
    assert np.array_equal(own.synthesize("Hello.", "mine"), engine.synthesize("Hello.", "heart"))
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"hibari cannot load .*broken\.onnx"):
        hibari.Engine(model=tmp_path / "broken.onnx").synthesize("Hello.", "broken")


def test_text_of_another_script_is_refused(hibari) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EngineError, match="no sound.*English"):
        hibari.Engine().synthesize("天气很好", "heart")
