"""``fo prepare-data duplex-bench``: from manifests to folders that the evaluation reads."""

import json

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from eval.sets import full_duplex_bench
from fo_cli.main import app
from fo_core.data import manifest


def said(*args, code=0):
    found = CliRunner().invoke(app, ["prepare-data", "duplex-bench", *map(str, args)])
    assert found.exit_code == code, found.output
    return found


@pytest.fixture
def turns(tmp_path):
    time = np.arange(32000) / 16000
    items = []
    for number in range(2):
        wave = 0.2 * np.sin(1000 * time) * (0.55 + 0.45 * np.cos(20.9 * time + number))
        soundfile.write(tmp_path / f"{number}.wav", wave, 16000)
        items.append(manifest.describe(tmp_path / f"{number}.wav", id=f"{number}", text="Hello.",
                                       speaker=f"{number}"))  # fmt: skip
    manifest.write(tmp_path / "turns.jsonl", items)
    return tmp_path / "turns.jsonl"


def test_own_recordings_become_tasks(turns, tmp_path):
    args = [turns, "--background", turns, "--words", "none", "--number", 1, "--set", "tail=1"]
    done = json.loads(said(*args, "--out", tmp_path / "bench", "--json").stdout)
    assert done["made"]["v1/smooth_turn_taking"] == done["made"]["v1.5/background_speech"] == 1
    rows, left = full_duplex_bench.read(tmp_path / "bench")
    assert {row["task"] for row in rows} == {
        "pause_handling", "smooth_turn_taking", "user_interruption", "background_speech",
    }  # fmt: skip
    assert not left


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--words", "pocketsphinx"], "gives no times of words"),
        (["--asides", "gone.jsonl"], "gone.jsonl"),
        (["--set", "pauses=3"], "unknown key pauses"),
    ],
)
def test_refused_before_any_work(turns, tmp_path, more, words):
    found = said(turns, "--out", tmp_path / "bench", *more, code=1)
    assert words in found.stderr and found.stderr.count("\n") == 1
    assert not (tmp_path / "bench").exists()
