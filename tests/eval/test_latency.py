"""The latency benchmark: every row is there and the legs add up. Nothing here depends on time."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from eval import latency_models
from eval.latency import LEGS, Report, footprint, measure, weight_bytes
from eval.latency_original import ORIGINAL
from eval.latency_table import as_dict, markdown
from fo_cli.main import app
from fo_core.layers.packed import PackedLinear

KEYS = [
    *("chunk_5", "chunk_20", "chunk_60", "chunk_ratio"),
    *(f"llm_{what}_{length}" for what in ("chunk", "token") for length in (30, 800, 2000)),
    *("listen", "prefill", "ar_10", "ar_210", "codec_30", "codec_50", "codec_60", "cut"),
    *("first_40", *(f"first_40_{leg}" for leg in LEGS)),
    *("first_20", *(f"first_20_{leg}" for leg in LEGS), "first_20_ahead"),
]


@pytest.fixture(scope="module")
def report() -> Report:
    threads = torch.get_num_threads()
    try:
        return measure(latency_models.random_model("tiny"), "tiny", repeat=2)
    finally:
        torch.set_num_threads(threads)


def test_every_row_is_there(report):
    assert [row.key for row in report.rows] == KEYS
    assert all(row.value > 0 for row in report.rows)
    for row in report.rows:
        no_weights = row.key in ("chunk_ratio", "cut", "first_20_ahead")
        assert (row.bound is None) == no_weights
        assert row.original is None  # nobody measured the original at this size
    for figures in ORIGINAL.values():
        assert set(figures) <= set(KEYS)


@pytest.mark.parametrize("total", ["first_40", "first_20"])
def test_the_legs_are_the_total(report, total):
    legs = [report[f"{total}_{leg}"] for leg in LEGS]
    assert sum(leg.value for leg in legs) == pytest.approx(report[total].value, rel=0.02)
    assert sum(leg.bound for leg in legs) == pytest.approx(report[total].bound)


def test_what_is_spoken_first_has_ten_tokens(monkeypatch):
    from eval import latency

    sizes = []

    class Watched(latency.Session):
        def reply(self, speak=True):
            try:
                yield from super().reply(speak)
            finally:
                sizes.append(self.turns[-1].parts[0].segment.stop)
                sizes.append(len(self.speaker.parts[0].tokens))

    monkeypatch.setattr(latency, "Session", Watched)
    model = latency_models.random_model("tiny")
    bench = latency.Bench(
        model, Report("tiny", "same", 1, 1, bandwidth=1e9), footprint(model, "same")
    )
    for first, ahead in ((20, False), (40, False), (20, True)):
        bench._answer(first, ahead, [])
    assert sizes == [10, 30, 10, 50, 10, 30]


def test_tables(report):
    lines = markdown([report]).splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 1 + len(KEYS)
    assert len({line.count("|") for line in rows}) == 1
    found = json.loads(json.dumps(as_dict(report)))
    assert {"size", "weights", "threads", "repeat", "bandwidth_gb_s", "rows"} <= set(found)
    assert set(found["rows"][0]) == {"key", "label", "value", "unit", "bound", "original", "faster"}


def test_sizes_are_those_that_the_original_was_measured_at():
    small, paper = (latency_models.SIZES[name] for name in ("small", "paper"))
    assert small.parts["speech_encoder"].items() >= {"dim": 512, "heads": 8, "layers": 12}.items()
    assert paper.parts["speech_encoder"].items() >= {"dim": 1024, "heads": 16, "layers": 24}.items()
    assert (small.vocab, small.llm, paper.adapter_width) == (16384, paper.llm, 3584)


def test_bytes_that_are_read():
    linear = torch.nn.Linear(256, 128)
    assert weight_bytes(linear) == 4 * (256 * 128 + 128)
    assert weight_bytes(linear, "int8") == 256 * 128 + 4 * 128
    assert weight_bytes(None) == 0
    assert PackedLinear(linear, weights="int8")(torch.ones(1, 256)).shape == (1, 128)


def test_the_command():
    run = CliRunner().invoke
    found = run(app, ["profile", "latency", "--size", "tiny", "--repeat", "1", "--json"])
    assert found.exit_code == 0, found.output
    reports = json.loads(found.stdout)["reports"]
    assert [row["key"] for row in reports[0]["rows"]] == KEYS


@pytest.mark.parametrize(
    "args", [[], ["--size", "smal"], ["--size", "tiny", "--model", "x"], ["--model", "nowhere"]]
)
def test_what_cannot_be_measured(args):
    found = CliRunner().invoke(app, ["profile", "latency", *args])
    assert found.exit_code == 1 or found.exception
