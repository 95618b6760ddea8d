"""Throughput of a tiny stage: its products are counted exactly and timed alone."""

import tiny_models
import torch

from eval.latency.throughput import _Products, _time, measure
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
