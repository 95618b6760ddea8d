"""Tiny corpora in the layouts that ``fo import`` knows."""

import json

import numpy as np
import pytest

from data_prep.runner.run import RunConfig
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


def rejects(out):
    return [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
