"""``fo eval codec``: exchanged global tokens, on a tiny codec and a scripted judge."""

import json
import sys
import types

import numpy as np
import pytest
import soundfile
import tiny_models
import torch
from typer.testing import CliRunner

from fo_cli.main import app
from fo_core.data import manifest
from fo_core.models.codec.istft_codec import IstftCodec


@pytest.fixture
def recordings(tmp_path):
    items = []
    for number, text in enumerate(("abc", "defg", "hgf", "edcb")):
        speaker = "ab"[number % 2]
        wave = tiny_models.say(text, 24000, 1.0 if speaker == "a" else 1.4)
        soundfile.write(tmp_path / f"{number}.wav", wave, 24000)
        path = tmp_path / f"{number}.wav"
        items.append(manifest.describe(path, id=f"{number}", text=text, speaker=speaker))
    items.append(manifest.describe(path, id="alone", text="abc", speaker="c"))
    items.append(manifest.describe(path, id="nobody", text="abc"))
    manifest.write(tmp_path / "items.jsonl", items)
    return tmp_path / "items.jsonl"


def said(*args, code=0):
    found = CliRunner().invoke(app, ["eval", "codec", *map(str, args)])
    assert found.exit_code == code, found.output
    return found


@pytest.fixture
def judge(monkeypatch):
    module = types.ModuleType("fo_core.engines.asr.pocketsphinx")
    module.PACKAGE, module.DEFAULT = "pocketsphinx", "scripted"
    module.Engine = lambda **how: types.SimpleNamespace(transcribe=lambda wave: "abc")
    monkeypatch.setitem(sys.modules, "fo_core.engines.asr.pocketsphinx", module)
    return "pocketsphinx"


@pytest.fixture
def model(tiny_model, monkeypatch):
    """Untrained global tokens are all alike: here they are a number of the recording."""
    encode = IstftCodec.encode

    def other(codec, wave):
        tokens, voice = encode(codec, wave)
        return tokens, torch.full_like(
            voice, wave.shape[1] // 1000 % codec.cfg.global_quantizer.codes
        )

    monkeypatch.setattr(IstftCodec, "encode", other)
    return tiny_model


def test_words_and_voices_beside_each_other(model, recordings, tmp_path, judge):
    out = tmp_path / "out"
    args = ["--data", recordings, "--out", out, "--judge", judge, "--no-dnsmos", "--json"]
    found = json.loads(said(*args, "--model", model).stdout)
    scores = found["metrics"]
    for name in ("original", "codec", "exchanged"):
        assert scores[f"{name}/wer"]["items"] == 4 and scores[f"{name}/wer"]["value"] == 0.75
        assert {f"{name}/own_voice", f"{name}/lent_voice"} <= set(scores)
    assert scores["original/pitch_way"]["value"] == 0
    why = {row["id"]: row["why"] for row in found["skipped"]}
    assert why == {"alone": "its speaker's only recording", "nobody": "no speaker"}
    rows = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    for row in rows:
        lent = next(other for other in rows if other["id"] == row["lender"])
        assert lent["speaker"] == row["lent"]["voice"] != row["speaker"]
        own, exchanged = (
            soundfile.read(out / f"speech/{row['id']}/{name}.flac")[0]
            for name in ("codec", "exchanged")
        )
        assert own.shape == exchanged.shape and not np.array_equal(own, exchanged)
    assert "the lent voice" in (out / "report.md").read_text()
    assert json.loads(said(*args, "--rescore").stdout)["metrics"] == scores


def test_one_speaker_is_refused(tiny_model, recordings, tmp_path, judge):
    items = [item for item in manifest.read(recordings) if item.speaker == "a"]
    manifest.write(tmp_path / "one.jsonl", items)
    args = ["--data", tmp_path / "one.jsonl", "--out", tmp_path / "out", "--judge", judge]
    found = said(*args, "--model", tiny_model, code=1)
    assert "voices of 1 speaker(s): nothing to exchange" in found.stderr
    assert not (tmp_path / "out" / "overview.json").exists()
