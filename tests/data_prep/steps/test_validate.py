import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.checks import LEVELS, CheckConfig
from data_prep.runner.run import RunConfig
from data_prep.steps.validate import run
from fo_core.data import manifest
from fo_core.errors import ConfigError, DataError
from fo_core.io import audio

ONE = RunConfig(workers=1)
SECOND = 16000


def wave(seed=0, seconds=1.0):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(SECOND * seconds))


def cut(folder, name, sound=None, **known):
    """A good cut with a sound of its own, or of ``sound``."""
    path = folder / "sounds" / f"{name}.wav"
    audio.write(path, wave(sum(name.encode())) if sound is None else sound, SECOND)
    return manifest.to_cut(
        manifest.describe(path, id=name, **{"text": f"the word {name}", **known})
    )


def put(folder, lines, name="m.jsonl"):
    path = folder / name
    path.write_bytes(b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n"
                              for x in lines))  # fmt: skip
    return path


def good(folder, count=3):
    return [cut(folder, f"good{i}") for i in range(count)]


def changed(made, path, value):
    """A copy with one field changed; None as the value takes the field away."""
    made = json.loads(json.dumps(made))
    *parents, leaf = path.split(".")
    node = made
    for key in parents:
        node = node[int(key) if key.isdigit() else key]
    if value is None:
        del node[leaf]
    else:
        node[leaf] = value
    return made


def test_a_good_manifest_has_no_faults(tmp_path):
    lines = [*good(tmp_path), cut(tmp_path, "cough", text="", kind="noise"),
             cut(tmp_path, "all", role="assistant", states=(0,) * 4 + (-1, 2),
                 speech_tokens=(7,) * 40, global_tokens=(1, 2))]  # fmt: skip
    report = run(put(tmp_path, lines), how=ONE, fix=tmp_path / "fixed.jsonl")
    assert (report["errors"], report["warnings"], report["checks"]) == (0, 0, {})
    assert report["kept"] == 5 and report["seconds"] == pytest.approx(5)
    assert manifest.read(tmp_path / "fixed.jsonl") == manifest.read(tmp_path / "m.jsonl")


def loud(folder):
    return cut(folder, "bad", np.sign(wave()) * np.where(np.arange(SECOND) < 800, 1, 0.01))


def nan(folder):
    made = cut(folder, "bad")
    soundfile.write(folder / "sounds" / "bad.wav", np.full(SECOND, math.nan), SECOND, "FLOAT")
    return made


def integers(folder):
    made = cut(folder, "bad")
    soundfile.write(folder / "sounds" / "bad.wav", np.round(wave() * 32768), SECOND, "FLOAT")
    return made


def short_file(folder):
    made = cut(folder, "bad")
    path = folder / "sounds" / "bad.wav"
    path.write_bytes(path.read_bytes()[:9000])
    return made


def short_flac(folder):
    path = folder / "sounds" / "bad.flac"
    audio.write(path, wave(), SECOND)
    made = manifest.to_cut(manifest.describe(path, id="bad", text="some words"))
    path.write_bytes(path.read_bytes()[:9000])
    return made


def with_bytes(data):
    def make(folder):
        made = cut(folder, "bad")
        (folder / "sounds" / "bad.wav").write_bytes(data)
        return made

    return make


def gone(folder):
    made = cut(folder, "bad")
    (folder / "sounds" / "bad.wav").unlink()
    return made


def a_folder(folder):
    gone(folder)
    (folder / "sounds" / "bad.wav").mkdir()
    return gone_again(folder)


def gone_again(folder):
    return changed(cut(folder, "other"), "recording.sources.0.source", str(folder / "sounds"))


def lie(path, value):
    return lambda folder: changed(cut(folder, "bad"), path, value)


def known(**fields):
    return lambda folder: cut(folder, "bad", **fields)


