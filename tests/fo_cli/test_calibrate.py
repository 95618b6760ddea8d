"""``fo models calibrate``: what it writes into a model, what it leaves, what it refuses."""

import json
import shutil

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
    shown = said(model, talk, "--out", out, "--false-cuts", 0, "--write")
    assert (out / "hear.jsonl").read_bytes() == heard  # nothing was heard again
    assert "now" in shown.stdout and "found" in shown.stdout
    after = json.loads((model / "dialogue.json").read_text())
    changed = {key for key in after if after[key] != before.get(key)}
    assert changed == {"states", "calibration"}
    assert after["states"]["dismiss_threshold"] == before["states"]["dismiss_threshold"]
    config = read_dialogue(model)
    curve = config.calibration.curve
    assert config.calibration.turns == 2 and config.calibration.wanted == 0
    assert config.states.respond_threshold in [p.threshold for p in curve]
    assert json.loads((out / "calibration.json").read_text())["states"] == after["states"]
    page = (out / "report.html").read_text()
    assert "False cuts against mean delay" in page and "image/svg+xml" in page
    said(model, talk, "--out", out)  # a calibrated model is heard by the same weights
    assert (out / "hear.jsonl").read_bytes() == heard


def test_talk_without_a_turn_is_one_line(model, talk, tmp_path):
    items = [item for item in manifest.read(talk) if item.kind == "noise"]
    manifest.write(talk, items)
    found = said(model, talk, "--out", tmp_path / "out", code=1)
    assert "holds no turn of a user" in found.stderr and found.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
