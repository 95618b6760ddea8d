"""Running statistics of a step of several batches."""

import pytest
import torch
from torch import nn

from fo_core.training.distributed import DistributedContext
from fo_core.training.run_config import TrainConfig
from fo_core.training.stepper import RunningState


@pytest.fixture
def team():
    return DistributedContext(TrainConfig(max_steps=1, device="cpu"))


def test_batch_norm_moves_once_a_step_by_the_mean_of_its_batches(team):
    torch.manual_seed(0)
    norm, frozen = nn.BatchNorm1d(3).train(), nn.BatchNorm1d(3).eval()
    model = nn.ModuleList([norm, frozen])
    first, second = 2 + torch.randn(8, 3), torch.randn(8, 3) - 2
    running = RunningState(model, team, batches=2)
    for step in range(2):
        running.begin()
        for batch in (first, second):
            (norm(batch) + frozen(batch)).sum().backward()
            running.take()
        running.end(0, step)
    mean = (first.mean(0) + second.mean(0)) / 2
    var = (first.var(0) + second.var(0)) / 2
    torch.testing.assert_close(norm.running_mean, 0.19 * mean)  # 0.1, then 0.1 of what is left
    torch.testing.assert_close(norm.running_var, 0.81 + 0.19 * var)
    assert int(norm.num_batches_tracked) == 2
    assert not frozen.running_mean.any() and int(frozen.num_batches_tracked) == 0


def test_a_step_of_one_batch_is_left_to_pytorch(team):
    norm = nn.BatchNorm1d(3).train()
    running = RunningState(norm, team, batches=1)
    running.begin()
    norm(batch := torch.randn(8, 3))
    running.take()
    running.end(0)
    torch.testing.assert_close(norm.running_mean, 0.1 * batch.mean(0))
