"""Sampling, text clean-up, segmenting and the speech decoder against the published engine."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from rounding import bounds, near, roundings
from torch import Tensor

from fo_core.dialogue.speech.segmenter import OFFICIAL_OFFLINE, OFFICIAL_SERVER, Segment, Segmenter
from fo_core.models.compat.speech_decoder import OfficialSpeechDecoder
from fo_core.models.decoder.speech_decoder import SpeechDecoder, SpeechDecoderConfig
from fo_core.sampling import SamplingConfig, filter_logits
from fo_core.text import speakable

RUNS = ("run_a", "run_b", "run_c")
NAMES = {
    "layers_pre_nn.": "pre_network.layers.",
    "layers_prefix.": "prefix.layers.",
    "layers.": "decoder.layers.",
    "out_fnn.": "out.",
}


def exact(decoder: SpeechDecoder) -> SpeechDecoder:
    """A float64 copy."""
    return copy.deepcopy(decoder).double()


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    return {}


@pytest.fixture
def tokenizer(golden_variant, tokenizers):
    name = golden_variant.name
    if name not in tokenizers:
        from transformers import AutoTokenizer

        tokenizers[name] = AutoTokenizer.from_pretrained(golden_variant.root / "ckpt" / "llm")
    return tokenizers[name]


def make_decoder(variant) -> SpeechDecoder:
    args = variant.decoder_json
    config = SpeechDecoderConfig(
        dim=args["idim"],
        codes=args["odim"],
        heads=args["transformer_attention_heads"],
        ffn=args["transformer_linear_units"],
        layers=args["transformer_num_blocks"],
        prefix=bool(args["kv_cache_prefix_finetune"]),
        compat="official",
    )
    state = {}
    for name, value in variant.state_dict("decoder").items():
        old = next((o for o in NAMES if name.startswith(o)), "")
        state[NAMES.get(old, "") + name.removeprefix(old)] = value
    decoder = OfficialSpeechDecoder(config)
    decoder.load_state_dict(state)
    return decoder.eval()


@pytest.fixture(scope="module")
def decoders() -> dict[str, SpeechDecoder]:
    return {}


@pytest.fixture
def decoder(golden_variant, decoders) -> SpeechDecoder:
    name = golden_variant.name
    if name not in decoders:
        decoders[name] = make_decoder(golden_variant)
    return decoders[name]


def segments(variant, tokenizer, name: str) -> list[Segment]:
    run = variant.run(name)
    ids = run["gen_ids"].tolist()
    if run.json["gen"]["ended_by_eod"]:
        ids = ids[:-1]
    segmenter = Segmenter(tokenizer, OFFICIAL_SERVER if name == "run_c" else OFFICIAL_OFFLINE)
    found = segmenter.run(ids)
    assert segmenter.text == run.json["whole_text"]
    return found


def test_filter(golden_variant):
    units = golden_variant.units
    for index, setting in enumerate(golden_variant.units_json["filter"]):
        probs = filter_logits(
            units["filter.logits"],
            SamplingConfig(setting["temperature"], setting["top_k"], setting["top_p"]),
            "official",
        )
        expected = units[f"filter.{index}"]
        near(probs, expected, roundings(8, expected))  # softmax, and at most two sums to 1
        assert int((probs > 0).sum()) == setting["support"]


def test_clean_up(golden_variant, tokenizer):
    for case in golden_variant.units_json["post_process"]:
        assert speakable(case["text"], "official") == case["out"]
        assert tokenizer.encode(case["out"], add_special_tokens=False) == case["ids"]


@pytest.mark.parametrize("name", RUNS)
def test_segments(golden_variant, tokenizer, name):
    if not golden_variant.run_json(name).get("sentences"):
        pytest.skip("nothing was generated in this run")
    found = segments(golden_variant, tokenizer, name)
    expected = golden_variant.run_json(name)["sentences"]
    assert [(s.text_raw, s.text, s.token_ids, s.stop - s.start) for s in found] == [
        (s["text_raw"], s["text_post"], s["text_ids"], s["n_hidden_states"]) for s in expected
    ]


@torch.inference_mode()
def inputs_read(decoder: SpeechDecoder, variant) -> dict[str, Tensor]:
    """Text vectors alone and in a batch, and the keys and values of a prefix."""
    units, dtype = variant.units, decoder.out.weight.dtype
    text = units["dec.hidden"].to(dtype)
    valid = torch.arange(9) < torch.tensor([[9], [5]])
    found = {"dec.pre_nn": decoder.read_text(text[:1])}
    found["dec.pre_nn_batch"] = decoder.read_text(text, valid)[valid]
    left = decoder.read_prefix(units["dec.prefix"][:1].to(dtype))
    assert (left is None) == (not variant.decoder_json["kv_cache_prefix_finetune"])
    if left is not None:
        for index in range(decoder.cfg.layers):
            found[f"dec.prefix_k{index}"] = left[0][index]
            found[f"dec.prefix_v{index}"] = left[1][index]
    return found


def test_pre_network_and_prefix(golden_variant, decoder):
    units, double = golden_variant.units, exact(decoder)
    valid = torch.arange(9) < torch.tensor([[9], [5]])
    allowed = bounds(lambda: inputs_read(double, golden_variant))
    for name, found in inputs_read(decoder, golden_variant).items():
        expected = units[name][valid] if name == "dec.pre_nn_batch" else units[name]
        near(found, expected, allowed[name], name)


@pytest.mark.parametrize("name", ["prefix", "no_prefix", "penalty", "penalty_long"])
def test_ar_tokens(golden_variant, decoder, name):
    units, case = golden_variant.units, golden_variant.units_json["ar"][name]
    row = slice(1, 2) if name == "penalty_long" else slice(0, 1)
    prefix = None if name == "no_prefix" else units["dec.prefix"][row]
    text = units["dec.hidden"][row]
    sampling = SamplingConfig(top_k=1, penalty=case["penalty"], window=case["penalty_window_size"])
    tokens = list(decoder.generate(text, prefix, sampling, max_tokens=case["max"]))
    assert tokens == case["tokens"]
    assert (len(tokens) < case["max"]) == case["stopped_by_eos"]

    near_logits(decoder, text, prefix, tokens, units[f"ar.{name}.logits"])


def near_logits(decoder, text, prefix, tokens, expected) -> None:
    """Logits of the first steps, before any penalty, are ``expected`` [n, S]."""
    double = exact(decoder)
    allowed = bounds(lambda: {"logits": raw_logits(double, text, prefix, tokens, len(expected))})
    near(raw_logits(decoder, text, prefix, tokens, len(expected)), expected, allowed["logits"])


@torch.inference_mode()
def raw_logits(decoder, text, prefix, tokens, count) -> Tensor:
    """[count, S] logits of the first steps, before any penalty."""
    dtype = decoder.out.weight.dtype
    state = decoder.prefill(text.to(dtype), None if prefix is None else prefix.to(dtype))
    rows = []
    for token in [decoder.sos, *tokens][:count]:
        logits, state = decoder.step(torch.tensor([token]), state)
        rows.append(logits[0])
    return torch.stack(rows)


@torch.inference_mode()
def losses(decoder: SpeechDecoder, units: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sum over the targets, and the logits where there is one."""
    batch = [units[f"loss.{k}"] for k in ("x", "x_lens", "y", "y_lens", "prefix", "prefix_lens")]
    batch = [x.to(decoder.out.weight.dtype) if x.is_floating_point() else x for x in batch]
    found, logits = decoder.loss(*batch), decoder(*batch)
    valid = torch.arange(logits.shape[1]) <= units["loss.y_lens"].unsqueeze(1)
    assert int(found.count) == int(valid.sum())
    return {"loss.value": found.total.reshape(1), "loss.logits": logits[valid]}


