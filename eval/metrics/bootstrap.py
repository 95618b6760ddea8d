"""How sure a score is: percentile bootstrap over items, for shares, error rates and ratios alike.

Every score here is a sum over items divided by another one (right answers by questions, errors by
words, right spoken answers by right written ones), so one function serves all. Items are drawn with
replacement; numerator and denominator of an item stay together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
BLOCK = 4_000_000  # drawn indices at a time, so that memory stays small


@dataclass(frozen=True)
class Interval:
    """A score and where it lies with 95 % confidence; low and high are None for one item."""

    value: float
    low: float | None
    high: float | None


def interval(
    numerators: Sequence[float],
    denominators: Sequence[float],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """``sum(numerators) / sum(denominators)``; None where the denominators sum to 0.

    Raises:
        ValueError: The two lists differ in length.
    """
    top, below = _pair(numerators, denominators)
    if not len(top) or not below.sum():
        return None
    value = float(top.sum() / below.sum())
    if len(top) < 2:
        return Interval(value, None, None)
    return Interval(value, *_bounds(_ratios(top, below, seed, resamples)))


def difference(
    a: tuple[Sequence[float], Sequence[float]],
    b: tuple[Sequence[float], Sequence[float]],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """Score of ``b`` less that of ``a`` on the same items in the same order (paired).

    Args:
        a: Numerators and denominators of the first run.
        b: Those of the second run.
        seed: Of the draws, which are the same for both runs.
        resamples: How many.
    """
    first, second = _pair(*a), _pair(*b)
    if len(first[0]) != len(second[0]):
        raise ValueError(f"{len(first[0])} items in one run, {len(second[0])} in the other")
    if not len(first[0]) or not first[1].sum() or not second[1].sum():
        return None
    value = float(second[0].sum() / second[1].sum() - first[0].sum() / first[1].sum())
    if len(first[0]) < 2:
        return Interval(value, None, None)
    drawn = _ratios(*second, seed, resamples) - _ratios(*first, seed, resamples)
    return Interval(value, *_bounds(drawn))


def _pair(top: Sequence[float], below: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if len(top) != len(below):
        raise ValueError(f"{len(top)} numerators, {len(below)} denominators")
    return np.asarray(top, dtype=np.float64), np.asarray(below, dtype=np.float64)


def _ratios(top: np.ndarray, below: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """[R]; draws whose denominators sum to 0 are NaN."""
    draw, size = np.random.default_rng(seed), len(top)
    rows = max(1, BLOCK // size)
    ratios = []
    for start in range(0, resamples, rows):
        index = draw.integers(0, size, (min(rows, resamples - start), size))
        sums = below[index].sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append(np.where(sums > 0, top[index].sum(1) / sums, np.nan))
    return np.concatenate(ratios)


def _bounds(drawn: np.ndarray) -> tuple[float | None, float | None]:
    real = drawn[np.isfinite(drawn)]
    if not len(real):
        return None, None
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(real, [tail, 100 - tail])
    return float(low), float(high)
