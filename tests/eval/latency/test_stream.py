"""The latency benchmark: every row is there and the legs add up. Nothing here depends on time."""

from __future__ import annotations

import gc
import json
from dataclasses import replace

import pytest
import tiny_models
import torch
from pretended_device import DEVICE, PretendedDevice
from typer.testing import CliRunner

from eval.latency import models
from eval.latency import talk as latency_talk
from eval.latency.bounds import Cost, codec_flops, footprint, weight_bytes
from eval.latency.legs import FOUR, Legs, measure_legs, spread
from eval.latency.original import MACHINE, ORIGINAL, original
from eval.latency.stream import Bench, Report, measure
from eval.latency.table import HEAD, LEGS_HEAD, as_dict, cells, leg_cells, legs_dict, markdown
from eval.latency.talk import LEGS, dialogue, noise, talk
from eval.latency.trace import LANES, chrome_trace, write_timeline
from fo_cli.main import app
from fo_core.errors import FoError
from fo_core.layers.packed import SMALLEST, PackedLinear
from fo_core.models.static_shapes import ROWS

KEYS = [
    *("chunk_5", "chunk_20", "chunk_60", "chunk_ratio", "listen_ratio", "listen"),
    *(f"llm_{what}_{length}" for what in ("chunk", "token") for length in (30, 800, 2000)),
    *("prefill", "ar_10", "ar_210", "codec_30", "codec_50", "codec_60", "cut"),
    *("first_40", *(f"first_40_{leg}" for leg in LEGS)),
    *("first_20", *(f"first_20_{leg}" for leg in LEGS)),
]


@pytest.fixture(scope="module")
def report() -> Report:
    threads = torch.get_num_threads()
    try:
        return measure(models.random_model("tiny"), "tiny", repeat=1)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def legs(report) -> Legs:
    return measure_legs(models.random_model("tiny"), runs=3, seed=5, bounds=report.leg_bounds)


def test_it_measures_on_a_device(monkeypatch):
    """Nothing mixes devices, and each time waits for the device; the threads' part left out."""
    waits: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    monkeypatch.setattr("eval.latency.stream.peak", lambda *args, **kwargs: 1.0)
    monkeypatch.setattr(Bench, "first_audio", lambda bench: None)
    rows: list[int] = []
    monkeypatch.setattr("eval.latency.stream.use_static_steps", lambda model, n: rows.append(n))
    with PretendedDevice():
        found = measure(models.random_model("tiny").to("cuda"), "tiny", repeat=1)
    assert {row.key for row in found.rows} == {
        k for k in KEYS if k[:5] not in ("first", "liste")
    } | {"listen_ratio"}
    assert rows == [ROWS]  # by default, on such a device
    assert len(waits) > 2 * len(found.growth) and set(waits) == {DEVICE}


def test_every_row_is_there(report):
    assert [row.key for row in report.rows] == KEYS
    assert all(row.value > 0 for row in report.rows)
    assert len(report.growth) > 60 / 0.16  # every chunk of a minute of talk
    for row in report.rows:
        no_weights = row.key in ("chunk_ratio", "listen_ratio", "cut")
        assert (row.bound is None) == no_weights == (row.reached is None)
        assert row.original is None  # nobody measured the original at this size
    for figures in ORIGINAL.values():
        assert set(figures) <= set(KEYS)


@pytest.mark.parametrize("total", ["first_40", "first_20"])
def test_the_legs_are_the_total(report, total):
    legs = [report[f"{total}_{leg}"] for leg in LEGS]
    assert sum(leg.value for leg in legs) == pytest.approx(report[total].value, rel=0.02)
    assert sum(leg.bound for leg in legs) == pytest.approx(report[total].bound)


