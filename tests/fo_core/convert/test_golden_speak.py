"""Sampling, text clean-up, segmenting and the speech decoder against the published engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fo_core.dialogue.segmenter import OFFICIAL_OFFLINE, OFFICIAL_SERVER, Segment, Segmenter
from fo_core.models.speech_decoder import SpeechDecoder, SpeechDecoderConfig
from fo_core.sampling import SamplingConfig, filter_logits
from fo_core.text import speakable

RUNS = ("run_a", "run_b", "run_c")
NAMES = {
    "layers_pre_nn.": "pre_network.layers.",
    "layers_prefix.": "prefix.layers.",
    "layers.": "decoder.layers.",
    "out_fnn.": "out.",
}


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


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
    decoder = SpeechDecoder(config)
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
            temperature=setting["temperature"],
            top_k=setting["top_k"],
            top_p=setting["top_p"],
            compat="official",
        )
        close(probs, units[f"filter.{index}"], 1e-6)
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


def test_pre_network(golden_variant, decoder):
    units = golden_variant.units
    with torch.inference_mode():
        close(decoder.read_text(units["dec.hidden"][:1]), units["dec.pre_nn"], 1e-5)
        valid = torch.arange(9) < torch.tensor([[9], [5]])
        batch = decoder.read_text(units["dec.hidden"], valid)
        close(batch[valid], units["dec.pre_nn_batch"][valid], 1e-5)


def test_prefix(golden_variant, decoder):
    units = golden_variant.units
    with torch.inference_mode():
        left = decoder.read_prefix(units["dec.prefix"][:1])
    if not golden_variant.decoder_json["kv_cache_prefix_finetune"]:
        assert left is None
        return
    assert left is not None
    for index in range(decoder.cfg.layers):
        close(left[0][index], units[f"dec.prefix_k{index}"], 1e-5)
        close(left[1][index], units[f"dec.prefix_v{index}"], 1e-5)


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

    expected = units[f"ar.{name}.logits"]
    close(raw_logits(decoder, text, prefix, tokens, len(expected)), expected, 1e-4)


@torch.inference_mode()
def raw_logits(decoder, text, prefix, tokens, count) -> torch.Tensor:
    """[count, S] logits of the first steps, before any penalty."""
    state, rows = decoder.prefill(text, prefix), []
    for token in [decoder.sos, *tokens][:count]:
        logits, state = decoder.step(torch.tensor([token]), state)
        rows.append(logits[0])
    return torch.stack(rows)


def test_loss(golden_variant, decoder):
    units = golden_variant.units
    batch = [units[f"loss.{k}"] for k in ("x", "x_lens", "y", "y_lens", "prefix", "prefix_lens")]
    with torch.inference_mode():
        found, logits = decoder.loss(*batch), decoder(*batch)
    close(found.total, units["loss.value"].squeeze(), 1e-3)
    valid = torch.arange(logits.shape[1]) <= units["loss.y_lens"].unsqueeze(1)
    assert int(found.count) == int(valid.sum())
    close(logits[valid], units["loss.logits"][valid], 1e-4)


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
        close(text[0, :4], run[f"s{index}.hidden_head"], 1e-6)
        close(prefix[0, :4], run[f"s{index}.prefix_head"], 1e-6)
        params = record["params"]
        sampling = SamplingConfig(
            top_k=1, penalty=params["penalty"], window=params["penalty_window_size"]
        )
        tokens = list(decoder.generate(text, prefix, sampling))
        assert tokens == run[f"s{index}.speech_tokens"].tolist()
        expected = run[f"s{index}.logits_head"]
        close(raw_logits(decoder, text, prefix, tokens, len(expected)), expected, 1e-4)
