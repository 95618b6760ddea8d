"""Feeding batches for ever: epochs, and where a run may have been interrupted."""

import pytest

from fo_core.errors import StageError
from fo_core.training.data_feed import infinite_batches


class Loader:
    """Epochs of two batches; the first has ``left`` of them left."""

    def __init__(self, left: int, size: int = 2) -> None:
        self.left, self.size = left, size

    def __iter__(self):
        left, self.left = self.left, self.size
        yield from ({"n": i} for i in range(left))


def test_a_run_that_was_killed_at_the_end_of_an_epoch_goes_on() -> None:
    batches = infinite_batches(Loader(left=0), "input-1")
    assert [next(batches)["n"] for _ in range(3)] == [0, 1, 0]


def test_data_without_a_batch_is_an_error() -> None:
    with pytest.raises(StageError, match="output-1: the training data gives no batch"):
        next(infinite_batches(Loader(left=0, size=0), "output-1"))
