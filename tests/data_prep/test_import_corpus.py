import json
import math
import sys

import numpy as np
import pytest
import soundfile

from data_prep.corpora import CORPORA, Broken, CorpusOptions, Utterance
from data_prep.import_corpus import run
from data_prep.runner.run import RunConfig
from fo_core.data import manifest
from fo_core.errors import DataError, EngineError
from fo_core.io import audio

ONE = RunConfig(workers=1)


def sound(path, seconds=0.5, seed=1):
    wave = 0.1 * np.random.default_rng(seed).standard_normal(round(16000 * seconds))
    audio.write(path, wave, 16000)
    return path


def librispeech(root):
    """Two parts in LibriSpeech's layout, four utterances."""
    for part, chapter, count in (("dev-clean", "84/121", 3), ("train-clean-5", "19/198", 1)):
        stem = chapter.replace("/", "-")
        for i in range(count):
            sound(root / part / chapter / f"{stem}-{i:04d}.flac", seed=i)
        lines = [f"{stem}-{i:04d} SAID IN THE BOOK {'ABCD'[i]}\n" for i in range(count)]
        (root / part / chapter / f"{stem}.trans.txt").write_text("".join(lines))
    return root


def aishell(root):
    """AISHELL-1's layout, four utterances."""
    words = {
        "BAC009S0002W0122": "而 对 楼市",
        "BAC009S0002W0123": "也 成为",
        "BAC009S0764W0001": "甚至",
        "BAC009S0724W0001": "出现",
    }
    for name in words:
        part = {"S0764": "test", "S0724": "dev"}.get(name[6:11], "train")
        sound(root / "data_aishell" / "wav" / part / name[6:11] / f"{name}.wav")
    path = root / "data_aishell" / "transcript" / "aishell_transcript_v0.8.txt"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{name} {text}\n" for name, text in words.items()))
    return root


def wenetspeech(root):
    """One recording with two segments."""
    sound(root / "audio" / "Y1.flac", 3.0)
    segments = [{"sid": f"Y1_S{i}", "begin_time": i, "end_time": i + 1, "text": " 甚至出现 ",
                 "confidence": 1.0, "subsets": subsets}
                for i, subsets in enumerate((["L", "M"], ["DEV"]))]  # fmt: skip
    entry = {"aid": "Y1", "duration": 3.0, "path": "audio/Y1.flac", "segments": segments}
    (root / "WenetSpeech.json").write_text(
        json.dumps({"dataset": "x", "audios": [entry]}, indent=1)
    )
    return root


def kaldi(root):
    """Two segments of one recording, and one of another behind flac's pipe."""
    sound(root / "wav" / "a.wav", 2.0)
    sound(root / "wav" / "b.flac", 1.0)
    (root / "wav.scp").write_text("rec-a wav/a.wav\nrec-b flac -c -d -s wav/b.flac |\n")
    (root / "segments").write_text("a1 rec-a 0.0 1.0\na2 rec-a 1.0 2.0\nb1 rec-b 0 -1\n")
    (root / "text").write_text("a1 one\na2 two words\nb1 three\n")
    (root / "utt2spk").write_text("a1 anna\na2 anna\nb1 bert\n")
    return root


def table(root):
    """A TSV with names of its own for the columns, and quotes in the text."""
    sound(root / "a.wav")
    sound(root / "b.wav")
    path = root / "t.tsv"
    path.write_text('audio\ttext\tspk\na.wav\tsay "yes\tanna\nb.wav\tsay no\tbert\n')
    return path


def folder(root):
    """Two sounds, one in a folder below."""
    for name, text in (("a", "hello\nthere\n"), ("sub/b", "你好")):
        sound(root / f"{name}.wav")
        (root / f"{name}.txt").write_text(text)
    return root


