"""Speech decoder: training forward equals streaming, padding is inert, noise only in training."""

from __future__ import annotations

import pytest
import torch

from fo_core.config import replace
from fo_core.errors import ConfigError
from fo_core.models.compat.speech_decoder import OfficialSpeechDecoder
from fo_core.models.decoder.speech_decoder import SpeechDecoder, SpeechDecoderConfig
from fo_core.sampling import SamplingConfig

CFG = SpeechDecoderConfig(dim=32, codes=20, heads=4, ffn=48, layers=4)
N, P, T = 7, 5, 9


def make(**changes) -> SpeechDecoder:
    torch.manual_seed(0)
    cfg = replace(CFG, **changes)
    decoder = (OfficialSpeechDecoder if cfg.compat == "official" else SpeechDecoder)(cfg)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return decoder.eval()


def inputs(batch: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "text": torch.randn(batch, N, 32, generator=generator),
        "tokens": torch.randint(0, 20, (batch, T), generator=generator),
        "prefix": torch.randn(batch, P, 32, generator=generator),
    }


def steps(decoder, text, tokens, prefix) -> torch.Tensor:
    """Logits [B, T + 1, S] by prefill and one step a token."""
    state, rows = decoder.prefill(text, prefix), []
    for column in [torch.full_like(tokens[:, 0], decoder.sos), *tokens.unbind(dim=1)]:
        logits, state = decoder.step(column, state)
        rows.append(logits)
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize("prefix", ["read", "none given", "no stack"])
@torch.inference_mode()
def test_forward_is_prefill_and_steps(prefix):
    decoder, x = make(prefix=prefix != "no stack"), inputs()
    given = None if prefix == "none given" else x["prefix"]
    whole = decoder(x["text"], None, x["tokens"], None, given)
    torch.testing.assert_close(
        steps(decoder, x["text"], x["tokens"], given), whole, rtol=0, atol=1e-5
    )


@torch.inference_mode()
def test_without_a_pre_network_the_text_is_read_as_it_is():
    decoder, x = make(pre_network=False), inputs()
    assert not [name for name in decoder.state_dict() if name.startswith("pre_network")]
    assert torch.equal(decoder.read_text(x["text"]), x["text"])
    whole = decoder(x["text"], None, x["tokens"], None, x["prefix"])
    torch.testing.assert_close(
        steps(decoder, x["text"], x["tokens"], x["prefix"]), whole, rtol=0, atol=1e-5
    )


@torch.inference_mode()
def test_padding_is_inert():
    decoder, x = make(), inputs()
    lens = {"text": [7, 4, 2], "tokens": [3, 9, 1], "prefix": [5, 0, 3]}
    for name, sizes in lens.items():
        for row, size in enumerate(sizes):
            x[name][row, size:] = -1 if name == "tokens" else 1e4
    t = {k: torch.tensor(v) for k, v in lens.items()}
    args = (x["text"], t["text"], x["tokens"], t["tokens"], x["prefix"], t["prefix"])
    batch, losses = decoder(*args), decoder.loss(*args)
    total = torch.tensor(0.0)
    for row in range(3):
        one = {k: x[k][row : row + 1, : lens[k][row]] for k in x}
        alone = steps(decoder, one["text"], one["tokens"], one["prefix"])
        size = lens["tokens"][row] + 1
        torch.testing.assert_close(batch[row, :size], alone[0], rtol=0, atol=1e-5)
        targets = torch.cat((one["tokens"][0], torch.tensor([decoder.eos])))
        total += torch.nn.functional.cross_entropy(alone[0], targets, reduction="sum")
    assert int(losses.count) == 3 + 9 + 1 + 3
    torch.testing.assert_close(losses.total, total)
    torch.testing.assert_close(losses.loss, total / 16)


