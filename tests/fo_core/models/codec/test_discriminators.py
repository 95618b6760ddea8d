"""Discriminators of any mix and size."""

from __future__ import annotations

import pytest
import torch

from fo_core.errors import ConfigError
from fo_core.models.codec.discriminators import Discriminators, DiscriminatorsConfig


def test_scores_and_features_of_every_kind():
    cfg = DiscriminatorsConfig(
        periods=[2, 5], period_width=2, scales=2, scale_width=16, windows=[256], window_width=4
    )
    scores, features = Discriminators(cfg)(torch.randn(3, 2399))
    assert len(scores) == len(features) == 5
    assert all(score.shape[0] == 3 and score.dim() == 2 for score in scores)
    assert [len(inner) for inner in features] == [5, 5, 4, 7, 7]


def test_default_is_the_papers_pair():
    cfg = DiscriminatorsConfig()
    assert cfg.periods == [2, 3, 5, 7, 11] and cfg.scales == 3 and not cfg.windows


def test_none_at_all_is_an_error():
    with pytest.raises(ConfigError, match="no discriminators"):
        DiscriminatorsConfig(periods=[], scales=0)
