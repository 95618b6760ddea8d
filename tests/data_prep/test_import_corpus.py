"""Import of corpora: the contract of every one, columns, channels, workers."""

import json
import math

import numpy as np
import pytest
import soundfile

from data_prep.corpora import CORPORA, Broken, CorpusOptions, Utterance
from data_prep.import_corpus import run
from data_prep.runner.run import RunConfig
from fo_core.data import manifest
from fo_core.errors import DataError, EngineError
from tests.support.corpora import (
    LAYOUTS,
    ONE,
    libritts,
    ljspeech,
    nemo,
    rejects,
    sound,
    write,
)


@pytest.mark.parametrize("name", CORPORA.names())
def test_the_contract_of_every_corpus(tmp_path, name):
    """A new file in data_prep/corpora needs a layout above, and then all of this must hold."""
    corpus = CORPORA.load(name)
    assert corpus.SUMMARY and corpus.LAYOUT and corpus.__doc__
    assert isinstance(corpus.LICENCE, str) and corpus.LANGUAGE in ("", "en", "zh")
    make, parts = LAYOUTS[name]
    source = make(tmp_path / "in")
    found = list(corpus.items(source, CorpusOptions(sounds=str(tmp_path / "sounds"))))
    assert all(isinstance(each, Utterance | Broken) for each in found)
    report = run(name, source, tmp_path / "out", how=ONE)
    assert {split: n["items"] for split, n in report["splits"].items()} == parts
    assert report["made"] == sum(parts.values()) and not report["rejected"]
    for split in parts:
        for item in manifest.read(tmp_path / "out" / f"{split}.jsonl"):
            assert item.text and len(item.load_audio(16000)) == round(item.duration * 16000)
            assert item.language == (corpus.LANGUAGE or "en")
    for bad in (tmp_path / "none", tmp_path / "out"):  # nothing there; another layout
        if name not in ("folder", "hf") or bad.name == "none":
            with pytest.raises(DataError, match="no corpus at|not laid out") as fault:
                run(name, bad, tmp_path / "other", how=ONE)
            assert "\n" not in str(fault.value)


@pytest.mark.parametrize("name", ["librispeech", "aishell", "wenetspeech"])
def test_we_find_what_lhotse_finds(tmp_path, name):
    from lhotse import recipes

    source = LAYOUTS[name][0](tmp_path / "in")
    prepare = {"librispeech": recipes.prepare_librispeech, "aishell": recipes.prepare_aishell,
               "wenetspeech": recipes.prepare_wenet_speech}[name]  # fmt: skip
    parts = {"dataset_parts": ("L", "M", "DEV")} if name == "wenetspeech" else {}
    theirs = {
        (part, s.id, s.text, s.speaker or "", round(s.start, 3), round(s.duration, 3))
        for part, found in prepare(source, **parts).items()
        for s in found["supervisions"]
    }
    run(name, source, tmp_path / "out", how=ONE)
    ours = {
        (path.stem, i.id, i.text, i.speaker, round(i.start, 3), round(i.duration, 3))
        for path in (tmp_path / "out").glob("*.jsonl")
        if path.stem != "rejects"
        for i in manifest.read(path)
    }
    assert ours == theirs


def test_libritts_and_ljspeech_are_what_lhotse_finds(tmp_path):
    from lhotse.recipes.libritts import prepare_libritts
    from lhotse.recipes.ljspeech import prepare_ljspeech

    source = libritts(tmp_path / "in")
    theirs = {
        (part, s.id, s.text, s.speaker)
        for part, found in prepare_libritts(source / "LibriTTS",
                                            ["dev-clean", "train-clean-100"]).items()
        for s in found["supervisions"]
    }  # fmt: skip
    run("libritts", source, tmp_path / "tts", how=ONE)
    assert theirs == {(part, i.id, i.text, i.speaker) for part in ("dev-clean", "train-clean-100")
                      for i in manifest.read(tmp_path / "tts" / f"{part}.jsonl")}  # fmt: skip
    source = ljspeech(tmp_path / "lj")
    (source / "LJSpeech-1.1").rename(source / "whole")
    theirs = {(s.id, s.custom["normalized_text"])
              for s in prepare_ljspeech(source / "whole")["supervisions"]}  # fmt: skip
    run("ljspeech", source / "whole", tmp_path / "out", how=ONE)
    assert theirs == {(i.id, i.text) for i in manifest.read(tmp_path / "out" / "all.jsonl")}


