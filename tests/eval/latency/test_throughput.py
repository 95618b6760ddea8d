"""Throughput of a tiny stage: its products are counted exactly and timed alone."""

import json
import math

import tiny_models
import torch
from typer.testing import CliRunner

from eval.latency.throughput import _Products, _time, measure
from fo_cli.main import app
from fo_core.training.recipes import recipe


def test_products_are_recorded_with_their_shapes():
    one, two = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5)
    with _Products() as products:
        (one @ two).sum().backward()  # forward, and the gradient of one
        _ = one + 1
    assert sum(products.found.values()) == 2
    assert all(_time(key, one.device) > 0 for key in products.found)


def test_a_stage_is_measured_against_its_products(tmp_path):
    (train, _), (val, _) = (
        tiny_models.tiny_items(tmp_path, 12, 1),
        tiny_models.tiny_items(tmp_path, 2, 2),
    )
    cfg = recipe("input-1", "tiny", overrides=["stage.chunks=fixed"])
    found = measure(tiny_models.tiny_model(), cfg.stage.build(), cfg.train, train, val, steps=3)
    assert found.steps == 3 and found.audio_seconds_a_second > 0
    assert 0 < found.products_seconds and found.tflops > 0
    assert 0 <= found.padding < 1 and 0 <= found.data_share < 1


def test_one_step_is_timed_too(tmp_path):
    items, _ = tiny_models.tiny_items(tmp_path, 4, 1)
    cfg = recipe("input-1", "tiny", overrides=["stage.chunks=fixed"])
    found = measure(tiny_models.tiny_model(), cfg.stage.build(), cfg.train, items, items, steps=1)
    assert found.steps == 1 and 0 < found.seconds_a_step < math.inf


def test_the_share_of_the_peak_that_training_reaches():
    """`fo profile train`, at a small shape: noise and random weights, real steps of input-2."""
    args = ["profile", "train", "--size", "tiny", "--random", "--device", "cpu", "--steps", "2"]
    found = CliRunner().invoke(app, [*args, "--json"])
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["stage"] == "input-2" and told["steps"] == 2 and told["size"] == "tiny"
    reached = told["tflops"] / told["seconds_a_step"] / told["peak_tflops"]
    assert math.isclose(told["mfu"], reached) and told["mfu"] > 0
