"""Optimisers: a part's own share of the learning rate, and parts that stand still at first."""

import pytest
import torch
from torch import nn

from fo_core.errors import StageError
from fo_core.training.optim import OptimConfig, make_optimizer, set_rate


def parts() -> dict[str, nn.Parameter]:
    return {
        "encoder.weight": nn.Parameter(torch.ones(2, 2)),
        "head.bias": nn.Parameter(torch.ones(2)),
    }


def test_a_held_part_moves_only_from_its_step_on() -> None:
    parameters = parts()
    cfg = OptimConfig(lr=0.1, freeze_steps={"encoder.*": 2}, scale={"encoder.*": 0.5})
    optimizer = make_optimizer(parameters, cfg)
    moved = []
    for step in range(4):
        before = parameters["encoder.weight"].detach().clone()
        for parameter in parameters.values():
            parameter.grad = torch.ones_like(parameter)
        set_rate(optimizer, cfg.lr, step)
        optimizer.step()
        moved.append(not torch.equal(before, parameters["encoder.weight"]))
    assert moved == [False, False, True, True]
    assert bool((parameters["head.bias"] < 0.7).all())
    assert {group["lr"] for group in optimizer.param_groups} == {0.05, 0.1}


@pytest.mark.parametrize("key", ["freeze_steps", "scale"])
def test_a_glob_that_matches_nothing_is_named(key: str) -> None:
    with pytest.raises(StageError, match=r"'decoder\.\*' matches no trained parameter"):
        make_optimizer(parts(), OptimConfig(**{key: {"decoder.*": 1}}))