def test_loss(golden_variant, decoder):
    units, double = golden_variant.units, exact(decoder)
    allowed = bounds(lambda: losses(double, units))
    found = losses(decoder, units)
    near(found["loss.value"], units["loss.value"].reshape(1), allowed["loss.value"], "loss")
    valid = torch.arange(units["loss.logits"].shape[1]) <= units["loss.y_lens"].unsqueeze(1)
    near(found["loss.logits"], units["loss.logits"][valid], allowed["loss.logits"], "logits")


@pytest.mark.parametrize("name", RUNS)
def test_sentences(golden_variant, tokenizer, decoder, name):
    """Speech tokens of every sentence of a run, from its text ids and hidden states."""
    run = golden_variant.run(name)
    if not run.json.get("sentences"):
        pytest.skip("nothing was generated in this run")
    table = golden_variant.state_dict("llm")["model.embed_tokens.weight"]
    dim = decoder.cfg.dim
    for index, segment in enumerate(segments(golden_variant, tokenizer, name)):
        record = run.json["sentences"][index]
        text = table[segment.token_ids].reshape(1, -1, dim)
        prefix = run["gen_hidden"][segment.start : segment.stop].reshape(1, -1, dim)
        assert text.shape[1] == record["hidden_vectors"]
        assert prefix.shape[1] == record["prefix_vectors"]
        assert torch.equal(text[0, :4], run[f"s{index}.hidden_head"])
        assert torch.equal(prefix[0, :4], run[f"s{index}.prefix_head"])
        params = record["params"]
        sampling = SamplingConfig(
            top_k=1, penalty=params["penalty"], window=params["penalty_window_size"]
        )
        tokens = list(decoder.generate(text, prefix, sampling))
        assert tokens == run[f"s{index}.speech_tokens"].tolist()
        near_logits(decoder, text, prefix, tokens, run[f"s{index}.logits_head"])
