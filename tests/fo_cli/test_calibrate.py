"""``fo models calibrate``: what it writes into a model, what it leaves, what it refuses."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from fo_cli.main import app
from fo_core.data import manifest
from fo_core.dialogue.settings import read_dialogue


def said(*args, code=0):
    found = CliRunner().invoke(app, ["models", "calibrate", *map(str, args)])
    assert found.exit_code == code, found.output
    return found


@pytest.fixture
def model(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.fixture
def talk(tmp_path):
    """Two turns and a cough, with labels."""
    items = []
    kinds = (("question", (0, 0, 1, 1), 0.3), ("question", (0, 0, 0, 1), 0.45),
             ("noise", (0, 2, 2, 2), 0.1))  # fmt: skip
    for number, (kind, states, end) in enumerate(kinds):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, 0.1 * np.random.default_rng(number).standard_normal(10240), 16000)
        items.append(manifest.describe(path, id=f"{number}", kind=kind, states=states,
                                       speech_end=end))  # fmt: skip
    manifest.write(tmp_path / "talk.jsonl", items)
    return tmp_path / "talk.jsonl"


def test_settings_and_curve_are_written_and_the_rest_is_left(model, talk, tmp_path):
    before = json.loads((model / "dialogue.json").read_text())
    out = tmp_path / "out"
    found = json.loads(said(model, talk, "--out", out, "--json").stdout)
    assert found["items"] == 3 and found["metrics"]["turns/missed"]["value"] == 1  # threshold 1
    assert found["metrics"]["answered/noise"]["items"] == 1
    assert json.loads((model / "dialogue.json").read_text()) == before  # not asked to write
    heard = (out / "hear.jsonl").read_bytes()
    refused = said(model, talk, "--out", out, "--write", code=1)
    assert "nothing was written: 2 turns are too few" in refused.stderr
    assert json.loads((model / "dialogue.json").read_text()) == before
    shown = said(model, talk, "--out", out, "--false-cuts", 0, "--write", "--force")
    assert (out / "hear.jsonl").read_bytes() == heard  # nothing was heard again
    assert "now" in shown.stdout and "missed" in shown.stdout
    after = json.loads((model / "dialogue.json").read_text())
    changed = {key for key in after if after[key] != before.get(key)}
    assert changed == {"states", "calibration"}
    assert after["states"]["dismiss_threshold"] == before["states"]["dismiss_threshold"]
    config = read_dialogue(model)
    curve = config.calibration.curve
    assert config.calibration.turns == 2 and config.calibration.wanted == 0
    assert config.calibration.wanted_missed == 0.1 and config.calibration.missed is not None
    assert config.states.respond_threshold in [p.threshold for p in curve]
    assert json.loads((out / "calibration.json").read_text())["states"] == after["states"]
    page = (out / "report.html").read_text()
    assert page.count("image/svg+xml") == 2  # against the delay, and against what is missed
    assert "No other one has fewer false cuts" in page
    said(model, talk, "--out", out)  # a calibrated model is heard by the same weights
    assert (out / "hear.jsonl").read_bytes() == heard


def test_talk_without_a_turn_is_one_line(model, talk, tmp_path):
    items = [item for item in manifest.read(talk) if item.kind == "noise"]
    manifest.write(talk, items)
    found = said(model, talk, "--out", tmp_path / "out", code=1)
    assert "holds no turn of a user" in found.stderr and found.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_where_no_setting_meets_both_shares_nothing_is_written_unless_told(
    model, talk, tmp_path, monkeypatch
):
    from eval.duplex import calibrate, trade_off

    monkeypatch.setattr(trade_off, "FEW", 2)
    monkeypatch.setattr(calibrate, "THRESHOLDS", (0.999,))
    monkeypatch.setattr(calibrate, "FALLS", (0.0,))
    before = (model / "dialogue.json").read_bytes()
    args = (model, talk, "--out", tmp_path / "out", "--false-cuts", 0, "--missed", 0)
    shown = said(*args)  # shown, not written: no fault
    assert "no setting has at most 0.0% false cuts and at most 0.0% missed turns; nearest:" in (
        shown.stderr
    )
    assert "nearest" in shown.stdout and "found" not in shown.stdout
    refused = said(*args, "--write", code=1).stderr.splitlines()[-1]
    assert "nothing was written: no setting has" in refused and "--force" in refused
    assert (model / "dialogue.json").read_bytes() == before
    idle = said(*args, "--force", code=1).stderr
    assert idle == "error: --force is for --write; do: add --write, or leave it out\n"
    assert said(*args, "--write", "--anyway", code=1).stderr == (
        "error: --anyway: this option is --force now; do: write --force\n"
    )
    said(*args, "--write", "--force")
    assert (model / "dialogue.json").read_bytes() != before


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b'{"audio_filepath": "a.wav", "text": "x"}\n', "not a cut.*import nemo"),
        (b"hello\n", "line 1: not JSON.*possible: lhotse cuts"),
        (None, "does not exist"),
    ],
)
def test_a_wrong_manifest_is_one_line(model, tmp_path, data, words):
    if data is not None:
        (tmp_path / "wrong.jsonl").write_bytes(data)
    found = said(model, tmp_path / "wrong.jsonl", "--out", tmp_path / "out", code=1)
    assert re.search(words, found.stderr) and found.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_talk_without_state_labels_is_one_line(model, talk, tmp_path):
    items = [replace(item, states=()) for item in manifest.read(talk)]
    manifest.write(talk, items)
    found = said(model, talk, "--out", tmp_path / "out", code=1)
    assert "holds no turn of a user" in found.stderr and "label-states" in found.stderr
    assert found.stderr.count("\n") == 1


def test_sounds_that_cannot_be_read_are_left_out_and_named(model, talk, tmp_path):
    (tmp_path / "0.wav").write_bytes(b"no sound")
    found = said(model, talk, "--out", tmp_path / "out")
    assert "1 of 3 could not be heard" in found.stderr and "0.wav is not a sound" in found.stderr
    (tmp_path / "1.wav").unlink()  # the noise can still be heard
    found = said(model, talk, "--out", tmp_path / "other", code=1)
    assert "not one turn of a user could be heard" in found.stderr.splitlines()[-1]
    assert "0.wav is not a sound" in found.stderr.splitlines()[-1]


def test_a_run_that_was_stopped_goes_on(model, talk, tmp_path, monkeypatch):
    from eval.systems.probe import ModelProbe

    whole, heard = ModelProbe.chunk_states, []

    def stopping(self, wave, chunks):
        heard.append(chunks)
        if len(heard) == 2:
            raise KeyboardInterrupt
        return whole(self, wave, chunks)

    monkeypatch.setattr(ModelProbe, "chunk_states", stopping)
    stopped = said(model, talk, "--out", tmp_path / "out", code=130)
    assert "run the same command again to go on" in stopped.stderr
    said(model, talk, "--out", tmp_path / "out")
    assert len(heard) == 1 + 1 + 2  # the first was kept, the second is heard again
