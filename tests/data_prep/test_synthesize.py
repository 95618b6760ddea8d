import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_prep import synthesize as module
from data_prep.synthesize import Request, SpeechConfig, gate, synthesize
from fo_core import audio
from fo_core.errors import EngineError

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
        if "crash" in text:
            raise RuntimeError("inside the engine")
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


def ask(*texts: str, **changes: object) -> list[Request]:
    return [Request(text, "flite", "one", **changes) for text in texts]  # type: ignore[arg-type]


def test_speech_is_trimmed_levelled_and_resampled(tmp_path: Path) -> None:
    (request,) = ask("What is the capital of France?", rate=24000)
    path = synthesize([request], tmp_path, num_workers=1).paths[request]
    samples, rate, _ = audio.info(path)
    wave = audio.read(path, 24000)
    assert rate == 24000 and samples == len(wave)
    assert len(wave) / 24000 == pytest.approx(0.07 * len(request.text) + 0.04, abs=0.03)
    assert 20 * np.log10(np.sqrt((wave**2).mean())) == pytest.approx(-23, abs=1)


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    requests = ask("A rose is a flower.", "The sky is blue.", "A rose is a flower.")
    first = synthesize(requests, tmp_path, num_workers=1)
    assert first.made == 2 and Tone.calls == 2
    times = {p: p.stat().st_mtime_ns for p in first.paths.values()}
    shutil.rmtree(next(iter(first.paths.values())).parent)  # killed before this one
    second = synthesize(requests, tmp_path, num_workers=1)
    assert second.made == 1 and Tone.calls == 3 and second.paths == first.paths
    kept = list(first.paths.values())[1]
    assert kept.stat().st_mtime_ns == times[kept]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("please fail here", "it failed"),
        ("please crash here", "RuntimeError: inside the engine"),
        ("please be silent here", "silence"),
        ("please clip this here", "clipped"),
        ("this one is far too short for it", "too short for its text"),
        ("endless", "too long for its text"),
        ("...", "nothing to speak"),
    ],
)
def test_what_fails_is_listed_and_the_rest_goes_on(tmp_path: Path, text: str, reason: str) -> None:
    requests = ask("The sky is blue.", text, "A rose is a flower.")
    spoken = synthesize(requests, tmp_path, num_workers=1, rejects_path=tmp_path / "r.jsonl")
    assert len(spoken.paths) == 2 and requests[1] not in spoken.paths
    (row,) = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert row["text"] == text and reason in row["reason"]
    assert not requests[1].path(tmp_path, CFG).exists()


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="could speak nothing: it failed"):
        synthesize(ask("fail one", "fail two"), tmp_path, num_workers=1)


def test_an_engine_that_cannot_work_here_ends_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(module._ENGINES, "flite")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineError, match="apt-get install flite"):
        synthesize(ask("The sky is blue."), tmp_path, num_workers=1)
    with pytest.raises(EngineError, match="unknown text-to-speech engine"):
        synthesize([Request("Hello there.", "flote", "one")], tmp_path)


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
    assert gate(wave, 16000, "What is the capital of France?", CFG) == ""
    assert gate(np.zeros(0, "f4"), 16000, "x", CFG) == "no sound"
    assert "not numbers" in gate(np.array([np.nan], "f4"), 16000, "x", CFG)


@pytest.mark.skipif(shutil.which("flite") is None, reason="no flite on this machine")
def test_two_processes_make_the_same_files_as_one(tmp_path: Path) -> None:
    module._ENGINES.pop("flite")
    requests = [Request(f"The answer is number {n}.", "flite", "slt") for n in range(18)]
    told: list[tuple[str, int, int]] = []
    one = synthesize(requests, tmp_path / "one", num_workers=1)
    two = synthesize(requests, tmp_path / "two", num_workers=2, progress=lambda *t: told.append(t))
    for request in requests:
        assert one.paths[request].read_bytes() == two.paths[request].read_bytes()
    assert told[0] == ("synthesize", 0, 18) and told[-1] == ("synthesize", 18, 18)
