import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile

from data_prep.runner.run import RunConfig
from data_prep.steps.shard import ShardConfig, run
from fo_core.data import manifest
from fo_core.data.dataset import make_loader
from fo_core.data.manifest import Item
from fo_core.data.shards import is_shards, open_items
from fo_core.errors import DataError
from fo_core.io import audio

ONE = RunConfig(workers=1)


def made(folder, count=7):
    """A manifest of sounds of several forms; returns its path and the items."""
    rng, items = np.random.default_rng(0), []
    for i in range(count):
        path = folder / "sounds" / f"{i}{'.flac' if i % 2 else '.wav'}"
        audio.write(path, 0.3 * rng.standard_normal(8000 + 160 * i), 16000)
        items.append(manifest.describe(path, id=f"item-{i}", text=f"words {i}", states=(0, 1, 1),
                                       extra={"split": "train"}))  # fmt: skip
    stereo = folder / "sounds" / "stereo.wav"
    soundfile.write(stereo, 0.2 * rng.standard_normal((16000, 2)), 8000)
    items.append(Item("part", str(stereo), 8000, 16000, "a part", start=0.5, seconds=0.75))
    manifest.write(folder / "m.jsonl", items)
    return folder / "m.jsonl", items


def test_items_and_sounds_are_the_same_after_sharding(tmp_path):
    source, items = made(tmp_path)
    report = run(ShardConfig(3), source, tmp_path / "out", ONE)
    assert report["made"] == 8 and report["shards"] == 3 and not report["rejected"]
    shutil.rmtree(tmp_path / "sounds")
    found = list(manifest.read_lines(tmp_path / "out"))
    assert [i.id for i in found] == [i.id for i in items]
    assert found[2].states == (0, 1, 1) and found[2].extra == {"split": "train"}
    made_again = tmp_path / "again"
    _, before = made(made_again)
    for old, new in zip(before[:-1], found[:-1], strict=True):
        assert np.array_equal(old.load_audio(16000), new.load_audio(16000))
    left = soundfile.read(made_again / "sounds" / "stereo.wav", dtype="float32")[0][4000:10000, 0]
    assert np.array_equal(found[-1].load_audio(8000), left)


def test_codec_tokens_are_of_the_part_and_channel_not_of_the_file(tmp_path):
    import torch

    from data_prep.steps.encode_speech import encode_items

    class Loudness:
        sample_rate, hop = 16000, 400

        def encode(self, wave):
            frames = wave.reshape(len(wave), -1, self.hop).mean(-1)
            return (frames * 1000).round().long()[..., None], torch.zeros(len(wave), 1, 1).long()

    rising = np.repeat([0.1, 0.2], 8000)
    soundfile.write(tmp_path / "a.wav", np.stack([rising, -rising], axis=1), 16000)
    whole = manifest.describe(tmp_path / "a.wav", id="a")
    parts = [replace(whole, start=s, seconds=0.5, channel=c) for s in (0, 0.5) for c in (0, 1)]
    found = [item.speech_tokens[0] for item in encode_items(parts, Loudness())]
    assert found == [100, -100, 200, -200]


def test_lhotse_reads_our_shards(tmp_path):
    lhotse = pytest.importorskip("lhotse")
    source, items = made(tmp_path)
    run(ShardConfig(3), source, tmp_path / "out", ONE)
    cuts = list(lhotse.CutSet.from_shar(in_dir=tmp_path / "out" / "shar"))
    assert [c.id for c in cuts] == [i.id for i in items]
    assert cuts[1].supervisions[0].text == "words 1"
    for cut, item in zip(cuts[:-1], items, strict=False):
        assert np.array_equal(audio.to_int16(cut.load_audio()[0]),
                              audio.to_int16(item.load_audio(16000)))  # fmt: skip


