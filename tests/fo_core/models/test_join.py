"""Model folders whose stages ran apart become one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fo_core.config import load, replace
from fo_core.errors import CheckpointError
from fo_core.io.checkpoint import load_tensors
from fo_core.models import freeze_omni
from fo_core.models.freeze_omni import FreezeOmniConfig
from fo_core.models.join import join
from fo_core.models.llm.frozen_llm import FrozenLLM

SMALL = {
    "llm": {"spec": "tiny", "dtype": "float32"},
    "speech_encoder": {"type": "paper", "dim": 16, "heads": 2, "ffn": 16, "layers": 1},
    "adapter": {"type": "conv"},
    "speech_decoder": {"type": "durations", "dim": 16, "heads": 2, "ffn": 16, "layers": 1},
    "codec": {"type": "istft", "encoder_dim": 8, "token_dim": 8, "frame_dim": 8},
}


@pytest.fixture(scope="module")
def llm() -> FrozenLLM:
    return FrozenLLM.load("tiny")


def save(folder: Path, llm: FrozenLLM, parts: list[str], **changes: object) -> Path:
    cfg = replace(load(FreezeOmniConfig, SMALL), **changes)
    freeze_omni.build(cfg, llm=llm).save(folder, parts)
    return folder


def test_ears_of_one_and_the_voice_of_another(tmp_path: Path, llm: FrozenLLM) -> None:
    ears = save(tmp_path / "ears", llm, ["speech_encoder", "adapter"])
    (ears / "dialogue.json").write_text("{}")
    voice = save(tmp_path / "voice", llm, ["codec", "speech_decoder"], voice=(3,) * 8)
    found = join([ears, voice], tmp_path / "both", half=True)
    assert found["codec"] == str(voice) and found["speech_encoder"] == str(ears)
    both = freeze_omni.load(tmp_path / "both", llm=llm)
    assert both.trained == {"speech_encoder", "adapter", "codec", "speech_decoder"}
    assert both.config.voice == (3,) * 8 and (tmp_path / "both" / "dialogue.json").is_file()
    kept = load_tensors(tmp_path / "both" / "codec.safetensors")
    assert {t.dtype for t in kept.values() if t.is_floating_point()} == {torch.float16}
    assert both.speech_decoder.embedding.weight.dtype == torch.float32


def test_nothing_is_joined_into_a_folder_that_holds_something(
    tmp_path: Path, llm: FrozenLLM
) -> None:
    """Parts that lie there would be parts of the joined model."""
    ears, other = (save(tmp_path / name, llm, ["adapter"]) for name in ("ears", "other"))
    before = {path: path.stat().st_mtime_ns for path in other.iterdir()}
    with pytest.raises(CheckpointError, match="other is not empty; do: name a new folder"):
        join([ears], other)
    assert {path: path.stat().st_mtime_ns for path in other.iterdir()} == before


def test_two_weights_of_one_part_are_refused(tmp_path: Path, llm: FrozenLLM) -> None:
    one = save(tmp_path / "one", llm, ["adapter"])
    same = save(tmp_path / "same", llm, ["adapter"])
    assert join([one, same], tmp_path / "ok")["adapter"] == str(one)
    other = save(tmp_path / "other", llm, ["adapter"], adapter=load_adapter(kernel=3))
    with pytest.raises(CheckpointError, match="adapter has different weights"):
        join([one, other], tmp_path / "no")
    assert not (tmp_path / "no").exists()


def load_adapter(**settings: object) -> object:
    return load(FreezeOmniConfig, {**SMALL, "adapter": {"type": "conv", **settings}}).adapter


def test_folders_of_two_llms_are_refused(tmp_path: Path, llm: FrozenLLM) -> None:
    one = save(tmp_path / "one", llm, ["adapter"])
    two = save(tmp_path / "two", llm, ["codec"])
    config = json.loads((two / "config.json").read_text())
    config["llm"]["spec"] = "embedded"
    (two / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="different LLMs"):
        join([one, two], tmp_path / "no")
