"""Our side of the engine ``pocket-tts``; its weights cannot be loaded offline, so a stand-in of the
package with the same three calls takes their place. What the real model says is not tested."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fo_core.engines.tts import TTS
from fo_core.errors import EngineError
from fo_core.io import audio


class StandIn:
    """The package's model: a state for a name or a wave [1, S], and a sound that depends on it."""

    sample_rate = 24000
    loaded: list[dict[str, Any]] = []
    prompts: list[Any] = []

    @classmethod
    def load_model(cls, **settings: Any) -> StandIn:
        if settings.get("language") == "french":
            raise OSError("the hub is out of reach")
        cls.loaded.append(settings)
        return cls()

    def get_state_for_audio_prompt(self, prompt: str | torch.Tensor) -> float:
        StandIn.prompts.append(prompt)
        if isinstance(prompt, str):
            return float(len(prompt))
        assert prompt.ndim == 2 and prompt.shape[0] == 1
        return float(prompt.abs().max())

    def generate_audio(self, state: float, text: str) -> torch.Tensor:
        if "nothing" in text:
            return torch.zeros(0)
        return state * torch.rand(int(24000 * 0.06 * len(text))) / 20


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    package = ModuleType("pocket_tts")
    package.TTSModel = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pocket_tts", package)
    monkeypatch.setattr(StandIn, "loaded", [])
    monkeypatch.setattr(StandIn, "prompts", [])
    monkeypatch.delitem(sys.modules, "fo_core.engines.tts.pocket_tts", raising=False)
    made = importlib.import_module("fo_core.engines.tts.pocket_tts")
    yield made
    sys.modules.pop("fo_core.engines.tts.pocket_tts", None)


def test_a_sentence_sounds_the_same_each_time(module: ModuleType) -> None:
    engine = module.Engine(temperature=0.5)
    assert StandIn.loaded == [{"language": "english", "temp": 0.5}]
    wave = engine.synthesize("The sky is blue.", "alba")
    torch.rand(3)  # draws of others
    assert np.array_equal(wave, engine.synthesize("The sky is blue.", "alba"))
    assert wave.dtype == np.float32 and len(wave) == int(24000 * 0.06 * 16)
    assert not np.array_equal(wave, engine.synthesize("The sky is blue.", "marius")[: len(wave)])
    assert StandIn.prompts == ["alba", "marius"]  # a voice is prepared once
    fast = engine.synthesize("The sky is blue.", "alba", 1.25)
    assert len(fast) == pytest.approx(len(wave) / 1.25, abs=2)


def test_our_draws_are_left_alone(module: ModuleType) -> None:
    engine = module.Engine()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    engine.synthesize("The sky is blue.", "alba")
    assert torch.equal(torch.rand(2), expected)


def test_a_clip_gives_its_voice(module: ModuleType, tmp_path: Path) -> None:
    clip = tmp_path / "me.flac"
    audio.write(clip, 0.5 * np.sin(np.arange(16000 * 40) / 9), 16000)
    engine = module.Engine()
    wave = engine.synthesize("The sky is blue.", f"clip:{clip}")
    (prompt,) = StandIn.prompts
    assert prompt.shape == (1, 30 * 24000) and len(wave) == int(24000 * 0.06 * 16)


@pytest.mark.parametrize(
    ("voice", "said"),
    [
        ("nobody", "no voice 'nobody'.*alba"),
        ("clip:/nowhere.wav", "no clip /nowhere.wav"),
        ("clip:README.md", "not a sound file"),
    ],
)
def test_wrong_voices(module: ModuleType, voice: str, said: str) -> None:
    from fo_core.errors import FoError

    with pytest.raises(FoError, match=said):
        module.Engine().synthesize("The sky is blue.", voice)


def test_wrong_settings_and_no_sound(module: ModuleType) -> None:
    with pytest.raises(EngineError, match="does not speak 'xx'.*en"):
        module.Engine(language="xx")
    with pytest.raises(EngineError, match="the hub is out of reach.*piper"):
        module.Engine(language="fr")
    with pytest.raises(EngineError, match="no sound"):
        module.Engine().synthesize("say nothing")


def test_its_voices_go_by_the_language_of_the_weights(module: ModuleType) -> None:
    engine = module.Engine(language="de")
    assert engine.voices() == engine.voices("de-DE") == ["juergen"] and engine.voices("en") == []


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocket_tts", None)
    monkeypatch.delitem(sys.modules, "fo_core.engines.tts.pocket_tts", raising=False)
    with pytest.raises(EngineError, match="pip install pocket_tts"):
        TTS.load("pocket-tts")
