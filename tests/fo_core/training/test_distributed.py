"""The processes that train together, and what they compute in."""

import pytest

from fo_core.training import distributed
from fo_core.training.run_config import TrainConfig


@pytest.mark.parametrize(
    ("asked", "there", "used"),
    [("bf16", True, "bf16"), ("bf16", False, "fp32"), ("fp32", False, "fp32")],
)
def test_a_cpu_trains_in_what_it_can_multiply(monkeypatch, asked, there, used):
    monkeypatch.setattr(distributed, "native_matmul", lambda dtype, device="cpu": there)
    cfg = TrainConfig(max_steps=1, device="cpu", precision=asked)
    assert distributed.precision(cfg) == used
    found = distributed.DistributedContext(cfg).accelerator.mixed_precision
    assert found == ("no" if used == "fp32" else used)