BAD = {  # name -> (the check that names it, the line)
    "not json": ("line", lambda f: b"{oops"),
    "cut short": ("line", lambda f: json.dumps(cut(f, "bad")).encode()[:-20]),
    "latin1": ("line", lambda f: b'{"id": "caf\xe9"}'),
    "nul": ("line", lambda f: b"\x00\x00"),
    "deep": ("line", lambda f: b"[" * 90_000),
    "huge": ("line", lambda f: b'{"id": "' + b"a" * (9 * 2**20) + b'"}'),
    "surrogate": ("line", lie("id", "\ud800")),
    "list": ("line", lambda f: b"[1, 2]"),
    "null": ("line", lambda f: b"null"),
    "number": ("line", lambda f: b"3"),
    "empty object": ("line", lambda f: b"{}"),
    "no id": ("line", lie("id", None)),
    "no recording": ("line", lie("recording", None)),
    "no duration": ("line", lie("duration", None)),
    "recording text": ("line", lie("recording", "a.wav")),
    "no sources": ("line", lie("recording.sources", [])),
    "sources object": ("line", lie("recording.sources", {})),
    "rate zero": ("line", lie("recording.sampling_rate", 0)),
    "rate text": ("line", lie("recording.sampling_rate", "high")),
    "rate negative": ("line", lie("recording.sampling_rate", -16000)),
    "samples text": ("line", lie("recording.num_samples", "many")),
    "samples nan": ("line", lie("recording.num_samples", math.nan)),
    "samples infinite": ("line", lie("recording.num_samples", math.inf)),
    "start nan": ("line", lie("start", math.nan)),
    "duration infinite": ("line", lie("duration", math.inf)),
    "supervision text": ("line", lie("supervisions", ["words"])),
    "custom list": ("line", lie("custom", [1])),
    "states number": ("line", lie("custom", {"states": 3})),
    "missing": ("missing", gone),
    "moved away": ("missing", lie("recording.sources.0.source", "/no/such/file.wav")),
    "a folder": ("missing", a_folder),
    "part of nothing": ("missing", lie("recording.sources.0.source", "/no/such.tar#0,40")),
    "no bytes": ("unreadable", with_bytes(b"")),
    "text file": ("unreadable", with_bytes(b"hello there")),
    "html": ("unreadable", with_bytes(b"<html>404</html>")),
    "header only": ("unreadable", with_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt ")),
    "cut flac": ("unreadable", short_flac),
    "cut wav": ("length", short_file),
    "nan": ("not-finite", nan),
    "silence": ("silence", known(sound=np.zeros(SECOND))),
    "nearly silence": ("silence", known(sound=1e-4 * wave())),
    "clipping": ("clipping", loud),
    "rate lie": ("rate", lie("recording.sampling_rate", 24000)),
    "length lie": ("length", lie("recording.num_samples", 99_999)),
    "cut too long": ("length", lie("duration", 7.0)),
    "starts behind the end": ("length", lie("start", 5.0)),
    "starts before": ("length", lie("start", -0.5)),
    "negative duration": ("length", lie("duration", -1.0)),
    "no text": ("no-text", known(text="")),
    "text of marks": ("no-text", known(text=" ...")),
    "text too long": ("text-too-long", known(text="many words " * 20)),
    "chinese too long": ("text-too-long", known(text="我们今天去公园散步好吗因为天气很好")),
    "text too short": ("text-too-short", known(sound=wave(seconds=6), text="hi")),
    "too few states": ("states", known(states=(0, 1))),
    "too many states": ("states", known(states=(0,) * 9)),
    "a state too high": ("states", known(states=(0, 0, 0, 3, 1, 1))),
    "a state in words": ("states", lie("custom", {"states": ["talk"] * 6})),
    "too few tokens": ("tokens", known(speech_tokens=(1,) * 30, global_tokens=(1,))),
    "negative token": ("tokens", known(speech_tokens=(-1,) * 40, global_tokens=(1,))),
    "half a token": ("tokens", known(speech_tokens=(0.5,) * 40, global_tokens=(1,))),
    "no voice": ("tokens", known(speech_tokens=(1,) * 40)),
    "float at the scale of integers": ("scale", integers),
    "a transform": ("transforms", lie("recording.transforms", [{"name": "Speed"}])),
    "a channel that is not there": ("channel", lie("channel", 3)),
    "words of two": (
        "supervisions",
        lie(
            "supervisions",
            [
                {"id": "a", "speaker": "anna", "text": "one", "start": 0.0, "duration": 0.5},
                {"id": "b", "speaker": "bert", "text": "two", "start": 0.5, "duration": 0.5},
            ],
        ),
    ),
    "another recording": ("custom-recording", lie("custom", {"target": {"sources": []}})),
    "same id": ("same-id", lambda f: {**cut(f, "bad"), "id": "good0"}),
    "same audio": ("same-audio", lambda f: cut(f, "bad", wave(sum(b"good1")))),
}


@pytest.mark.parametrize("name", BAD)
def test_a_fault_is_named_and_the_cleaned_copy_is_without_it(tmp_path, name):
    kind, make = BAD[name]
    path = put(tmp_path, [*good(tmp_path), make(tmp_path), *good(tmp_path / "more", 0)])
    listed, fixed = tmp_path / "rejects.jsonl", tmp_path / "fixed.jsonl"
    report = run(path, how=ONE, fix=fixed, rejects=listed)
    assert list(report["checks"])[0] == kind, report["checks"]
    assert report["errors" if LEVELS[kind] == "error" else "warnings"] == 1
    rows = [json.loads(line) for line in listed.read_text().splitlines()]
    assert rows[0]["line"] == 4 and rows[0]["check"] == kind and rows[0]["id"]
    assert rows[0]["reason"].startswith(kind)
    again = run(fixed, how=ONE)
    assert again["errors"] == 0 and again["items"] == report["kept"] >= 3


def test_every_check_has_a_fault_that_shows_it():
    leaks = {"leak-id", "leak-audio", "leak-text"}
    assert {kind for kind, _ in BAD.values()} | leaks == set(LEVELS)


def test_lies_are_mended_from_the_file(tmp_path):
    lies = [lie("recording.sampling_rate", 24000), lie("recording.num_samples", 99_999)]
    for number, make in enumerate(lies):
        path = put(tmp_path, [make(tmp_path)])
        report = run(path, how=ONE, fix=tmp_path / "fixed.jsonl")
        assert report["errors"] == 1 and report["kept"] == 1, number
        (item,) = manifest.read(tmp_path / "fixed.jsonl")
        assert (item.rate, item.num_samples, item.duration) == (SECOND, SECOND, 1.0)


def test_leaks_between_manifests_are_found(tmp_path):
    train = [cut(tmp_path / "a", f"train{i}", text=f"these are the words {i}") for i in range(3)]
    test = [
        cut(tmp_path / "b", "train0", text="an id that is known"),
        cut(tmp_path / "b", "x", wave(sum(b"train1")), text="a sound that is known"),
        cut(tmp_path / "b", "y", text="These, are the WORDS 2!"),
        cut(tmp_path / "b", "z", text="thank you", sound=wave(99)),
    ]
    train.append(cut(tmp_path / "a", "t", text="Thank you."))
    paths = put(tmp_path, test, "test.jsonl"), put(tmp_path, train, "train.jsonl")
    report = run(paths[0], against=[paths[1]], how=ONE, rejects=tmp_path / "r.jsonl")
    found = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [(row["check"], row["id"]) for row in found] == [
        ("leak-id", "train0"),
        ("leak-audio", "train0"),  # made from its name: the same sound, too
        ("leak-audio", "x"),
        ("leak-text", "y"),
    ]
    assert report["errors"] == 3
    off = CheckConfig(ignore=("leak-text", "leak-audio"))
    assert run(paths[0], off, against=[paths[1]], how=ONE)["errors"] == 1


def test_workers_give_the_same_report(tmp_path):
    lines = [cut(tmp_path, f"n{i}") for i in range(40)]
    lines[7], lines[33] = b"{oops", changed(lines[33], "id", "n3")
    path = put(tmp_path, lines)
    one = run(path, how=ONE, fix=tmp_path / "1.jsonl")
    two = run(path, how=RunConfig(workers=2), fix=tmp_path / "2.jsonl")
    assert one == two and one["errors"] == 2
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def test_a_shorter_look_reads_only_headers(tmp_path):
    path = put(tmp_path, [known(sound=np.zeros(SECOND))(tmp_path), short_flac(tmp_path)])
    assert run(path, CheckConfig(decode=False, ignore=("same-id",)), how=ONE)["errors"] == 0
    assert run(path, how=ONE)["errors"] == 2


def test_what_cannot_be_validated_is_one_clear_error(tmp_path):
    path = put(tmp_path, good(tmp_path, 1))
    for call, fault, said in [
        (lambda: run(tmp_path / "none.jsonl"), DataError, "no manifest"),
        (lambda: run(put(tmp_path, [], "empty.jsonl")), DataError, "is empty"),
        (
            lambda: run(path, CheckConfig(ignore=("silense",))),
            ConfigError,
            "did you mean 'silence'",
        ),
        (lambda: run(path, against=[tmp_path / "no.jsonl"], how=ONE), DataError, "no manifest"),
        (
            lambda: run(put(tmp_path, [b"x"], "x.jsonl"), fix=tmp_path / "f.jsonl", how=ONE),
            DataError,
            "no item is without errors",
        ),
    ]:
        with pytest.raises(fault, match=said):
            call()
    assert not Path(tmp_path / "f.jsonl").exists()