def nemo(root):
    """One file with two rows that are parts of it, and a whole file."""
    sound(root / "a.wav", 2.0)
    sound(root / "b.wav")
    rows = [
        {
            "audio_filepath": "a.wav",
            "offset": 0.25,
            "duration": 0.5,
            "text": "one",
            "lang": "en-US",
        },
        {"audio_filepath": "a.wav", "offset": 1.5, "duration": 0.5, "text": "two", "speaker": "s1"},
        {"audio_filepath": str(root / "b.wav"), "duration": 0.5, "text": "three"},
    ]
    path = root / "train_manifest.json"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def hf(root):
    """What ``datasets`` saved: two splits, sounds inside."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    inside = [{"bytes": sound(root / f"{i}.wav", seed=i).read_bytes(), "path": f"{i}.wav"}
              for i in range(2)]  # fmt: skip
    outside = {"bytes": None, "path": str(sound(root / "sub" / "c.wav"))}
    found = datasets.DatasetDict({
        "train": datasets.Dataset.from_dict({"audio": inside, "text": ["one", "two"]}),
        "test": datasets.Dataset.from_dict({"audio": [outside], "text": ["three"]}),
    })  # fmt: skip
    found = found.cast_column("audio", datasets.Audio(decode=False))
    found.save_to_disk(str(root / "saved"))
    return root / "saved"


def ljspeech(root):
    """Two lines, one of them without its normalised text."""
    for name in ("LJ001-0001", "LJ001-0002"):
        sound(root / "LJSpeech-1.1" / "wavs" / f"{name}.wav")
    (root / "LJSpeech-1.1" / "metadata.csv").write_text(
        'LJ001-0001|in 1455, "he said"|in fourteen fifty-five, "he said"\nLJ001-0002|being|being\n'
    )
    return root


def vctk(root):
    """Version 0.92 of two speakers, one without the second microphone."""
    for speaker, mic in (("p225", 2), ("p280", 1)):
        base = root / "wav48_silence_trimmed" / speaker
        sound(base / f"{speaker}_001_mic{mic}.flac")
        told = root / "txt" / speaker / f"{speaker}_001.txt"
        told.parent.mkdir(parents=True)
        told.write_text("Please call Stella.\n")
    return root


def libritts(root):
    """One chapter of two parts each."""
    for part in ("dev-clean", "train-clean-100"):
        folder = root / "LibriTTS" / part / "84" / "121123"
        names = [f"84_121123_00000{i}_00000{i}" for i in range(2)]
        for i, name in enumerate(names):
            sound(folder / f"{name}.wav", seed=i)
        (folder / "84_121123.trans.tsv").write_text(
            "".join(f"{name}\tMr. {i}\tMister {i}x.\n" for i, name in enumerate(names))
        )
        (folder / "84_121123.book.tsv").write_text("".join(f"{n}\tx\t30.0\n" for n in names))
    return root


def gigaspeech(root):
    """One recording with a segment of words in two subsets, and one of music."""
    sound(root / "audio" / "P1.flac", 3.0)
    segments = [
        {"sid": "P1_S0", "speaker": "N/A", "begin_time": 0.0, "end_time": 1.0,
         "text_tn": "AS THEY SAY <COMMA> YES <PERIOD>", "subsets": ["{XL}", "{L}"]},
        {"sid": "P1_S1", "speaker": "N/A", "begin_time": 1.0, "end_time": 2.0,
         "text_tn": "<MUSIC>", "subsets": ["{XL}"]},
    ]  # fmt: skip
    entry = {"aid": "P1", "path": "audio/P1.flac", "duration": 3.0, "sample_rate": 16000,
             "channels": 1, "segments": segments}  # fmt: skip
    (root / "GigaSpeech.json").write_text(json.dumps({"dataset": "x", "audios": [entry]}))
    return root


LAYOUTS = {
    "hf": (hf, {"train": 2, "test": 1}),
    "ljspeech": (ljspeech, {"all": 2}),
    "vctk": (vctk, {"all": 2}),
    "libritts": (libritts, {"dev-clean": 2, "train-clean-100": 2}),
    "gigaspeech": (gigaspeech, {"XL": 1, "L": 1}),
    "nemo": (nemo, {"all": 3}),
    "librispeech": (librispeech, {"dev-clean": 3, "train-clean-5": 1}),
    "aishell": (aishell, {"train": 2, "dev": 1, "test": 1}),
    "wenetspeech": (wenetspeech, {"L": 1, "M": 1, "DEV": 1}),
    "kaldi": (kaldi, {"all": 3}),
    "table": (table, {"all": 2}),
    "folder": (folder, {"all": 2}),
}


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


def test_bad_lines_of_voice_corpora_cost_only_themselves(tmp_path):
    source = ljspeech(tmp_path / "lj")
    table = source / "LJSpeech-1.1" / "metadata.csv"
    table.write_bytes(table.read_bytes() + b"LJ001-0009\nLJ001-0003|no sound|x\nLJ1|caf\xe9|x\n")
    assert run("ljspeech", source, tmp_path / "a", how=ONE)["made"] == 2
    reasons = [row["reason"] for row in rejects(tmp_path / "a")]
    assert "no text" in reasons[0] and "no sound file" in reasons[1] and "UTF-8" in reasons[2]
    source = vctk(tmp_path / "vctk")
    (source / "txt" / "p225" / "p225_002.txt").write_text("no sound")
    assert run("vctk", source, tmp_path / "b", how=ONE)["made"] == 2
    assert "p225_002_mic2.flac" in rejects(tmp_path / "b")[0]["reason"]
    source = gigaspeech(tmp_path / "giga")
    listing = json.loads((source / "GigaSpeech.json").read_text())
    listing["audios"] += [3, {"aid": "P2"}]
    (source / "GigaSpeech.json").write_text(json.dumps(listing))
    assert run("gigaspeech", source, tmp_path / "c", how=ONE)["made"] == 2
    assert len(rejects(tmp_path / "c")) == 2
    assert manifest.read(tmp_path / "c" / "XL.jsonl")[0].text == "AS THEY SAY, YES."


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


BAD_NEMO = {
    '{"text": "x"}': "no 'audio_filepath'",
    '{"audio_filepath": "a.wav", "offset": 1.0, "text": "x"}': "without a duration",
    '{"audio_filepath": "a.wav", "offset": -1, "duration": 1, "text": "x"}': "no time",
    '{"audio_filepath": "a.wav", "offset": "one", "duration": 1, "text": "x"}': "not numbers",
    '{"audio_filepath": "a.wav", "offset": 1.9, "duration": 9, "text": "x"}': "no sound from",
    '{"audio_filepath": "a.wav", "duration": 1}': "no text",
    '{"audio_filepath": "none.wav", "duration": 1, "text": "x"}': "no sound file",
    "{oops": "not JSON",
}


def test_d5_bad_rows_of_nemo_are_listed_and_the_rest_is_imported(tmp_path):
    path = nemo(tmp_path / "in")
    path.write_text(path.read_text() + "".join(line + "\n" for line in BAD_NEMO))
    report = run("nemo", path, tmp_path / "out", how=ONE)
    assert report["made"] == 3
    for row, said in zip(rejects(tmp_path / "out"), BAD_NEMO.values(), strict=True):
        assert said in row["reason"]


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


def rejects(out):
    return [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]


def wav_bytes(kind):
    return {"empty": b"", "text": b"hello", "head": b"RIFF\x24\x00\x00\x00WAVEfmt "}[kind]


BAD_ROWS = {  # a line of a table (columns audio, text, from, to), and what is said about it
    "missing file": ("no.wav,words,,", "no sound file"),
    "no audio": (",words,,", "no 'audio'"),
    "no text": ("a.wav,,,", "no text"),
    "text of marks": ("a.wav,?!,,", "no text"),
    "too few fields": ("a.wav", "1 fields, the head line has 4"),
    "too many fields": ("a.wav,b,,,,", "6 fields"),
    "stray quote": ('a.wav,"words" more,,', "not a row"),
    "nul": ("a.wav,wor\0ds,,", "NUL"),
    "latin1": ("a.wav,caf\xe9,,".encode("latin-1"), "not UTF-8"),
    "a folder": ("sub,words,,", "no sound file"),
    "empty file": ("empty.wav,words,,", "0 bytes|cannot|can be read"),
    "not sound": ("text.wav,words,,", "not a sound file"),
    "head only": ("head.wav,words,,", "not a sound file|holds no"),
    "start text": ("a.wav,words,soon,", "not a number"),
    "end nan": ("a.wav,words,0,nan", "is no time"),
    "end before start": ("a.wav,words,0.4,0.2", "is no time"),
    "start negative": ("a.wav,words,-1,", "is no time"),
    "start beyond": ("a.wav,words,9,", "no sound from"),
    "end beyond": ("a.wav,words,0,9", "no sound from"),
    "huge": ("a.wav," + "a" * (9 * 2**20) + ",,", "longer than|field larger"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_listed_and_the_rest_is_imported(tmp_path, name):
    sound(tmp_path / "a.wav")
    (tmp_path / "sub").mkdir()
    for kind in ("empty", "text", "head"):
        (tmp_path / f"{kind}.wav").write_bytes(wav_bytes(kind))
    line, said = BAD_ROWS[name]
    line = line if isinstance(line, bytes) else line.encode()
    good = b"a.wav,one two,,\n"
    (tmp_path / "t.csv").write_bytes(b"audio,text,from,to\n" + good + line + b"\n" + good)
    options = CorpusOptions(start="from", end="to")
    report = run("table", tmp_path / "t.csv", tmp_path / "out", options, ONE)
    assert report["made"] == 2
    (row,) = rejects(tmp_path / "out")
    assert row["id"] and row["step"] == "import"
    import re

    assert re.search(said, row["reason"]), row


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


BAD_KALDI = {  # file, its new text, what is said about what
    "wav.scp without a path": ("wav.scp", "rec-a wav/a.wav\nrec-b\n", "no path"),
    "wav.scp with a command": ("wav.scp", "rec-a wav/a.wav\nrec-b sox x -t wav - |\n", "a command"),
    "wav.scp cut short": ("wav.scp", "rec-a wav/a.wav\nrec-b wav/b", "no sound file"),
    "wav.scp in latin1": ("wav.scp", b"rec-a wav/a.wav\nrec-b caf\xe9\n", "not UTF-8"),
    "wav.scp twice": ("wav.scp", "rec-a wav/a.wav\nrec-a wav/b.flac\n", "the same name twice"),
    "wav.scp binary": ("wav.scp", b"rec-a wav/a.wav\n\x00\xff\xfe\n", "not UTF-8"),
    "segment without times": ("segments", "a1 rec-a 0 1\na2 rec-a\n", "not a segment"),
    "segment in words": ("segments", "a1 rec-a 0 1\na2 rec-a x y\n", "not a segment"),
    "segment backwards": ("segments", "a1 rec-a 0 1\na2 rec-a 2 1\n", "is no time"),
    "segment beyond": ("segments", "a1 rec-a 0 1\na2 rec-a 1 9\n", "no sound from"),
    "segment of nothing": ("segments", "a1 rec-a 0 1\na2 rec-z 0 1\n", "not in wav.scp"),
    "text without words": ("text", "a1 one\na2\n", "no text"),
    "text missing": ("text", "a1 one\n", "not in text"),
    "text of nothing": ("text", "a1 one\na2 b\nb1 c\nzz z\n", "has no sound"),
    "speaker file binary": ("utt2spk", b"\xff\xff\n", "not UTF-8"),
}


@pytest.mark.parametrize("name", BAD_KALDI)
def test_a_bad_line_of_kaldi_is_listed_and_the_rest_is_imported(tmp_path, name):
    source = kaldi(tmp_path / "in")
    file, text, said = BAD_KALDI[name]
    write(source / file, text)
    report = run("kaldi", source, tmp_path / "out", how=ONE)
    assert report["made"] >= 1
    found = rejects(tmp_path / "out")
    assert any(said in row["reason"] and row["id"] for row in found), found


def broken_librispeech(root, how):
    chapter = librispeech(root) / "dev-clean" / "84" / "121"
    script, flac = chapter / "84-121.trans.txt", chapter / "84-121-0001.flac"
    if how == "no sound":
        flac.unlink()
    elif how == "not sound":
        flac.write_bytes(b"no flac")
    elif how == "no words":
        script.write_text(script.read_text() + "84-121-0009\n")
    elif how == "blank lines":
        script.write_text(script.read_text() + "\n   \n84-121-0009 NO SUCH\n")
    else:
        script.write_bytes(script.read_bytes() + b"84-121-0009 caf\xe9\n")


@pytest.mark.parametrize("how", ["no sound", "not sound", "no words", "blank lines", "latin1"])
def test_librispeech_goes_on_after_a_bad_line(tmp_path, how):
    """lhotse's whole recipe ends at the first of these."""
    broken_librispeech(tmp_path / "in", how)
    report = run("librispeech", tmp_path / "in", tmp_path / "out", how=ONE)
    assert report["made"] == (3 if how.endswith("sound") else 4)
    assert len(rejects(tmp_path / "out")) == 1


