"""Sampling: limits, order, penalty."""

from __future__ import annotations

import pytest
import torch

from fo_core.errors import ConfigError
from fo_core.sampling import SamplingConfig, filter_logits, penalise, sample

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0]])


def test_top_p_keeps_the_token_that_crosses_it():
    """L10: probabilities .644, .237, .087, .032; the published program drops the crossing one."""
    for p, ours, official in ((0.5, 1, 1), (0.7, 2, 1), (0.9, 3, 2), (1.0, 4, 4), (0.0, 4, 4)):
        assert (filter_logits(LOGITS, SamplingConfig(top_p=p)) > 0).sum() == ours
        assert (filter_logits(LOGITS, SamplingConfig(top_p=p), "official") > 0).sum() == official
    half = torch.tensor([[0.5, 0.3, 0.2]]).log()
    assert torch.allclose(
        filter_logits(half, SamplingConfig(top_p=0.6)), torch.tensor([[0.625, 0.375, 0.0]])
    )


def test_temperature_0_is_greedy():
    """L9: it divided by zero."""
    assert filter_logits(LOGITS, SamplingConfig(temperature=0.0)).tolist() == [[1.0, 0.0, 0.0, 0.0]]
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        assert sample(LOGITS, SamplingConfig(0.0), generator).tolist() == [0]
        assert sample(LOGITS, SamplingConfig(0.0, 3, 0.9), generator).tolist() == [0]
    for wrong in ({"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SamplingConfig(**wrong)


def test_limits():
    assert torch.allclose(filter_logits(LOGITS, SamplingConfig()), LOGITS.softmax(-1))
    assert (filter_logits(LOGITS, SamplingConfig(top_k=2)) > 0).tolist() == [
        [True, True, False, False]
    ]
    assert (filter_logits(LOGITS, SamplingConfig(top_k=9)) > 0).all()
    assert filter_logits(LOGITS, SamplingConfig(top_p=0.01)).tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert torch.allclose(
        filter_logits(LOGITS, SamplingConfig(temperature=2.0)), (LOGITS / 2).softmax(-1)
    )


def test_sample_follows_the_distribution_and_the_generator():
    rows, how = LOGITS.expand(20000, -1), SamplingConfig(0.9, 3)
    drawn = sample(rows, how, torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    assert torch.allclose(share, filter_logits(LOGITS, how)[0], atol=0.02)
    again = sample(rows, how, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
    assert sample(LOGITS, SamplingConfig(top_k=1)).tolist() == [0]


def test_draws_are_those_of_multinomial():
    """Answers with a seed stay what they were, token by token."""
    for size in (1, 2, 50, 1028):
        for seed in range(20):
            logits = torch.randn(2, size, generator=torch.Generator().manual_seed(seed))
            ours, theirs = (torch.Generator().manual_seed(seed) for _ in range(2))
            probs, ids = logits.topk(size)
            drawn = torch.multinomial(probs.softmax(-1), 1, generator=theirs)
            assert torch.equal(sample(logits, SamplingConfig(), ours), ids.gather(-1, drawn)[:, 0])
            assert torch.equal(torch.rand(3, generator=ours), torch.rand(3, generator=theirs))


def test_penalty():
    recent = torch.tensor([[0, 0, 3, 4]])  # 4 = empty place
    ours = penalise(LOGITS, recent, 2.0)
    assert ours.tolist() == [[1.0, 1.0, 0.0, -2.0]]
    official = penalise(LOGITS, recent, 2.0, "official")
    assert official.tolist() == [[0.5, 1.0, 0.0, -0.5]]
    assert LOGITS.tolist() == [[2.0, 1.0, 0.0, -1.0]]
