"""``fo train`` in a workspace: what it takes where nothing is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from fo_cli import workspace
from fo_core.errors import FoError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workspace, "model_folder", lambda name: Path("/shipped") / str(name))
    for side in ("user", "assistant"):
        (tmp_path / "data" / side).mkdir(parents=True)
        (tmp_path / "data" / side / "train.jsonl").write_text("")
    return tmp_path


def test_the_shipped_model_and_the_workspaces_data(place: Path) -> None:
    found = workspace.of_stage("output-2", None, None, None, None)
    assert found.model == "/shipped/fo-smol" and not found.named
    assert found.train == Path("data/assistant/train.jsonl")
    assert found.valid == Path("data/assistant/val.jsonl") and found.out == Path("runs/output-2")
    assert "output-2 from /shipped/fo-smol, recipe smol-open" in found.line("smol-open")


def test_a_stage_starts_from_the_stage_before(place: Path) -> None:
    for stage in ("input-1", "output-1"):
        folder = place / "runs" / stage / "model"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    assert workspace.of_stage("input-3", None, None, None, None).model == "runs/input-1/model"
    assert workspace.of_stage("output-3", None, None, None, None).model == "runs/output-1/model"
    assert workspace.of_stage("input-1", None, None, None, None).model == "/shipped/fo-smol"
    assert workspace.of_stage("input-1", "mine", None, None, None).model == "mine"


def test_missing_data_is_one_line_with_a_command(place: Path) -> None:
    (place / "data" / "assistant" / "train.jsonl").unlink()
    for stage in ("output-1", "output-3"):
        with pytest.raises(FoError, match="do: fo prepare-data makes it"):
            workspace.of_stage(stage, None, None, None, None)
    named = workspace.of_stage("output-3", None, Path("my/train.jsonl"), None, Path("o"))
    assert named.valid == Path("my/val.jsonl") and named.out == Path("o")


def test_a_decoder_with_durations_takes_aligned_answers(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fo prepare-data; fo train --stage output-3` once ended in a fault of the data."""
    monkeypatch.setattr(workspace, "has_durations", lambda model: True)
    with pytest.raises(FoError, match="do: fo prepare-data align data/assistant --model fo-smol"):
        workspace.of_stage("output-3", None, None, None, None)
    (place / "data" / "aligned").mkdir()
    (place / "data" / "aligned" / "train.jsonl").write_text("")
    found = workspace.of_stage("output-2", None, None, None, None)
    assert found.train == Path("data/aligned/train.jsonl")
    plain = workspace.of_stage("output-1", None, None, None, None)
    assert plain.train == Path("data/assistant/train.jsonl")


def test_the_workspaces_codec_is_the_run_of_output_1_else_what_ships(place: Path) -> None:
    assert workspace.codec() == Path("/shipped/fo-smol")
    (place / "runs" / "output-1" / "model").mkdir(parents=True)
    (place / "runs" / "output-1" / "model" / "config.json").write_text("{}")
    assert workspace.codec() == Path("runs/output-1/model")
