"""``fo prepare-data duplex-bench``: from manifests to folders that the evaluation reads."""

import json
import re

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
        (["--words", "nosuch"], "unknown speech recogniser 'nosuch'"),
    ],
)
def test_refused_before_any_work(turns, tmp_path, more, words):
    found = said(turns, "--out", tmp_path / "bench", *more, code=1)
    assert words in found.stderr and found.stderr.count("\n") == 1
    assert not (tmp_path / "bench").exists()


WRONG = {  # a manifest, and what is said of it
    "empty": (b"", "is empty"),
    "of NeMo": (b'{"audio_filepath": "a.wav", "text": "x"}\n', "not a cut.*import nemo"),
    "of words": (b"hello\nthere\n", "line 1: not JSON.*possible: lhotse cuts, one a line"),
    "of bytes": (b"\x00\xff\xfe", "not text in UTF-8"),
    "cut short": (b'{"id": "a", "start": 0', "line 1: not JSON"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("option", ["", "--asides"])
def test_a_wrong_manifest_is_one_line(turns, tmp_path, name, option):
    data, words = WRONG[name]
    (tmp_path / "wrong.jsonl").write_bytes(data)
    given = [turns, option, tmp_path / "wrong.jsonl"] if option else [tmp_path / "wrong.jsonl"]
    found = said(*given, "--words", "none", "--out", tmp_path / "bench", code=1)
    assert re.search(words, found.stderr) and found.stderr.count("\n") == 1
    assert not (tmp_path / "bench").exists()


def test_a_sound_that_cannot_be_read_is_named_and_costs_only_itself(turns, tmp_path):
    (tmp_path / "0.wav").write_bytes(b"no sound")
    args = [turns, "--words", "none", "--number", 2, "--set", "tail=1", "--out", tmp_path / "bench"]
    found = said(*args)
    assert re.search(r"not used: 0: .*0\.wav is not a sound file", found.stderr)
    assert "v1/smooth_turn_taking: 1 of 2; the utterances give no more" in found.stderr
    (tmp_path / "1.wav").unlink()
    found = said(*args[:-1], tmp_path / "none", code=1)
    assert re.search(r"no utterance can be used: .*[01]\.wav", found.stderr)
