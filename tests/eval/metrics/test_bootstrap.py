"""Intervals against what statistics says they are."""

import numpy as np
import pytest

from eval.metrics.bootstrap import difference, interval


def test_a_share_has_the_interval_of_a_share():
    hits = [1.0] * 60 + [0.0] * 140
    found = interval(hits, [1] * 200)
    error = 1.96 * np.sqrt(0.3 * 0.7 / 200)
    assert found.value == 0.3
    assert found.low == pytest.approx(0.3 - error, abs=0.01)
    assert found.high == pytest.approx(0.3 + error, abs=0.01)


def test_a_rate_is_a_ratio_of_sums_not_a_mean_of_rates():
    found = interval([1, 0], [1, 9])
    assert found.value == 0.1


def test_numerator_and_denominator_of_an_item_stay_together():
    words = np.arange(1, 50)
    found = interval(words / 2, words)  # every item has the rate 0.5: no spread at all
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    data = [0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1], [1, 2, 3] * 4
    assert interval(*data, seed=3) == interval(*data, seed=3) != interval(*data, seed=4)


def test_a_paired_difference_is_surer_than_two_intervals():
    rng = np.random.default_rng(0)
    hard = rng.random(300) < 0.5  # questions that nobody can answer
    a = np.where(hard, 0, 1).astype(float)
    b = a.copy()
    b[np.flatnonzero(a)[:15]] = 0  # the second run loses 15 of the others
    found = difference((a, np.ones(300)), (b, np.ones(300)))
    assert found.value == pytest.approx(-0.05)
    assert found.high < 0  # sure
    assert interval(b, np.ones(300)).high > interval(a, np.ones(300)).low  # these two overlap


def test_edges():
    assert interval([], []) is None and interval([1, 2], [0, 0]) is None
    assert interval([1], [2]).low is None  # one item says nothing about spread
    with pytest.raises(ValueError):
        interval([1], [1, 2])
    with pytest.raises(ValueError):
        difference(([1], [1]), ([1, 2], [1, 2]))


def test_memory_stays_small_for_many_items():
    found = interval(np.ones(50_000), np.ones(50_000) * 2, resamples=100)
    assert found.value == found.low == 0.5