def test_the_four_legs_are_the_total(legs):
    """Each leg from the engine's own stamps; nothing between them is lost, in no talk."""
    assert legs["total"].mean == pytest.approx(sum(legs[key].mean for key in FOUR), rel=1e-6)
    for one in legs.talks:
        assert sum(one.legs.values()) == pytest.approx(one.total)
        spans = [s for s in one.spans if s.name in LEGS.values()]
        assert len(spans) == len(LEGS) - 1  # all but the last chunk, which has its own name
        last = [s for s in one.spans if s.lane == "ear"][-1]
        chain = [last, *spans]
        for before, after in zip(chain, chain[1:], strict=False):
            assert after.start >= before.end - 1e-9
        heard = [s for s in one.spans if s.lane == "playback"]
        assert one.total == pytest.approx(1000 * (heard[0].start - last.start))
        assert one.wall >= one.total  # the caller's clock stops last
        assert one.audio == pytest.approx(4.0)
    assert 0.5 < legs.covered <= 1
    assert legs["heard"].mean > legs["total"].mean
    assert len(legs.talks) == 3 and legs.memory["user"] > 0
    assert [round(leg.paper[0]) for leg in legs.legs] == [478, 15, 237, 11, 745, 0]


def test_each_leg_has_its_bound(report, legs):
    """The four and the last chunk's are the whole; the steps' rows say the same."""
    assert sum(legs[key].bound for key in FOUR) == pytest.approx(legs["total"].bound)
    assert legs["heard"].bound == pytest.approx(report["first_40"].bound)
    assert legs["speech"].bound == pytest.approx(report["first_40_speak"].bound)
    assert report["ar_10"].reached == report["ar_10"].value / report["ar_10"].bound
    assert report["listen"].reached == report["listen"].bound / report["listen"].value
    cells = leg_cells(legs["speech"])
    assert cells[6] == f"{legs['speech'].bound / legs['speech'].p50:.0%}"
    assert len(cells) == len(LEGS_HEAD)


def test_percentiles():
    leg = spread("x", "x", [float(i) for i in range(101)])
    assert (leg.mean, leg.p50, leg.p90, leg.p99) == (50, 50, 90, 99)


def test_seeds_give_the_same_talk():
    model = models.random_model("tiny")
    one, same, other = (
        talk(model, noise(seed), dialogue(20, seed=seed, tokens=60), whole=True)
        for seed in (3, 3, 4)
    )
    assert torch.equal(noise(3), noise(3)) and not torch.equal(noise(3), noise(4))
    assert [s.name for s in one.spans] == [s.name for s in same.spans]
    assert one.audio == same.audio == other.audio == 60 * 600 / 24000
    assert one.state_bytes == same.state_bytes > 0


def test_trace(legs, tmp_path):
    found = json.loads(json.dumps(chrome_trace(legs.talks[0])))["traceEvents"]
    work = [event for event in found if event["ph"] == "X"]
    assert {event["cat"] for event in work} == set(LANES)
    assert min(event["ts"] for event in work) == 0 and all(e["dur"] >= 0 for e in work)
    write_timeline(tmp_path / "x.png", legs.talks[0], "tiny")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_spoken_first_has_ten_tokens(monkeypatch):
    sizes = []

    class Watched(latency_talk.Duplex):
        def run(self, steps=None):
            try:
                yield from super().run(steps)
            finally:
                reply = self.engine.reply
                if reply is not None:
                    sizes.append(reply.turn.pieces[0].stop)
                    sizes.append(len(reply.speaker.parts[0].tokens))

    monkeypatch.setattr(latency_talk, "Duplex", Watched)
    model = models.random_model("tiny")
    for first in (20, 40):
        talk(model, noise(), dialogue(first))
        gc.collect()
    assert sizes == [10, 30, 10, 50]


