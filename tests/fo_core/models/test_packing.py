"""A model made ready answers as before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import say, tiny_model

from fo_core.config import replace
from fo_core.dialogue.drivers.answer import answer_wave
from fo_core.dialogue.settings import DialogueConfig, DuplexConfig
from fo_core.dialogue.speech.segmenter import SegmenterConfig
from fo_core.dialogue.speech.speaker import SpeakerConfig
from fo_core.dialogue.states import StateRule
from fo_core.layers import conv, packed
from fo_core.models.codec import packed_generator
from fo_core.models.codec.quantizer import QuantizerConfig
from fo_core.models.codec.ticodec import TiCodec, TiCodecConfig
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.packing import pack_for_inference

PARTS = {
    "conv": {},
    "whisper-ctc": {
        "speech_encoder": {"type": "whisper", "path": None, "dim": 32, "heads": 2, "layers": 1},
        "adapter": {"type": "ctc"},
        "state_head": {"gru": 16},
    },
}


@pytest.fixture
def llm() -> FrozenLLM:
    return FrozenLLM.load("tiny")


def talk(model: FreezeOmni):
    """Text, wave and state probabilities of an answer to a spoken question."""
    cfg = DialogueConfig(
        states=StateRule(
            respond_threshold=1.0, dismiss_threshold=1.0
        ),  # the file's end ends a turn
        duplex=DuplexConfig(vad="energy"),  # tones are speech to this test
        seed=1,
        segmenter=SegmenterConfig(max_tokens=12),
        speaker=SpeakerConfig(max_tokens=30),
    )
    model.trained |= {"speech_decoder", "codec"}
    answer = answer_wave(model, torch.from_numpy(say("abc", 16000)), cfg)
    return answer.text, answer.wave, torch.tensor(answer.states)


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_the_answer_stays(parts, llm, monkeypatch):
    monkeypatch.setattr(packed, "SMALLEST", 1)  # tiny models have no large matrices
    monkeypatch.setattr(conv, "SMALLEST", 1)
    model = tiny_model(llm=llm, **parts)
    before = talk(model)
    fingerprint = llm.fingerprint()
    after = talk(pack_for_inference(model))
    assert after[0] == before[0]
    assert before[1].numel() > 0
    np.testing.assert_allclose(after[1], before[1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(after[2], before[2], rtol=0, atol=1e-5)
    assert model.llm.fingerprint() == fingerprint


@pytest.mark.parametrize("resblock", ["1", "2"])
@pytest.mark.parametrize(("weights", "error"), [("same", 1e-5), ("bf16", 0.05)])
def test_codec(weights, error, resblock, llm):
    torch.manual_seed(0)
    codec = TiCodec(
        TiCodecConfig(
            width=64, block_kernels=[3], block_dilations=[[1, 3]], resblock=resblock,
            quantizer=replace(QuantizerConfig(), dim=512, codes=16),
        )
    ).eval()  # fmt: skip
    for module in codec.generator.modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            module.weight = torch.randn_like(module.weight) / module.weight[0].numel() ** 0.5
    model = tiny_model(llm=llm)
    model.codec = codec
    tokens, voice = torch.randint(16, (1, 6, 1)), torch.zeros(1, 1, 8, dtype=torch.int64)
    before = codec.decode(tokens, voice, keep=(1, 5))
    after = pack_for_inference(model, weights).codec.decode(tokens, voice, keep=(1, 5))
    assert after.dtype == torch.float32 and after.shape == before.shape == (1, 4 * 600)
    assert (after - before).norm() / before.norm() < error
    assert not any(map(torch.nn.utils.parametrize.is_parametrized, codec.modules()))


def test_codec_where_the_op_is_missing(llm, monkeypatch):
    def broken(*_):
        raise NotImplementedError

    codec = TiCodec(TiCodecConfig(width=16)).eval()
    tokens, voice = torch.randint(16, (1, 4, 1)), torch.zeros(1, 1, 8, dtype=torch.int64)
    before = codec.decode(tokens, voice)
    monkeypatch.setattr(packed_generator, "PackedConv1d", broken)
    model = tiny_model(llm=llm)
    model.codec = codec
    assert torch.equal(pack_for_inference(model).codec.decode(tokens, voice), before)
