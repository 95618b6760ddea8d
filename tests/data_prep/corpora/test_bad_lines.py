"""A bad line of a corpus costs only itself, and is listed."""

import json
import re

import pytest

from data_prep.corpora import CorpusOptions
from data_prep.import_corpus import run
from fo_core.data import manifest
from fo_core.errors import DataError
from tests.support.corpora import (
    ONE,
    aishell,
    folder,
    gigaspeech,
    kaldi,
    librispeech,
    ljspeech,
    nemo,
    rejects,
    sound,
    vctk,
    wenetspeech,
    write,
)


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
    assert re.search(said, row["reason"]), row


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
