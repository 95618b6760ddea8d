"""Feeding batches for ever: epochs, and where a run may have been interrupted."""

from dataclasses import replace

import pytest

from fo_core.data.item import Item
from fo_core.errors import StageError
from fo_core.training import report
from fo_core.training.data_feed import BatchConfig, infinite_batches, open_loader, reads


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


ITEMS = [Item(f"item-{i}", "none.flac", 16000, 3 * 16000, text="three") for i in range(40)]


@pytest.mark.parametrize(
    ("more", "steps", "each", "hours", "epochs"),
    [
        ({}, 5, 1, 5 * 4 * 3 / 3600, 0.5),
        ({}, 5, 2, 5 * 2 * 4 * 3 / 3600, 1.0),  # two batches a step: accumulated, or two processes
        ({"crop_seconds": 1.0}, 30, 1, 30 * 4 * 1 / 3600, 3.0),  # of each sound one second is read
    ],
)
def test_what_a_run_reads_of_its_data_is_said_and_less_than_an_epoch_is_a_warning(
    more: dict[str, float], steps: int, each: int, hours: float, epochs: float
) -> None:
    loader = open_loader(ITEMS, "speech", BatchConfig(size=4, **more))
    plan = {"steps": steps, "reads": reads(loader, steps, each)}
    assert plan["reads"]["hours"] == pytest.approx(hours)
    assert plan["reads"]["epochs"] == pytest.approx(epochs)
    said = report.unread(plan)
    if epochs < 1:
        assert len(said) == 1 and "5 steps read 50% of the training data" in said[0]
        assert "one epoch takes 10 steps" in said[0]
    else:
        assert said == []


def test_what_a_stage_without_sound_reads_is_said_too() -> None:
    spoken = [replace(item, speech_tokens=(1,) * 120, global_tokens=(1,)) for item in ITEMS]
    loader = open_loader(spoken, "tts", BatchConfig(size=4))  # output-2: no sound is loaded
    assert reads(loader, 5, 1)["hours"] == pytest.approx(5 * 4 * 3 / 3600)


def test_of_a_foreign_loader_nothing_is_said() -> None:
    assert reads(Loader(left=0), 5, 1) == {} and report.unread({"reads": {}}) == []


def test_a_stage_that_reads_no_sound_has_its_hours_too() -> None:
    """Every run of output-2 and output-3 once ended in a division by its rate, 0."""
    items = [replace(item, speech_tokens=(1, 2)) for item in ITEMS]
    found = reads(open_loader(items, "tts", BatchConfig(size=4)), 10, 1)
    assert found["hours"] == pytest.approx(40 * 3 / 3600) and found["epochs"] == 1.0
