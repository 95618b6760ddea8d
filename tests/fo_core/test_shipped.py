"""Names of models: the one that ships, the newest of the workspace, folders; what is damaged."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from fo_core import shipped
from fo_core.dialogue.drivers.answer import ask_wave, file_talk
from fo_core.errors import CheckpointError
from fo_core.io import audio
from fo_core.models import freeze_omni
from fo_core.models.freeze_omni import read_config


def test_the_shipped_model_is_whole_small_and_licensed() -> None:
    folder = shipped.model_folder("fo-smol")
    sizes = json.loads((folder / shipped.INDEX).read_text())
    assert {"config.json", "README.md", "dialogue.json", "codec.safetensors"} <= set(sizes)
    assert sum(sizes.values()) <= 60e6
    card = (folder / "README.md").read_text()
    assert "## Licences" in card and "| WER of hearing" in card and "@" not in card
    config = read_config(folder)
    assert config.llm.spec == "embedded" and config.llm.fingerprint.startswith("sha256:")


def test_a_damaged_or_missing_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shipped.model_folder("fo-smol")
    copy = tmp_path / "shipped_models" / "fo-smol"
    copy.mkdir(parents=True)
    for path in whole.iterdir():
        (copy / path.name).symlink_to(path)
    monkeypatch.setattr(shipped, "files", lambda _: tmp_path)
    assert shipped.model_folder("fo-smol") == copy
    (copy / "codec.safetensors").unlink()
    (copy / "codec.safetensors").write_bytes(b"cut short")
    with pytest.raises(CheckpointError, match="not whole: codec.safetensors"):
        shipped.model_folder("fo-smol")
    shutil.rmtree(copy)
    with pytest.raises(CheckpointError, match="not whole: files.json"):
        shipped.model_folder("fo-smol")


def test_folders_come_first_and_latest_is_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no model under"):
        shipped.model_folder("latest")
    for age, stage in enumerate(("output-1", "input-1")):
        path = tmp_path / "runs" / stage / "model" / "config.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        os.utime(path, (1000 - age, 1000 - age))
    assert shipped.model_folder("latest") == Path("runs/output-1/model")
    (tmp_path / "fo-smol").mkdir()
    assert shipped.model_folder("fo-smol") == Path("fo-smol")
    with pytest.raises(CheckpointError, match="does not exist; possible: a model folder, fo-smol"):
        shipped.model_folder("nowhere")


def test_the_transcript_of_a_question_holds_its_last_word() -> None:
    """It is taken when the turn ends, before the answer reads the word that was held back."""
    talk = file_talk(freeze_omni.load(shipped.model_folder("fo-smol")), speak=False)
    wave = torch.from_numpy(audio.read(shipped.recording("example"), 16000))
    found = ask_wave(talk, wave)
    assert found.text and found.question == talk.conversation.words
    assert found.question == talk.conversation.listener.text  # of after the answer


def test_an_unknown_name_lists_what_the_caller_takes_too() -> None:
    with pytest.raises(CheckpointError) as fault:
        shipped.model_folder("gpt9", also=("embedded", "qwen"))
    assert str(fault.value.possible).endswith("user/repo[@revision] of the hub, embedded, qwen")
