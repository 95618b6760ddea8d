"""Every way of taking speech in, on a tiny model with random weights."""

import numpy as np
import pytest
import torch
from tiny_models import say, tiny_model

from eval.systems import hearing
from eval.systems.hearing import Condition, conditions, encode, hear, readings_of
from fo_core.dialogue.drivers.transcribe import transcribe
from fo_core.errors import CheckpointError, ConfigError

WAVE = say("abcdefgh", 16000)[: 16000 + 777]


@pytest.fixture(scope="module")
def model():
    found = tiny_model()
    found.trained |= {"speech_encoder", "ctc_head", "adapter"}
    return found


def test_conditions():
    found = conditions(["4", "inf", "8", "4"], "both")
    assert [one.name for one in found] == [
        "4-streaming", "4-offline", "inf-offline", "8-streaming", "8-offline",
    ]  # fmt: skip
    assert conditions(["inf"], "streaming") == [Condition(None, False)]
    for bad in ("0", "four", "-1", "2.5"):
        with pytest.raises(ConfigError, match="frames of 40 ms"):
            conditions([bad], "both")


@pytest.mark.parametrize("chunk", [2, 4, 6, 16])
def test_the_stream_hears_what_the_whole_utterance_does_behind_the_mask(model, chunk):
    with torch.inference_mode():
        stream, behind = (
            encode(model, torch.from_numpy(WAVE), Condition(chunk, s)) for s in (1, 0)
        )
    torch.testing.assert_close(stream[0], behind[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(stream[1], behind[1], atol=1e-4, rtol=1e-4)


def test_chunks_of_four_are_what_the_engine_hears(model):
    found = hear(model, WAVE, Condition(4, True), ["ctc", "llm"], "energy")
    engine = transcribe(model, torch.from_numpy(WAVE), 10**3 if not found["cut"] else 48, "energy")
    assert found["ctc"] == engine.ctc
    assert engine.llm.startswith(found["llm"][:20]) and found["llm"]


def test_without_chunks_more_is_heard(model):
    with torch.inference_mode():
        chunks, whole = (
            encode(model, torch.from_numpy(WAVE), Condition(c, False))[0] for c in (4, None)
        )
    T = min(chunks.shape[1], whole.shape[1])
    assert (chunks[:, :T] - whole[:, :T]).abs().max() > 1e-3


def test_an_odd_chunk_that_the_adapter_cannot_halve(model):
    with pytest.raises(ConfigError, match="--chunk 3.*an even number"):
        encode(model, torch.from_numpy(WAVE), Condition(3, True))


def test_readings_are_those_that_were_learned():
    half = tiny_model()
    half.trained |= {"speech_encoder", "ctc_head"}
    assert readings_of(half, None) == ["ctc"]
    with pytest.raises(CheckpointError, match="no trained adapter"):
        readings_of(half, ["llm"])
    with pytest.raises(CheckpointError, match="no trained speech_encoder, ctc_head"):
        readings_of(tiny_model(), None)


def test_an_endless_transcript_is_cut_and_said(model, monkeypatch):
    monkeypatch.setattr(hearing, "repeat", lambda model, vectors, most: [97] * most)
    assert hear(model, WAVE, Condition(4, True), ["llm"], "energy")["cut"] is True
    monkeypatch.setattr(hearing, "repeat", lambda model, vectors, most: [97] * (most - 1))
    assert hear(model, WAVE, Condition(4, True), ["llm"], "energy")["cut"] is False


def test_silence(model):
    assert set(hear(model, np.zeros(2000, np.float32), Condition(4, True), ["ctc"])) == {"ctc"}
