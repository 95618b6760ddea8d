"""The corpus ``hf``: what ``datasets`` saved, parquet, sounds inside and outside."""

import sys

import numpy as np
import pytest

from data_prep.corpora import CorpusOptions
from data_prep.import_corpus import run
from fo_core.data import manifest
from fo_core.errors import DataError, EngineError
from tests.support.corpora import ONE, hf, rejects, sound


def test_hf_keeps_files_and_writes_what_is_inside(tmp_path):
    source = hf(tmp_path / "in")
    options = CorpusOptions(part="train")
    report = run("hf", source, tmp_path / "out", options, ONE)
    assert set(report["splits"]) == {"train"}
    first = manifest.read(tmp_path / "out" / "train.jsonl")[0]
    assert first.audio == str(tmp_path / "out" / "sounds" / "train" / "train-0000000.wav")
    assert (tmp_path / "in" / "0.wav").read_bytes() == open(first.audio, "rb").read()
    import datasets

    path = str(sound(tmp_path / "c.wav"))
    datasets.Dataset.from_dict({"audio": [path], "text": ["x"]}).save_to_disk(tmp_path / "paths")
    run("hf", tmp_path / "paths", tmp_path / "kept", how=ONE)
    assert manifest.read(tmp_path / "kept" / "all.jsonl")[0].audio == path
    assert not (tmp_path / "kept" / "sounds").exists()


@pytest.mark.parametrize(("options", "said"), [
    ({"part": "tran"}, "no split 'tran'.*did you mean 'train'"),
    ({"text": "sentence"}, "no column 'sentence' for text.*audio, text.*--set text=COLUMN"),
    ({"audio": "sound"}, "no column 'sound' for audio"),
])  # fmt: skip
def test_hf_names_what_is_not_there_and_writes_nothing(tmp_path, options, said):
    source = hf(tmp_path / "in")
    with pytest.raises(DataError, match=said):
        run("hf", source, tmp_path / "out", CorpusOptions(**options), ONE)
    assert not (tmp_path / "out" / "sounds").exists()
    assert not list((tmp_path / "out").glob("*.jsonl"))


def test_hf_streams_parquet_and_says_which_rows_are_broken(tmp_path):
    datasets = pytest.importorskip("datasets")
    wave = sound(tmp_path / "a.wav").read_bytes()
    sounds = [{"bytes": wave, "path": "a.wav"}, {"bytes": None, "path": None},
              {"bytes": b"no sound", "path": "b.wav"}, {"bytes": wave, "path": None}]  # fmt: skip
    rows = {"speech": sounds, "sentence": ["one", "two", "three", "four"], "who": [1, 2, 3, 4]}
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "set" / "train-0.parquet"))
    options = CorpusOptions(audio="speech", text="sentence", speaker="who")
    report = run("hf", tmp_path / "set", tmp_path / "out", options, ONE)
    assert report["made"] == 2
    assert [i.speaker for i in manifest.read(tmp_path / "out" / "train.jsonl")] == ["1", "4"]
    assert ["no sound" in r["reason"] or "not a sound file" in r["reason"]
            for r in rejects(tmp_path / "out")] == [True, True]  # fmt: skip


def test_hf_arrays_are_sounds_at_any_scale(tmp_path):
    datasets = pytest.importorskip("datasets")
    wave = 0.3 * np.sin(np.arange(8000) / 10)
    sounds = [{"array": (full * wave).tolist(), "sampling_rate": 16000} for full in (1, 32768)]
    rows = {"audio": sounds, "text": ["one", "two"]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "set")
    run("hf", tmp_path / "set", tmp_path / "out", how=ONE)
    for item in manifest.read(tmp_path / "out" / "all.jsonl"):
        assert np.abs(item.load_audio(16000) - wave).max() < 1e-4


def test_hf_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(EngineError, match=r"pip install datasets \(the extra hf\)"):
        run("hf", tmp_path, tmp_path / "out", how=ONE)
