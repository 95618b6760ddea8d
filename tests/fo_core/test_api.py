"""The Python API: README's example runs; files and arrays; a stage; what is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_models
import torch

import fo_core
from fo_core.api import model as api
from fo_core.data import manifest
from fo_core.dialogue.settings import DialogueConfig, DuplexConfig, write_dialogue
from fo_core.errors import AudioError, CheckpointError, StageError
from fo_core.models import freeze_omni

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("api") / "model"
    tiny_models.tiny_model().save(made, freeze_omni.PARTS)
    write_dialogue(made, DialogueConfig(duplex=DuplexConfig(vad="energy")))
    return made


@pytest.fixture
def question(tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal(8000)
    soundfile.write(tmp_path / "question.wav", noise, 8000)
    return tmp_path / "question.wav"


def test_the_readmes_example_runs(folder, question, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(question.parent)
    monkeypatch.setattr(api, "model_folder", lambda name: folder)
    monkeypatch.setattr(fo_core.Answer, "save", lambda self, path: Path(path).touch())
    exec(compile(code, "README.md", "exec"), {})
    assert "first audio after" in capsys.readouterr().out
    assert (question.parent / "reply.wav").exists()


def test_a_file_and_its_array_are_answered_alike(folder, question):
    model = fo_core.load(folder)
    one = model.answer(question, speak=False)
    wave = soundfile.read(question, dtype="float32")[0]
    other = model.answer(wave, sample_rate=8000, speak=False)
    assert one.text and one.text == other.text and not one.audio.size
    assert model.sample_rate == 24000 and one.sample_rate == 24000
    assert model.session(speak=False).model is model.network
    typed = model.answer_text("hello", speak=False)
    assert typed.text and typed.ended_by == "text"
    with pytest.raises(fo_core.FoError, match="the question is empty"):
        model.answer_text(" ")


@pytest.mark.parametrize(
    ("bad", "says"), [(np.zeros((2, 8)), r"shape \[2, 8\]"), (np.zeros(0), "not empty")]
)
def test_what_is_no_question_is_refused(folder, bad, says):
    with pytest.raises(AudioError, match=says):
        fo_core.load(folder).answer(bad)


def test_what_cannot_be_loaded_or_saved_is_one_error(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        fo_core.load(tmp_path / "none")
    silent = fo_core.Answer("", np.zeros(0, np.float32), 24000, "unheard", 0.0, 0.0)
    with pytest.raises(fo_core.FoError, match="no audio to save"):
        silent.save(tmp_path / "reply.wav")
    with pytest.raises(AttributeError, match="no attribute 'loda'"):
        _ = fo_core.loda


def test_a_stage_leaves_a_model_folder(tmp_path):
    torch.manual_seed(0)
    users, _ = tiny_models.tiny_items(tmp_path / "sounds", 4)
    manifest.write(tmp_path / "train.jsonl", users)
    manifest.write(tmp_path / "val.jsonl", users[:2])
    paths = [tmp_path / name for name in ("train.jsonl", "val.jsonl", "run")]
    short = ["train.max_steps=1", "train.batch.size=2", "train.curves=false"]
    steps: list[tuple[int, int]] = []

    def count(done: int, total: int) -> None:
        steps.append((done, total))

    result = fo_core.train_stage(
        "input-1", "tiny", *paths, recipe="tiny", settings=short, progress=count
    )
    assert "val_loss" in result.metrics and steps == [(1, 1)]
    assert "speech_encoder" in freeze_omni.load(tmp_path / "run" / "model").trained
    with pytest.raises(StageError, match="did you mean 'input-1'"):
        fo_core.train_stage("input1", "tiny", *paths)


def test_importing_it_loads_nothing_heavy():
    code = "import sys, fo_core; print({'torch', 'numpy', 'yaml', 'pydantic'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
