"""The speech decoder with durations: streaming equals teacher forcing, durations give lengths."""

from __future__ import annotations

import pytest
import torch

from fo_core.config import load
from fo_core.models import freeze_omni
from fo_core.models.decoder.duration_decoder import DurationDecoder, DurationDecoderConfig, Spelling
from fo_core.models.freeze_omni import FreezeOmniConfig
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.steps import DecoderRequest, run_together
from fo_core.sampling import SamplingConfig

GREEDY = SamplingConfig(top_k=1)


def make(**changes: object) -> DurationDecoder:
    torch.manual_seed(0)
    sizes = {"dim": 24, "heads": 2, "ffn": 32, "layers": 2, "codes": 16, "sounds": ("ə", "t")}
    decoder = DurationDecoder(DurationDecoderConfig(**(sizes | changes))).eval()
    with torch.no_grad():  # durations that differ from letter to letter
        decoder.duration[-1].weight.mul_(30)
    return decoder


def one(decoder: DurationDecoder, text: str) -> Spelling:
    return decoder.text_input(None, [text])[0]


def test_spelling_keeps_what_can_be_read() -> None:
    decoder = make()
    assert decoder.spell("  Zoë’s  CAFÉ — (yes)! ") == "zoe's cafe, yes!"
    assert decoder.spell("It has 8 legs & 2 eyes.") == "it has eight legs and two eyes."
    text, lens = decoder.text_input(None, ["Hi", "Hello."])
    assert lens.tolist() == [5, 8] and text.units[0, 5:].tolist() == [0, 0, 0]  # "hi." closed


@pytest.mark.parametrize("prefix", [0, 5])
def test_generation_equals_teacher_forcing(prefix: int) -> None:
    decoder = make()
    text = one(decoder, "Hello there, you.")
    states = torch.randn(1, prefix, 24) if prefix else None
    said = torch.tensor([list(decoder.generate(text, states, GREEDY))])
    hidden = decoder.read(text)
    counts = decoder.counts(hidden)
    assert said.shape[1] == int(counts.sum()) > 0
    with torch.inference_mode():
        valid = torch.ones_like(said, dtype=torch.bool)
        steering = decoder.steer(hidden, text.lens, counts, said.shape[1])
        logits = decoder.finish(decoder._rows(steering, said, valid, states, None)[0])
    assert torch.equal((logits + decoder.forbidden).argmax(-1), said)


def test_a_padded_row_counts_as_alone() -> None:
    decoder = make()
    texts = ["Hi you.", "Hello there, everybody."]
    text, lens = decoder.text_input(None, texts)
    counts = torch.randint(1, 4, text.units.shape) * (text.units > 0)
    sizes = counts.sum(1)
    tokens = torch.randint(0, 16, (2, int(sizes.max())))
    both = decoder.loss(text, lens, tokens, sizes, counts=counts)
    alone = [
        decoder.loss(
            one(decoder, texts[i]),
            None,
            tokens[i : i + 1, : sizes[i]],
            sizes[i : i + 1],
            counts=counts[i : i + 1, : lens[i]],
        )
        for i in range(2)
    ]
    total = sum(float(found.total.detach()) for found in alone)
    assert float(both.total.detach()) == pytest.approx(total, rel=1e-5)


def test_every_token_knows_its_letter_and_its_place() -> None:
    decoder = make()
    hidden = torch.randn(1, 3, 24)
    counts = torch.tensor([[2, 0, 1]])
    steered = decoder.steer(hidden, torch.tensor([3]), counts, 3)
    rows = torch.cat(
        [hidden[0, [0, 0, 2]], hidden[0, [1, 1, 2]], torch.tensor([[0, 1], [1, 0], [0, 0]]) / 8], 1
    )
    assert torch.allclose(steered[0], decoder.place(rows), atol=1e-6)


def test_together_equals_alone() -> None:
    decoder = make()
    texts = [one(decoder, "Hello."), one(decoder, "Good morning.")]
    with torch.inference_mode():
        first, second = ([decoder.begin(t, None, GREEDY) for t in texts] for _ in range(2))
        for _ in range(3):
            alone = [DecoderRequest(decoder, s.token, s.state).run() for s in first]
            both = run_together([DecoderRequest(decoder, s.token, s.state) for s in second])
            for a, b in zip(alone, both, strict=True):
                assert torch.allclose(a, b, atol=1e-5)


def test_it_learns_durations_sounds_and_tokens() -> None:
    decoder = make(dropout=0.0, token_noise=0.0, duration_weight=1.0).train()
    text, lens = decoder.text_input(None, ["tea.", "tattoo."])
    counts = torch.tensor([[2, 1, 3, 0, 1, 1, 0, 0, 0], [1, 2, 1, 1, 0, 2, 2, 1, 1]])
    sizes = counts.sum(1)
    tokens = torch.randint(0, 16, (2, int(sizes.max())))
    sounds = [["t", "", "ə"], ["t", "", "t", "", "", "ə"]]
    optim = torch.optim.Adam(decoder.parameters(), 3e-3)
    for _ in range(250):
        found = decoder.loss(text, lens, tokens, sizes, counts=counts, sounds=sounds)
        optim.zero_grad()
        found.loss.backward()
        optim.step()
    decoder.eval()
    assert found.accuracy > 0.95 and found.terms["sound"] < 0.7
    spoken = list(decoder.generate(Spelling(text.units[:1, :6], lens[:1]), None, GREEDY))
    assert spoken == tokens[0, : sizes[0]].tolist()


def test_a_prefix_stack_can_be_added_to_a_trained_decoder() -> None:
    tiny_llm = FrozenLLM.load("tiny")
    decoder = {"type": "durations", "dim": 16, "heads": 2, "ffn": 16, "prefix": False}
    cfg = load(
        FreezeOmniConfig,
        {
            "llm": {"spec": "tiny", "dtype": "float32"},
            "speech_encoder": {"type": "paper", "dim": 16, "heads": 2, "ffn": 16, "layers": 1},
            "speech_decoder": decoder,
            "codec": {"type": "istft", "encoder_dim": 8, "token_dim": 8, "frame_dim": 8},
        },
    )
    model = freeze_omni.build(cfg, llm=tiny_llm)
    before = {k: v.clone() for k, v in model.speech_decoder.state_dict().items()}
    text = model.speech_decoder.text_input(tiny_llm, ["Hi."])[0]
    said = list(model.speech_decoder.generate(text, torch.randn(1, 3, 16), GREEDY))
    model.add_prefix()
    after = model.speech_decoder.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert any(name.startswith("prefix.") for name in after) and model.config.speech_decoder.prefix
    assert list(model.speech_decoder.generate(text, None, GREEDY)) == said  # states were not read