@torch.inference_mode()
def test_speech_is_causal_and_reads_text_and_prefix():
    decoder, x = make(), inputs(1)
    base = steps(decoder, x["text"], x["tokens"], x["prefix"])

    def changed(**new):
        return (decoder(**{**args, **new}) - base).abs().amax(dim=-1)[0] > 1e-4

    args = {"text_lens": None, "token_lens": None, **x}
    later = x["tokens"].clone()
    later[0, 4] = (later[0, 4] + 1) % 20
    assert changed(tokens=later).tolist() == [False] * 5 + [True] * 5
    assert changed(text=x["text"].roll(1, dims=1)).all()
    assert changed(prefix=x["prefix"] + 1).all()


@torch.inference_mode()
def test_official_compat_shifts_positions_by_an_unread_prefix():
    x = inputs(1)
    ours, theirs = make(prefix=False), make(prefix=False, compat="official")
    theirs.load_state_dict(ours.state_dict())
    args = (x["text"], x["tokens"])
    torch.testing.assert_close(steps(ours, *args, x["prefix"]), steps(ours, *args, None))
    assert not torch.allclose(steps(theirs, *args, x["prefix"]), steps(theirs, *args, None))


def test_generate():
    decoder, x = make(), inputs(1)
    with torch.no_grad():  # specials would win if they were allowed
        decoder.out.bias[[decoder.bos, decoder.sos, decoder.pad]] = 100.0
        decoder.out.bias[decoder.eos] = -100.0
    how = SamplingConfig(top_k=5, penalty=1.2, window=3)

    def speak(seed, **options):
        generator = torch.Generator().manual_seed(seed)
        return list(decoder.generate(x["text"], x["prefix"], how, generator=generator, **options))

    tokens = speak(0, max_tokens=30)
    assert len(tokens) == 30 and max(tokens) < 20
    assert tokens == speak(0, max_tokens=30) != speak(1, max_tokens=30)
    with torch.no_grad():
        decoder.out.bias[decoder.eos] = 100.0
    assert speak(0) == []


def test_generate_is_greedy_argmax_of_forward():
    decoder, x = make(), inputs(1)
    tokens = list(decoder.generate(x["text"], x["prefix"], SamplingConfig(top_k=1), max_tokens=12))
    with torch.inference_mode():
        logits = decoder(x["text"], None, torch.tensor([tokens]), None, x["prefix"])
    best = (logits + decoder.forbidden).argmax(dim=-1)[0].tolist()
    assert best[: len(tokens)] == tokens


def test_noise_and_dropout_only_in_training():
    decoder, x = make(dropout=0.0, token_noise=0.5), inputs()
    args = (x["text"], None, x["tokens"], None, x["prefix"])
    with torch.no_grad():
        clean = decoder(*args)
        torch.testing.assert_close(decoder(*args), clean)
        assert not torch.allclose(decoder.train()(*args), clean)
        noisy = decoder._inputs(x["tokens"], torch.ones_like(x["tokens"], dtype=torch.bool))
    assert (noisy[:, 0] == decoder.sos).all() and int(noisy[:, 1:].max()) < 20


def test_loss_reaches_every_part():
    decoder, x = make(), inputs()
    decoder.train().loss(x["text"], None, x["tokens"], None, x["prefix"]).loss.backward()
    untouched = {n for n, p in decoder.named_parameters() if p.grad is None}
    last = f"prefix.layers.{CFG.layers - 1}."
    assert untouched == {
        last + name
        for name in (
            "self_attn.o_proj.weight",
            "mlp.gate_proj.weight",
            "mlp.up_proj.weight",
            "mlp.down_proj.weight",
            "post_attention_layernorm.weight",
        )
    }  # the prefix leaves only keys and values
    assert not decoder.embedding.weight.grad[decoder.pad].any()


def test_width_and_heads_must_fit():
    with pytest.raises(ConfigError, match="dim 30"):
        SpeechDecoder(replace(CFG, dim=30))


def test_a_new_pre_network_changes_nothing_and_learns():
    torch.manual_seed(0)
    decoder, text = SpeechDecoder(CFG), inputs()["text"]
    assert torch.equal(decoder.read_text(text), text)
    decoder.read_text(text).square().sum().backward()
    for layer in decoder.pre_network.blocks:
        assert layer.self_attn.o_proj.weight.grad.any() and layer.mlp.down_proj.weight.grad.any()
