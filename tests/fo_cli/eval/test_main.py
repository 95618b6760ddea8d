"""A tiny random model through every link of the evaluation, with a judge that hears one word."""

import json
import sys
import types

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from fo_cli.main import app
from fo_core.data import manifest

run = CliRunner().invoke


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "q.wav", 0.1 * rng.standard_normal(16000), 16000)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(14000), 24000)
    ask = manifest.describe(
        tmp_path / "q.wav", id="q1", kind="question", role="user", text="what color is the sky",
        answer="blue", answers=("blue",), states=(0, 0, 0, 0, 0, 0, 1),
    )  # fmt: skip
    noise = manifest.describe(tmp_path / "q.wav", id="n1", kind="noise", states=(0,) * 6 + (2, 2))
    manifest.write(tmp_path / "user.jsonl", [ask, noise])
    said = manifest.describe(tmp_path / "a.wav", id="a1", role="assistant", text="blue")
    manifest.write(tmp_path / "assistant.jsonl", [said])
    return tmp_path


@pytest.fixture
def one_word_judge(monkeypatch):
    module = types.ModuleType("fo_core.engines.asr.pocketsphinx")
    module.PACKAGE = "pocketsphinx"
    module.Engine = lambda **how: types.SimpleNamespace(transcribe=lambda wave: "blue")
    monkeypatch.setitem(sys.modules, "fo_core.engines.asr.pocketsphinx", module)
    return "pocketsphinx"


def test_qa_measures_every_link(tiny_model, data, one_word_judge):
    args = ["eval", "qa", "--model", str(tiny_model), "--user", str(data / "user.jsonl")]
    args += ["--assistant", str(data / "assistant.jsonl"), "--out", str(data / "out"), "--json"]
    found = run(app, [*args, "--judge", one_word_judge])
    assert found.exit_code == 0, found.stderr
    scores = json.loads(found.stdout)
    assert scores["items"] == 1
    assert scores["wer_original"] == scores["wer_codec"] == 0
    assert scores["text_accuracy"] == scores["speech_accuracy"] == 1
    assert scores["input1_wer"] > 0 and scores["answer_agreement"] == 0
    counts = scores["state_f1"]["confusion"]
    assert [sum(row) for row in counts] == [12, 1, 2]
    row = json.loads((data / "out" / "items.jsonl").read_text().splitlines()[0])
    assert soundfile.info(row["reply_wav"]).samplerate == 24000
    assert row["answer"] and row["first_audio_ms"] > 0


def test_asr_counts_both_readings(tiny_model, data):
    args = ["eval", "asr", "--model", str(tiny_model), "--data", str(data / "user.jsonl")]
    found = run(app, [*args, "--out", str(data / "out"), "--json"])
    assert found.exit_code == 0, found.stderr
    scores = json.loads(found.stdout)
    assert scores["items"] == 1 and scores["complete"]
    assert {"user/4-streaming/ctc", "user/4-streaming/llm"} <= set(scores["metrics"])
    row = json.loads((data / "out" / "items.jsonl").read_text())
    assert row["scores"]["user/4-streaming/ctc"][1] == 5  # words; the noise has no transcript


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["qa", "--user", "no.jsonl"], "no.jsonl"),
        (["qa", "--user", "user.jsonl", "--judge", "faster-wisper"], "did you mean"),
        (["asr", "--data", "empty.jsonl"], "empty"),
    ],
)
def test_faults_are_one_line(args, line, tiny_model, data, monkeypatch):
    monkeypatch.chdir(data)
    (data / "empty.jsonl").write_text("")
    found = run(app, ["eval", *args, "--model", str(tiny_model), "--out", "out"])
    assert found.exit_code == 1 and line in found.stderr and found.stderr.count("\n") == 1
    assert not (data / "out").exists()