def test_columns_are_named_and_times_cut(tmp_path):
    sound(tmp_path / "wav" / "a.wav", 2.0)
    rows = [{"file": "a.wav", "words": "one", "who": "x", "from": 0.5, "to": 1.25, "part": "dev",
             "key": "k1"},
            {"file": "a.wav", "words": "two", "key": "k2", "part": "train/a"}]  # fmt: skip
    path = tmp_path / "t.jsonl"
    path.write_text("\ufeff" + "".join(json.dumps(row) + "\n" for row in rows))
    options = CorpusOptions(audio="file", text="words", id="key", speaker="who", start="from",
                            end="to", split_column="part", root=str(tmp_path / "wav"))  # fmt: skip
    report = run("table", path, tmp_path / "out", options, ONE)
    assert set(report["splits"]) == {"dev", "train_a"}
    (item,) = manifest.read(tmp_path / "out" / "dev.jsonl")
    assert (item.id, item.text, item.speaker, item.start) == ("k1", "one", "x", 0.5)
    assert len(item.load_audio(16000)) == 12000
    with pytest.raises(DataError, match="no column 'word' for text.*did you mean 'words'"):
        run("table", path, tmp_path / "x", CorpusOptions(audio="file", text="word"), ONE)


def test_d5_rows_of_nemo_are_parts_of_their_files(tmp_path):
    run("nemo", nemo(tmp_path / "in"), tmp_path / "out", how=ONE)
    first, second, third = manifest.read(tmp_path / "out" / "all.jsonl")
    assert (first.start, first.duration, first.text) == (0.25, 0.5, "one")
    assert (second.start, second.duration, second.speaker) == (1.5, 0.5, "s1")
    assert (third.start, third.duration, third.text) == (0.0, 0.5, "three")
    assert [i.language for i in (first, second, third)] == ["en", "en", "en"]
    assert len({i.id for i in (first, second, third)}) == 3


def test_d5_unmapped_times_of_a_table_are_pointed_out(tmp_path, caplog):
    sound(tmp_path / "a.wav", 2.0)
    path = tmp_path / "t.jsonl"
    row = {"audio": "a.wav", "text": "x", "offset": 0.5, "duration": 1.0, "Speaker": "anna"}
    path.write_text(json.dumps(row))
    run("table", path, tmp_path / "whole", how=ONE)
    assert "the columns offset, duration are not used" in caplog.text
    assert "the column Speaker is not used; if it is wanted: --set speaker=Speaker" in caplog.text
    caplog.clear()
    options = CorpusOptions(start="offset", duration="duration", speaker="Speaker")
    run("table", path, tmp_path / "parts", options, ONE)
    assert not caplog.text
    (item,) = manifest.read(tmp_path / "parts" / "all.jsonl")
    assert (item.start, item.duration) == (0.5, 1.0)


def two_sides(folder):
    """A call: one speaker on each channel."""
    path = folder / "call.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    sides = np.stack([np.full(16000, 0.1), np.full(16000, 0.3)], axis=1)
    soundfile.write(path, sides, 16000)
    return path


@pytest.mark.parametrize(("channel", "wanted"), [("mean", 0.2), ("0", 0.1), ("1", 0.3)])
def test_d3_import_says_which_channel_it_takes(tmp_path, channel, wanted):
    two_sides(tmp_path / "in").with_suffix(".txt").write_text("hello")
    report = run("folder", tmp_path / "in", tmp_path / "out", CorpusOptions(channel=channel), ONE)
    assert report["channels_averaged"] == (channel == "mean")
    (item,) = manifest.read(tmp_path / "out" / "all.jsonl")
    assert item.load_audio(16000)[100] == pytest.approx(wanted, abs=1e-3)


