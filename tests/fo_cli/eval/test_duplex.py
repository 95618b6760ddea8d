"""``fo eval duplex``: from a folder and a manifest to scores; what it refuses first."""

import json
import sys
import types

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from fo_cli.main import app
from fo_core.data import manifest

ANSWERS = ["duplex.vad=energy", "states.respond_threshold=0", "states.dismiss_threshold=1"]


def said(*args, code=0):
    found = CliRunner().invoke(app, ["eval", "duplex", *map(str, args)])
    assert found.exit_code == code, found.output
    return found


@pytest.fixture
def judge(monkeypatch):
    """Hears four words in any sound."""

    class Engine:
        def __init__(self, **how):
            pass

        def words(self, wave):
            first = np.flatnonzero(np.abs(wave) > 0.003)[0] / 16000
            return [
                (word, first + n / 100, first + n / 100 + 0.01) for n, word in enumerate("abcd")
            ]

    module = types.ModuleType("fo_core.engines.asr.pocketsphinx")
    module.Engine = Engine
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return "pocketsphinx"


@pytest.fixture
def bench(tmp_path):
    noise = 0.3 * np.random.default_rng(0).standard_normal(8000)
    folder = tmp_path / "bench/smooth_turn_taking/7"
    folder.mkdir(parents=True)
    wave = np.concatenate([np.zeros(8000), noise, np.zeros(24000)])
    soundfile.write(folder / "input.wav", wave, 16000)
    (folder / "turn_taking.json").write_text('[{"timestamp": [0.5, 1.0]}]')
    return tmp_path / "bench"


@pytest.fixture
def states(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(1).standard_normal(8000), 16000)
    item = manifest.describe(path, id="a", states=(0, 0, 1, 1), speech_end=0.3)
    manifest.write(tmp_path / "states.jsonl", [item])
    return tmp_path / "states.jsonl"


def test_talks_and_states_then_rescored_elsewhere(
    tiny_model, bench, states, judge, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    args = ["--data", bench, "--states", states, "--model", tiny_model, "--clock", "sound"]
    args += ["--judge", judge, "--json", "--seed", 3]
    for setting in ANSWERS:
        args += ["--set", setting]
    found = json.loads(said(*args, "--out", "out").stdout)
    assert found["items"] == 2 and not found["skipped"]
    assert found["metrics"]["smooth_turn_taking/take_over"]["value"] == 1
    assert found["metrics"]["states/respond/recall"]["items"] == 1
    assert (tmp_path / "out/talks/smooth_turn_taking/7/output.json").is_file()
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    assert settings["talk"]["overrides"] == ["seed=3", *ANSWERS]
    assert "as published" in (tmp_path / "out/report.md").read_text()
    (tmp_path / "out").rename(tmp_path / "moved")
    (tmp_path / "moved/judge.jsonl").unlink()  # has to hear the moved sounds again
    monkeypatch.chdir("/")
    again = said("--rescore", "--out", tmp_path / "moved", "--judge", judge, "--json", "--seed", 3)
    assert json.loads(again.stdout)["metrics"] == found["metrics"]


def test_states_alone_need_no_judge(tiny_model, states, tmp_path):
    args = ["--states", states, "--model", tiny_model, "--out", tmp_path / "out"]
    assert "respond: f1" in said(*args, "--judge", "none-such").stdout
    assert not (tmp_path / "out/judge.jsonl").exists()
    assert "as published" not in (tmp_path / "out/report.md").read_text()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--judge", "deaf"], "gives no times of words"),
        (["--judge", "none-such"], "unknown speech recogniser"),
        (["--outputs"], "--outputs measures recordings"),
        (["--device", "cuda:99"], "no device"),
    ],
)
def test_refused_before_any_work(tiny_model, bench, tmp_path, monkeypatch, more, words):
    deaf = types.ModuleType("fo_core.engines.asr.pocketsphinx")
    deaf.Engine = type("Engine", (), {"transcribe": lambda self, wave: ""})
    monkeypatch.setitem(sys.modules, deaf.__name__, deaf)
    more = ["pocketsphinx" if word == "deaf" else word for word in more]
    args = ["--data", bench, "--model", tiny_model, "--out", tmp_path / "out", *more]
    found = said(*args, code=1)
    assert words in found.stderr and found.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