def test_librispeech_goes_on_after_an_error_without_words(tmp_path, monkeypatch):
    """Its first line was taken of a text that has none, and that ended the import."""
    from lhotse.recipes import librispeech as recipe

    librispeech(tmp_path / "in")
    whole, said = recipe.parse_utterance, []

    def silent(part, line, *more):
        if not said:
            said.append(line.partition(" ")[0])
            raise RuntimeError
        return whole(part, line, *more)

    monkeypatch.setattr(recipe, "parse_utterance", silent)
    run("librispeech", tmp_path / "in", tmp_path / "out", how=ONE)
    reasons = {row["id"]: row["reason"] for row in rejects(tmp_path / "out")}
    assert reasons[said[0]].startswith("cannot be read: RuntimeError: ")


def test_aishell_without_a_text_or_sound(tmp_path):
    wav = aishell(tmp_path / "in") / "data_aishell" / "wav" / "train" / "S0002"
    sound(wav / "BAC009S0002W0999.wav")
    (wav / "BAC009S0002W0122.wav").write_bytes(b"no wave")
    assert run("aishell", tmp_path / "in", tmp_path / "out", how=ONE)["made"] == 3
    said = {row["id"]: row["reason"] for row in rejects(tmp_path / "out")}
    assert "no transcript" in said["BAC009S0002W0999"]
    assert "not a sound file" in said["BAC009S0002W0122"]