def test_d3_the_sides_of_a_call_in_a_table_and_in_kaldi(tmp_path):
    two_sides(tmp_path)
    rows = [{"audio": "call.wav", "text": "left", "side": 0},
            {"audio": "call.wav", "text": "right", "side": "1"},
            {"audio": "call.wav", "text": "odd", "side": "left"},
            {"audio": "call.wav", "text": "none", "side": 2}]  # fmt: skip
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("table", tmp_path / "t.jsonl", tmp_path / "out", CorpusOptions(channel_column="side"), ONE)
    found = [round(float(i.load_audio(16000)[9]), 2)
             for i in manifest.read(tmp_path / "out" / "all.jsonl")]  # fmt: skip
    assert found == [0.1, 0.3]
    assert [("not a channel" in r["reason"], "no channel 2" in r["reason"])
            for r in rejects(tmp_path / "out")] == [(True, False), (False, True)]  # fmt: skip
    for name, text in (("wav.scp", "call-A call.wav\ncall-B call.wav\n"),
                       ("text", "call-A left\ncall-B right\n"),
                       ("reco2file_and_channel", "call-A call A\ncall-B call B\n")):  # fmt: skip
        (tmp_path / name).write_text(text)
    run("kaldi", tmp_path, tmp_path / "kaldi", how=ONE)
    assert [i.channel for i in manifest.read(tmp_path / "kaldi" / "all.jsonl")] == [0, 1]


def test_where_nothing_can_be_used_the_first_reason_is_said(tmp_path):
    (tmp_path / "t.tsv").write_text("audio\ttext\nnone.wav\twords\n")
    with pytest.raises(DataError, match=r"none of 1 .*; the first: no sound file .*none\.wav"):
        run("table", tmp_path / "t.tsv", tmp_path / "out", how=ONE)


def test_twins_unknown_names_and_nothing_usable(tmp_path):
    sound(tmp_path / "a.wav")
    write(tmp_path / "t.csv", "audio,text,id\na.wav,one,x\na.wav,two,x\n")
    report = run("table", tmp_path / "t.csv", tmp_path / "out", CorpusOptions(id="id"), ONE)
    assert report["made"] == 1 and report["rejected"] == {"the same id twice": 1}
    with pytest.raises(EngineError, match="unknown corpus 'librispech'.*did you mean"):
        run("librispech", tmp_path, tmp_path / "out")
    write(tmp_path / "t.csv", "audio,text\nno.wav,one\n")
    with pytest.raises(DataError, match="none of 1 utterances"):
        run("table", tmp_path / "t.csv", tmp_path / "none", how=ONE)
    assert [p.name for p in (tmp_path / "none").glob("*.jsonl")] == ["rejects.jsonl"]


def test_workers_and_limit(tmp_path):
    rows = ["audio,text"]
    for i in range(60):
        sound(tmp_path / f"{i}.wav", 0.2)
        rows.append(f"{i}.wav,words {i}")
    write(tmp_path / "t.csv", "\n".join(rows))
    run("table", tmp_path / "t.csv", tmp_path / "one", how=ONE)
    run("table", tmp_path / "t.csv", tmp_path / "two", how=RunConfig(workers=2))
    one, two = (tmp_path / name / "all.jsonl" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    limited = run("table", tmp_path / "t.csv", tmp_path / "l", how=RunConfig(workers=1, limit=7))
    assert limited["made"] == 7 and math.isclose(limited["splits"]["all"]["hours"], 0.0004)


def test_the_real_recordings(shared_dir, tmp_path):
    options = CorpusOptions(audio="file", id="utt_id", speaker="speaker", language_column="lang",
                            split_column="lang")  # fmt: skip
    source = shared_dir / "data" / "real_speech" / "manifest.tsv"
    report = run("table", source, tmp_path / "out", options, ONE)
    assert report["items"] == 46 and not report["rejected"]
    assert {name: n["items"] for name, n in report["splits"].items()} == {"en": 36, "zh": 10}