def test_we_read_shards_that_lhotse_wrote(tmp_path):
    lhotse = pytest.importorskip("lhotse")
    source, items = made(tmp_path)
    cuts = lhotse.CutSet.from_jsonl(source)
    (tmp_path / "theirs").mkdir()
    cuts.to_shar(tmp_path / "theirs", fields={"recording": "wav"}, shard_size=3)
    found = manifest.read(tmp_path / "theirs")
    assert [i.id for i in found] == [i.id for i in items]
    assert found[-1].duration == pytest.approx(0.75)
    assert np.allclose(found[1].load_audio(16000), items[1].load_audio(16000), atol=1e-4)


def test_training_loads_from_shards(tmp_path):
    source, _ = made(tmp_path)
    run(ShardConfig(3), source, tmp_path / "out", ONE)
    loader = make_loader(manifest.read(tmp_path / "out"), "speech", batch_size=4)
    names = [item.id for batch in loader for item in batch["items"]]
    assert len(names) == 8 and not loader.rejects


def test_shards_at_a_url(tmp_path):
    source, items = made(tmp_path)
    run(ShardConfig(3), source, tmp_path / "out", ONE)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "out")
    handler.log_message = lambda *args: None
    SimpleHTTPRequestHandler.log_message = lambda *args: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        found = manifest.read(url)
        assert is_shards(url) and [i.id for i in found] == [i.id for i in items]
        assert np.array_equal(found[3].load_audio(16000), items[3].load_audio(16000))
        with pytest.raises(DataError, match="404"):
            manifest.read(f"{url}/none")
        server.shutdown()


def test_a_stopped_run_goes_on_and_gives_the_same_bytes(tmp_path):
    source, _ = made(tmp_path)
    run(ShardConfig(2), source, tmp_path / "whole", ONE)
    run(ShardConfig(2), source, tmp_path / "cut", ONE)
    for gone in ("shar/recording.000001.tar", ".shards/000001.json", "shards.json"):
        (tmp_path / "cut" / gone).unlink()
    (tmp_path / "cut" / "shar" / ".recording.x.tar").write_bytes(b"left by a kill")
    kept = (tmp_path / "cut" / "shar" / "recording.000000.tar").stat().st_mtime_ns
    run(ShardConfig(2), source, tmp_path / "cut", RunConfig(workers=2))
    for path in sorted((tmp_path / "whole" / "shar").iterdir()):
        assert path.read_bytes() == (tmp_path / "cut" / "shar" / path.name).read_bytes()
    assert len(list((tmp_path / "cut" / "shar").iterdir())) == 8
    assert (tmp_path / "cut" / "shar" / "recording.000000.tar").stat().st_mtime_ns == kept
    with pytest.raises(DataError, match="another manifest or size"):
        run(ShardConfig(3), source, tmp_path / "cut", ONE)


def cut_of(path, **changes):
    return {**manifest.to_cut(manifest.describe(path, id="x", text="a")), **changes}


BAD = {
    "not json": lambda f: b"{oops",
    "not utf8": lambda f: b'{"id": "\xff"}',
    "a list": lambda f: b"[1]",
    "null": lambda f: b"null",
    "deep": lambda f: b"[" * 90_000,
    "huge": lambda f: b'{"id": "' + b"a" * (9 * 2**20) + b'"}',
    "no recording": lambda f: json.dumps({"id": "x"}).encode(),
    "no sources": lambda f: json.dumps(cut_of(f, recording={"sources": []})).encode(),
    "id of another": lambda f: json.dumps(cut_of(f, id="item-0")).encode(),
    "id outside": lambda f: json.dumps(cut_of(f, id="../../evil")).encode(),
    "id absolute": lambda f: json.dumps(cut_of(f, id="/evil")).encode(),
    "id empty": lambda f: json.dumps(cut_of(f, id="")).encode(),
    "start beyond": lambda f: json.dumps(cut_of(f, start=99.0)).encode(),
    "duration text": lambda f: json.dumps(cut_of(f, duration="long")).encode(),
    "channel text": lambda f: json.dumps(cut_of(f, channel="left")).encode(),
    "custom list": lambda f: json.dumps(cut_of(f, custom=[1])).encode(),
}
SOUNDS = {
    "missing": None,
    "empty": b"",
    "text": b"hello",
    "header only": b"RIFF\x24\x00\x00\x00WAVEfmt ",
    "html": b"<html></html>",
}