def test_tables(report, legs):
    used = {"bf16": "oneDNN bf16 (avx512_core_amx)"}
    assert MACHINE not in markdown([report], [legs], used)
    assert MACHINE in markdown([report], [legs], used, against=True)
    lines = markdown([report], [legs], used).splitlines()
    assert lines[2].endswith("bf16: oneDNN bf16 (avx512_core_amx).")
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 1 + len(KEYS) + 1 + len(FOUR) + 2
    assert len({line.count("|") for line in rows}) == 2
    small = replace(report["listen"], original=original("small", "listen", 1), value=59.0)
    assert cells(small, against=True)[-2:] == ("118", "2.0") and len(cells(small)) == len(HEAD)
    four = json.loads(json.dumps(legs_dict(legs)))
    assert set(four["legs"]) == {*FOUR, "total", "heard"} and len(four["talks"]) == 3
    found = json.loads(json.dumps(as_dict(report)))
    assert {"size", "weights", "threads", "repeat", "bandwidth_gb_s", "rows"} <= set(found)
    assert set(found["rows"][0]) == {
        *("key", "label", "value", "unit", "bound", "reached", "original", "faster")
    }


def test_sizes_are_those_that_the_original_was_measured_at():
    small, paper = (models.SIZES[name] for name in ("small", "paper"))
    assert small.parts["speech_encoder"].items() >= {"dim": 512, "heads": 8, "layers": 12}.items()
    assert paper.parts["speech_encoder"].items() >= {"dim": 1024, "heads": 16, "layers": 24}.items()
    assert (small.vocab, small.llm, paper.adapter_width) == (16384, paper.llm, 3584)


def test_bytes_that_are_read():
    linear = torch.nn.Linear(256, 128)
    assert weight_bytes(linear) == 4 * (256 * 128 + 128)
    assert weight_bytes(linear, "int8") == 256 * 128 + 4 * 128
    assert weight_bytes(None) == 0
    assert PackedLinear(linear, weights="int8")(torch.ones(1, 256)).shape == (1, 128)


def test_what_bounds_a_step():
    cost = Cost(reads=100, flops=50)
    assert cost.seconds(bandwidth=10, peak=1000) == 10
    assert cost.seconds(bandwidth=10, peak=1) == 50
    assert cost.rows(40).seconds(bandwidth=10, peak=1000) == 10
    assert cost.rows(400).seconds(bandwidth=10, peak=1000) == 20
    model = models.random_model("tiny")
    reads = footprint(model, "same")
    attention, ffn = 2 * 64 * 64 + 2 * 64 * 32, 3 * 64 * 96
    assert reads.llm.flops == 2 * 2 * (attention + ffn)  # operations, layers
    assert reads.llm_position == 2 * 2 * 32 * 4  # keys and values, layers, width, bytes
    assert reads.after(10).reads == reads.llm.reads + 10 * reads.llm_position
    halves = footprint(model, "fp16", [7])
    assert reads.head == Cost(512 * 64 * 4, 2 * 512 * 64)
    assert halves.head.reads == reads.head.reads / (2 if 512 * 64 >= SMALLEST else 1)
    assert {(17, 7), (50, 40)} < set(halves.codec)
    all_kept, some_kept = (codec_flops(model, 50, keep) for keep in ((0, 50), (0, 20)))
    assert 0.4 * all_kept < some_kept < 0.95 * all_kept  # what nobody hears is not computed


def test_a_random_shape_with_everything():
    """What is to be run on a GPU, at a small shape: legs, steps, users at a time, static steps."""
    args = ["--size", "tiny", "--random", "--static", "--repeat", "1", "--runs", "1"]
    found = CliRunner().invoke(app, ["profile", "latency", *args, "--json"])
    assert found.exit_code == 0, found.output
    (report,) = json.loads(found.stdout)["reports"]
    assert [row["key"] for row in report["rows"]] == KEYS
    assert [one["sessions"] for one in report["sessions"]] == [1, 8, 32]
    assert all(
        one[what] > 0 for one in report["sessions"] for what in ("listen", "token", "speech")
    )
    args = ["--model", "tiny", "--no-steps", "--repeat", "1", "--runs", "1", "--sessions", "2"]
    told = CliRunner().invoke(app, ["profile", "latency", *args]).stdout
    assert "times real time" in told and "text tokens/s" in told


