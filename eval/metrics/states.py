"""Dialogue states: precision, recall and F1 of each state, and their macro mean, from counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NAMES = ("continue", "respond", "dismiss")  # dialogue states 0, 1, 2
IGNORE = -1  # a chunk without a label


def confusion(truth: Sequence[int], predicted: Sequence[int], classes: int = 3) -> list[list[int]]:
    """Counts ``[truth][predicted]`` over chunks; chunks labelled :data:`IGNORE` are skipped.

    Raises:
        ValueError: The two lists differ in length, or a state is outside ``0..classes-1``.
    """
    if len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} labels, {len(predicted)} predictions")
    counts = [[0] * classes for _ in range(classes)]
    for label, guess in zip(truth, predicted, strict=True):
        if label == IGNORE:
            continue
        if not (0 <= label < classes and 0 <= guess < classes):
            raise ValueError(f"state {label} or {guess} is not one of 0..{classes - 1}")
        counts[label][guess] += 1
    return counts


def add(a: list[list[int]], b: list[list[int]]) -> list[list[int]]:
    """The sum of two confusion matrices of one size."""
    return [[x + y for x, y in zip(r, s, strict=True)] for r, s in zip(a, b, strict=True)]


@dataclass(frozen=True)
class StateScore:
    """How well one state is found; all 0.0 where it is never both true and predicted."""

    precision: float
    recall: float
    f1: float
    support: int  # chunks whose label is this state


def scores(counts: list[list[int]]) -> list[StateScore]:
    """One score a state, in the order of the states."""
    result = []
    for state, row in enumerate(counts):
        right, support = row[state], sum(row)
        guessed = sum(other[state] for other in counts)
        precision = right / guessed if guessed else 0.0
        recall = right / support if support else 0.0
        f1 = 2 * right / (guessed + support) if right else 0.0
        result.append(StateScore(precision, recall, f1, support))
    return result


def macro_f1(counts: list[list[int]]) -> float:
    """Mean F1 over the states that occur in the labels; 0.0 where none does."""
    seen = [score.f1 for score in scores(counts) if score.support]
    return sum(seen) / len(seen) if seen else 0.0
