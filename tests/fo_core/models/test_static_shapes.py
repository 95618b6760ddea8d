"""Talks with static steps and in bfloat16, on a CPU: what CUDA gets by default."""

from __future__ import annotations

import copy

import pytest
import torch
from device_reads import DeviceReads

from eval.latency.models import random_model
from eval.latency.talk import dialogue, noise, talk
from fo_core.dialogue.listener import Listener
from fo_core.dialogue.speech.segmenter import Segmenter
from fo_core.dialogue.speech.writer import Writer
from fo_core.layers.graphs import CapturedStep
from fo_core.models.static_shapes import halve, use_static_steps
from fo_core.models.steps import drive
from fo_core.sampling import SamplingConfig, draw, sample

HOW = SamplingConfig(temperature=0.8, top_k=20, top_p=0.8)


@pytest.fixture(scope="module")
def dynamic():
    return random_model("tiny")


@pytest.fixture
def static(dynamic):
    return use_static_steps(copy.deepcopy(dynamic), rows=4, positions=512)


@torch.inference_mode()
def test_what_is_heard_stays_bit_by_bit(dynamic, static):
    """The encoder's captured chunk, while its cache fills and when it slides."""
    one, other, chunk = Listener(dynamic), Listener(static), noise()
    for index in range(24):
        heard = [listener.hear(chunk[index % len(chunk)]) for listener in (one, other)]
        assert torch.equal(heard[0].encoded, heard[1].encoded)
        assert torch.equal(heard[0].embeds, heard[1].embeds)
    assert len(static.speech_encoder.captured._ready) == 2  # masked, and full
    early = other.fork()
    outs = [listener.hear(chunk[0]).encoded for listener in (other, early)]
    assert torch.equal(*outs)  # a step wrote into no state that is kept


@torch.inference_mode()
@pytest.mark.parametrize("change", [lambda m: m.double(), lambda m: m.to("cpu")])
def test_a_cast_or_a_move_drops_what_was_captured(dynamic, static, change):
    """A graph would go on to read the weights that were there when it was captured."""
    Listener(static).hear(noise()[0])
    assert static.speech_encoder.captured._ready
    change(static)
    stacks = static.llm.backbone.stack, static.speech_decoder.decoder
    assert static.speech_encoder.captured is None and [s.static for s in stacks] == [None, None]
    found = [Listener(m).hear(noise()[0]) for m in (static, change(copy.deepcopy(dynamic)))]
    assert torch.equal(found[0].embeds, found[1].embeds)


def test_a_talk_in_static_steps_says_the_same(dynamic, static):
    cfg = dialogue(20, seed=4, tokens=60)
    told = [talk(model, noise(), cfg, whole=True) for model in (dynamic, static)]
    assert [[s.name for s in one.spans] for one in told][0] == [s.name for s in told[1].spans]
    assert told[0].audio == told[1].audio > 0
    assert len(static.llm.backbone.stack.static._step._ready) >= 2  # tokens and chunks
    assert static.speech_decoder.decoder.static._step._ready


def _write(model) -> list[int]:
    """Twelve tokens, and how often the host asked for a number meanwhile."""
    llm = model.llm
    state = llm.init_state(1, 64)
    hidden, _ = llm.step(llm.embed([0, 1, 2, 3, 4, 5]), state)
    generator = torch.Generator().manual_seed(3)
    writer = Writer(llm, state, hidden[:, -1:], Segmenter(llm.tokenizer), HOW, generator)
    for _ in range(3):
        drive(writer.advance())
    with DeviceReads() as reads:
        for _ in range(9):
            drive(writer.advance())
    assert len(writer.answer.token_ids) == 12
    assert reads.count == 9  # one a token
    return writer.answer.token_ids


@torch.inference_mode()
def test_the_host_reads_one_number_a_token(dynamic):
    """Of the text and of the speech; and both ways choose the same tokens.

    In float64: in float32 a CPU has a norm of its own, which reads a number (``quick_norm``).
    """
    dynamic = copy.deepcopy(dynamic).double()
    static = use_static_steps(copy.deepcopy(dynamic), rows=2, positions=256)
    ids = _write(static)
    assert ids == _write(dynamic) and len(set(ids)) > 3
    spoken = []
    for model in (dynamic, static):
        decoder, draw = model.speech_decoder, torch.Generator().manual_seed(2)
        text = 0.3 * torch.randn(1, 5, 32, generator=draw).double()
        how = SamplingConfig(top_k=4, penalty=1.2, window=5)
        sentence = decoder.begin(text, None, how, 40, draw)
        tokens = [drive(decoder.next_token(sentence)) for _ in range(3)]
        with DeviceReads() as reads:
            tokens += [drive(decoder.next_token(sentence)) for _ in range(9)]
        assert reads.count == 9
        spoken.append(tokens)
    assert spoken[0] == spoken[1] and len(set(spoken[0])) > 3


@pytest.mark.parametrize(
    "how", [(0.8, 20, 0.8, "none"), (1.3, 0, 0.9, "official"), (1.0, 5, 0, "none")]
)
def test_the_captured_draw_chooses_what_sample_chooses(how):
    """The same noise, the same token; also when the buffers are used again."""
    step = CapturedStep(draw)
    *values, compat = how
    config = SamplingConfig(*values)
    for seed in range(20):
        one, other = (torch.Generator().manual_seed(seed) for _ in range(2))
        logits = 3 * torch.randn(4, 50, generator=torch.Generator().manual_seed(seed + 100))
        wanted = sample(logits, config, one, compat)
        races = torch.empty(4, config.top_k or 50).exponential_(generator=other)
        with DeviceReads() as reads:
            (found,) = step(logits, races, key=(config, compat))
        assert torch.equal(found, wanted) and reads.count == 0
    assert len(step._ready) == 1


@torch.inference_mode()
def test_a_model_in_bfloat16_talks(dynamic):
    """Every part in it, features normalised as ever, static steps and all."""
    model = copy.deepcopy(dynamic)
    mean, full = model.speech_encoder.cmvn.mean, Listener(dynamic).hear(noise()[0])
    model = use_static_steps(halve(model), rows=2, positions=512)
    assert model.speech_encoder.cmvn.mean is mean and mean.dtype == torch.float32
    assert model.llm.dtype == model.speech_decoder.out.weight.dtype == torch.bfloat16
    found = Listener(model).hear(noise()[0])
    assert found.embeds.dtype == torch.bfloat16
    error = (found.embeds.float() - full.embeds).norm() / full.embeds.norm()
    assert 0 < float(error) < 0.05
    told = talk(model, noise(), dialogue(20, tokens=60), whole=True)
    assert told.audio == pytest.approx(1.5)