def test_what_has_no_room_is_refused_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(models, "free_memory", lambda device: 8_000_000_000)
    with pytest.raises(FoError, match="paper-7b: its LLM takes 15.2 GB in bfloat16, and 8.0 GB"):
        models.check_memory("paper-7b", "cpu", torch.bfloat16)
    models.check_memory("small", "cpu", torch.float32)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    args = ["profile", "latency", "--size", "paper", "--random"]
    nothing = CliRunner().invoke(app, [*args, "--device", "cuda"])
    assert nothing.exit_code == 1
    assert "no device 'cuda' here; possible: auto, cpu" in nothing.output
    full = CliRunner().invoke(app, [*args, "--device", "cpu"])
    assert full.exit_code == 1 and "30.5 GB in float32" in full.output


def test_a_model_that_wants_words_hears_a_question():
    """Noise is no turn to it; and its answer may end before its tenth token."""
    found = CliRunner().invoke(
        app, ["profile", "latency", "--no-steps", "--runs", "1", "--warmup", "0", "--json"]
    )
    assert found.exit_code == 0, found.output
    (report,) = json.loads(found.stdout)["reports"]
    legs = report["four_legs"]["legs"]
    whole = sum(report["leg_bounds"][part] for part in FOUR["text"][1])
    assert 0 < legs["text"]["bound"] <= whole


def test_a_decoder_that_reads_letters_is_timed():
    """The default of `fo profile latency`, fo-smol's kind, was given vectors: an AttributeError."""
    shape = {"type": "durations", "dim": 16, "heads": 2, "ffn": 16, "layers": 1}
    model = tiny_models.tiny_model(speech_decoder=shape)
    bench = Bench(model, Report("tiny", "same", 1, 1, 1e9, 1e9), footprint(model, "same", [40]))
    with torch.inference_mode():
        bench.decoder()
    found = {key: (label, value) for key, label, value, *_ in bench.found}
    assert "letters" in found["prefill"][0] and found["ar_10"][1] > 0 and found["ar_210"][1] > 0


def test_the_command(tmp_path):
    run = CliRunner().invoke
    args = ["--model", "tiny", "--no-steps", "--runs", "2", "--weights", "fp16"]
    files = ["--trace", str(tmp_path / "t.json"), "--timeline", str(tmp_path / "t.png")]
    found = run(app, ["profile", "latency", *args, *files, "--json"])
    assert found.exit_code == 0, found.output
    (report,) = json.loads(found.stdout)["reports"]
    assert report["rows"] == [] and report["four_legs"]["runs"] == 2
    assert all(leg["bound"] > 0 for leg in report["four_legs"]["legs"].values())
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert (tmp_path / "t.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("option", "name", "possible"), [("--timeline", "x.txt", ".png"), ("--trace", "x.png", ".json")]
)
def test_a_file_of_another_kind_is_refused(option, name, possible, tmp_path):
    """A PNG was written under any name."""
    args = ["profile", "latency", "--model", "tiny", option, str(tmp_path / name)]
    found = CliRunner().invoke(app, args)
    assert found.exit_code == 1 and f"{name}: it is of another kind" in found.output
    assert f"possible: {possible}" in found.output and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "args",
    [
        ["--size", "tiny"],
        ["--random"],
        ["--size", "tiny", "--random", "--model", "tiny"],
        ["--model", "smal"],
        ["--model", "tiny", "--model", "x"],
        ["--model", "nowhere"],
        ["--model", "."],
        ["--model", "tiny", "--original", "."],
        ["--model", "tiny", "--against", "original", "--original", "."],
        ["--model", "tiny", "--trace", "/dev/null/x.json"],
    ],
)
def test_what_cannot_be_measured(args):
    found = CliRunner().invoke(app, ["profile", "latency", *args])
    assert found.exit_code == 1 or found.exception
