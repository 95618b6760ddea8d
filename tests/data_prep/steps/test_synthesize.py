import numpy as np
import pytest

from data_prep.steps import synthesize as module
from data_prep.steps.synthesize import Request, SpeechConfig, gate, speak
from fo_core.errors import EngineError, FoError

CFG = SpeechConfig()


class Tone:
    """An engine whose sound depends on the text alone; "fail" and the like misbehave."""

    rate = 16000
    calls = 0

    def voices(self) -> list[str]:
        return ["one"]

    def synthesize(self, text: str, voice: str, speed: float = 1.0) -> np.ndarray:
        Tone.calls += 1
        if "fail" in text:
            raise EngineError("it failed")
        size = int(16000 * 0.07 * len(text) / speed)
        wave = (0.2 * np.sin(np.arange(size) * (0.05 + 0.001 * len(text)))).astype("f4")
        if "silent" in text:
            wave *= 0
        if "clip" in text:
            wave = np.sign(wave)
        if "short" in text:
            wave = wave[:1600]
        if "endless" in text:
            wave = np.tile(wave, 12)
        return np.concatenate([np.zeros(4000, "f4"), wave, np.zeros(4000, "f4")])


@pytest.fixture(autouse=True)
def tone(monkeypatch: pytest.MonkeyPatch) -> None:
    Tone.calls = 0
    monkeypatch.setitem(module._ENGINES, "flite", Tone())


def test_speech_is_trimmed_levelled_and_resampled() -> None:
    request = Request("What is the capital of France?", "flite", "one", rate=24000)
    wave = speak(request, CFG)
    assert len(wave) / 24000 == pytest.approx(0.07 * len(request.text) + 0.04, abs=0.03)
    assert 20 * np.log10(np.sqrt((wave**2).mean())) == pytest.approx(-23, abs=1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("please fail here", "it failed"),
        ("please be silent here", "silence"),
        ("please clip this here", "clipped"),
        ("this one is far too short for it", "too short for its text"),
        ("endless", "too long for its text"),
        ("...", "nothing to speak"),
    ],
)
def test_what_fails_is_said(text: str, reason: str) -> None:
    with pytest.raises(FoError, match=reason):
        speak(Request(text, "flite", "one"), CFG)


def test_an_engine_that_cannot_work_here_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(module._ENGINES, "flite")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineError, match="apt-get install flite"):
        speak(Request("The sky is blue.", "flite", "one"), CFG)
    with pytest.raises(EngineError, match="unknown text-to-speech engine"):
        speak(Request("Hello there.", "flote", "one"), CFG)


def test_the_key_names_everything_that_changes_the_samples() -> None:
    base = Request("Hello.", "flite", "one")
    others = [
        Request("Hello!", "flite", "one"),
        Request("Hello.", "piper", "one"),
        Request("Hello.", "flite", "two"),
        Request("Hello.", "flite", "one", 1.1),
        Request("Hello.", "flite", "one", 1.0, 24000),
    ]
    keys = {r.key(CFG) for r in [base, *others]} | {base.key(SpeechConfig(loudness_db=-20))}
    assert len(keys) == 7


def test_the_gate_lets_plain_speech_through() -> None:
    wave = Tone().synthesize("What is the capital of France?", "one")
    assert gate(wave, 16000, "What is the capital of France?") == ""
    assert gate(np.zeros(0, "f4"), 16000, "x") == "no sound"
    assert "not numbers" in gate(np.array([np.nan], "f4"), 16000, "x")