def test_wenetspeech_entries_of_the_wrong_form(tmp_path):
    source = wenetspeech(tmp_path / "in") / "WenetSpeech.json"
    whole = json.loads(source.read_text())
    good = whole["audios"][0]
    odd = [None, 3, "x", {}, {**good, "aid": "Y2", "segments": [{"sid": 1}]},
           {**good, "aid": "Y3", "path": "audio/none.flac", "segments": [
               {**good["segments"][0], "sid": "Y3_S0"}]}]  # fmt: skip
    source.write_text(json.dumps({**whole, "audios": [*odd, good]}))
    report = run("wenetspeech", tmp_path / "in", tmp_path / "out", how=ONE)
    assert report["made"] == 3 and len(rejects(tmp_path / "out")) == 7  # Y3 is in L and in M
    text = source.read_text()
    for bad, said in ((text[: len(text) // 2], "cut short"), ("{}", "no list"), ("", "no list")):
        source.write_text(bad)
        with pytest.raises(DataError, match=said):
            run("wenetspeech", tmp_path / "in", tmp_path / "other", how=ONE)


def test_a_folder_with_sounds_that_lack_a_text(tmp_path):
    source = folder(tmp_path / "in")
    sound(source / "c.wav")
    write(source / "a.txt", b"caf\xe9")
    (source / "._junk.wav").write_bytes(b"")
    assert run("folder", source, tmp_path / "out", how=ONE)["made"] == 1
    said = {row["id"]: row["reason"] for row in rejects(tmp_path / "out")}
    assert "has no c.txt" in said["c"] and "not UTF-8" in said["a"]


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
