"""Checkpoints survive a kill at any moment of a save."""

import os
from pathlib import Path

import pytest
import torch

from fo_core.training import checkpoints


def save(folder: Path, value: float) -> None:
    checkpoints.save(folder, 5, {"w": torch.full((2,), value)}, {}, {}, keep=2)


def weight(folder: Path) -> float:
    found = checkpoints.newest(folder)
    assert found is not None
    return float(found.weights["w"][0])


class Killed(BaseException):
    """As a kill: nothing of the save runs behind it."""


@pytest.mark.parametrize("renames", range(3))
def test_a_save_killed_at_any_rename_leaves_a_checkpoint_of_its_step(
    renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D14: the old checkpoint of the same step was once removed before the new one was there."""
    save(tmp_path, 1.0)
    real, count = os.rename, 0

    def rename(old: Path, new: Path) -> None:
        nonlocal count
        if count == renames:
            raise Killed
        count += 1
        real(old, new)

    monkeypatch.setattr(checkpoints.os, "rename", rename)
    if renames < 2:
        with pytest.raises(Killed):
            save(tmp_path, 2.0)
    else:
        save(tmp_path, 2.0)
    monkeypatch.undo()
    assert checkpoints.newest_step(tmp_path) == 5
    assert weight(tmp_path) == (1.0 if renames < 2 else 2.0)
    save(tmp_path, 3.0)
    assert weight(tmp_path) == 3.0
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000005"]