@pytest.mark.parametrize("name", [*BAD, *SOUNDS])
def test_a_bad_item_is_listed_and_the_rest_is_sharded(tmp_path, name):
    source, _ = made(tmp_path, 2)
    sound = tmp_path / "sounds" / "0.wav"
    if name in BAD:
        line = BAD[name](sound)
    else:
        line = json.dumps(cut_of(sound)).replace("0.wav", "bad.wav").encode()
        if SOUNDS[name] is not None:
            (tmp_path / "sounds" / "bad.wav").write_bytes(SOUNDS[name])
    source.write_bytes(source.read_bytes() + line + b"\n")
    report = run(ShardConfig(10), source, tmp_path / "out", ONE)
    assert report["made"] == 3 and sum(report["rejected"].values()) == 1
    (row,) = map(json.loads, (tmp_path / "out" / "rejects.jsonl").read_text().splitlines())
    assert row["line"] == 4 and row["reason"] and row["id"]
    assert len(manifest.read(tmp_path / "out")) == 3


def test_damaged_shards_are_one_clear_error(tmp_path):
    source, _ = made(tmp_path)
    run(ShardConfig(4), source, tmp_path / "out", ONE)
    shar = tmp_path / "out" / "shar"
    tar = shar / "recording.000001.tar"
    tar.write_bytes(tar.read_bytes()[:2000])
    *_, last = open_items(tmp_path / "out")
    with pytest.raises(audio.AudioError, match="cut short"):
        last.load_audio(16000)
    cuts = shar / "cuts.000001.jsonl.gz"
    whole = cuts.read_bytes()
    for data in (whole[:60], b"no gzip", gzip.compress(b"{oops\n"), gzip.compress(b"[1]\n")):
        cuts.write_bytes(data)
        with pytest.raises(DataError, match="cuts.000001|not a cut"):
            list(open_items(tmp_path / "out"))
    (tmp_path / "out" / "shards.json").write_text("{}")
    with pytest.raises(DataError, match="not an index"):
        list(open_items(tmp_path / "out"))
    tar.unlink()
    with pytest.raises(DataError, match="has no recording.000001.tar"):
        list(open_items(shar))
    with tarfile.open(tar, "w"):
        pass
    cuts.write_bytes(gzip.compress(gzip.decompress(whole).replace(b'"part"', b'"other"')))
    with pytest.raises(DataError, match="has no sound for"):
        list(open_items(shar))


@pytest.mark.slow
def test_killed_at_any_point_it_ends_the_same(tmp_path):
    source, _ = made(tmp_path, 60)
    run(ShardConfig(2), source, tmp_path / "whole", ONE)
    command = [sys.executable, "-c", "from fo_cli.main import app; app()", "prepare-data", "shard",
               str(source), "--out", str(tmp_path / "cut"), "--shard-size", "2"]  # fmt: skip
    whole = len(list((tmp_path / "whole" / "shar").iterdir()))
    for stop in (1, 7, 15, 30, 44):
        process = subprocess.Popen(command, start_new_session=True)
        shar = tmp_path / "cut" / "shar"
        while process.poll() is None and (not shar.is_dir() or len(list(shar.iterdir())) < stop):
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert len(list(shar.iterdir())) <= whole
    subprocess.run(command, check=True)
    for path in sorted((tmp_path / "whole" / "shar").iterdir()):
        assert path.read_bytes() == (tmp_path / "cut" / "shar" / path.name).read_bytes()
    assert len(list((tmp_path / "cut" / "shar").iterdir())) == whole
    for name in ("shards.json", "rejects.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
