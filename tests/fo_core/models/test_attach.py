"""A trained model's ears and voice on another LLM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from fo_core.config import replace
from fo_core.dialogue.drivers.answer import answer_wave
from fo_core.dialogue.settings import DialogueConfig
from fo_core.dialogue.speech.segmenter import SegmenterConfig
from fo_core.errors import CheckpointError
from fo_core.models import freeze_omni
from fo_core.models.attach import attach
from fo_core.models.freeze_omni import PARTS
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.training.freeze import freeze_all_but, select

PIECES = (*"abcdefghijklmnopqrstuvwxyz'", *(f" {c}" for c in "abcdefgh"), "ab", " the")
WORDS = {
    "ctc": {"vocabulary": "pieces", "tokens": (), "pieces": PIECES},
    "adapter": {"type": "words"},
}
SPELLS = {"type": "durations", "dim": 32, "codes": 16, "heads": 2, "ffn": 48, "layers": 2,
          "reader_layers": 1}  # fmt: skip


def saved(folder: Path, **parts: Any) -> Path:
    model = tiny_models.tiny_model(**parts)
    model.save(folder, PARTS)
    return folder


def test_words_and_spelling_go_to_any_llm(
    tmp_path: Path, random_llm: Callable[[str], Path]
) -> None:
    source = saved(tmp_path / "m", speech_decoder=SPELLS, **WORDS)
    llm = FrozenLLM.load(str(random_llm("gemma3")))
    made = attach(source, str(random_llm("gemma3")), "float32", llm)
    old, model = freeze_omni.load(source), made.model
    fates = {fate.part: fate for fate in made.fates}
    assert set(fates) == set(PARTS) and made.speaks
    assert {p for p, f in fates.items() if f.fate == "untrained"} == {
        "task",
        "prompt",
        "state_head",
    }
    for part in ("speech_encoder", "codec", "ctc_head", "speech_decoder"):
        for name, tensor in getattr(model, part).state_dict().items():
            assert torch.equal(tensor, getattr(old, part).state_dict()[name]), name
    assert model.speech_decoder.prefix is None and not model.adapter.gate.any()
    model.save(tmp_path / "new")
    again = freeze_omni.load(tmp_path / "new")
    assert again.trained == set(PARTS) - {"task", "prompt", "state_head"}
    assert (again.task.used, again.prompt.used, again.state_head.left_out) == (0, 0, True)
    cfg = DialogueConfig(segmenter=SegmenterConfig(max_tokens=8, careful=False))
    found = answer_wave(again, 0.1 * torch.randn(16000), cfg)
    assert found.ended_by == "input-end" and found.states[0] == (1.0, 0.0, 0.0)
    freeze_all_but(again, select(again, ["prompt.*", "state_head.*"]))  # as a stage begins
    assert again.prompt.used == again.prompt.num > 0 and not again.state_head.left_out
    assert again.task.used == 0


def test_a_words_vectors_are_the_new_llms_own_tokens(
    tmp_path: Path, random_llm: Callable[[str], Path]
) -> None:
    source = saved(tmp_path / "m", **WORDS)
    made = attach(source, str(random_llm("qwen3")), "float32")
    head, llm = made.model.ctc_head, made.model.llm
    classes = head.vocabulary.encode("abba the cab")
    logits = torch.full((1, 2 * len(classes), head.classes), -9.0)
    for i, c in enumerate(classes):
        logits[0, 2 * i, c] = logits[0, 2 * i + 1, 0] = 9.0
    frames = torch.randn(1, logits.shape[1], made.model.speech_encoder.dim)
    vectors, lens = made.model.adapter(frames, ctc_logits=logits)
    ids = llm.tokenizer("abba the cab", add_special_tokens=False)["input_ids"]
    torch.testing.assert_close(vectors[0, : int(lens)], llm.embed(ids)[0])


def test_a_head_over_tokens_is_read_as_its_strings(
    tmp_path: Path, random_llm: Callable[[str], Path]
) -> None:
    tokens = tiny_models.tiny_model().llm.tokenizer("abcdefgh", add_special_tokens=False)[
        "input_ids"
    ]
    source = saved(tmp_path / "m", ctc={"tokens": tokens}, adapter={"type": "ctc"})
    made = attach(source, str(random_llm("mistral")), "float32")
    assert made.model.config.ctc.pieces == tuple("abcdefgh") and not made.speaks
    fates = {fate.part: fate for fate in made.fates}
    assert fates["ctc_head"].fate == "rewritten" and fates["speech_decoder"].stage == "output-2"


def test_what_cannot_be_attached_is_said_by_name(
    tmp_path: Path, random_llm: Callable[[str], Path]
) -> None:
    conv = saved(tmp_path / "conv")
    with pytest.raises(CheckpointError, match="convolutional adapter .* without training"):
        attach(conv, "tiny")
    bytes_ = saved(tmp_path / "b", ctc={"tokens": [200, 201]}, adapter={"type": "ctc"})
    with pytest.raises(CheckpointError, match="classes of the CTC head are no pieces"):
        attach(bytes_, "tiny")
    model = tiny_models.tiny_model(**WORDS)
    model.save(tmp_path / "half", ["codec"])
    with pytest.raises(CheckpointError, match="no trained ctc_head"):
        attach(tmp_path / "half", "tiny")
    assert replace(model.config, voice=()).voice == ()
