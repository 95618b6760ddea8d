"""Codec, quantiser and streaming synthesis against the published engine."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from rounding import bounds, near, pcm16, roundings
from torch import Tensor

from fo_core.dialogue.speech.vocoder import Vocoder, VocoderConfig, cut_point
from fo_core.models.codec.quantizer import Quantizer, QuantizerConfig
from fo_core.models.codec.ticodec import TiCodec, TiCodecConfig

GROUPS = {"quantizer_modules": "quantizer", "quantizer_modules_globaltokens": "global_quantizer"}


def exact(codec: TiCodec) -> TiCodec:
    """A float64 copy."""
    return copy.deepcopy(codec).double()


def renamed(name: str) -> str | None:
    """Our name of a published codec tensor; None for the one layer that nothing uses."""
    group, rest = name.split(".", 1)
    if group == "quantizer":
        table, index, _ = rest.split(".", 2)
        return f"{GROUPS[table]}.codebooks.{index}.weight"
    if rest.startswith("linear."):
        return None
    return f"{group}.{rest.replace('GlobalTokenEncoder', 'global_encoder')}"


@pytest.fixture(scope="module")
def codecs() -> dict[str, TiCodec]:
    return {}


@pytest.fixture
def codec(golden_variant, codecs) -> TiCodec:
    if golden_variant.name not in codecs:
        j = golden_variant.codec_json
        config = TiCodecConfig(
            resblock=j["resblock"],
            rates=j["upsample_rates"],
            kernels=j["upsample_kernel_sizes"],
            width=j["upsample_initial_channel"],
            block_kernels=j["resblock_kernel_sizes"],
            block_dilations=j["resblock_dilation_sizes"],
            voice="stage128",
            global_hidden=j["global_feature_conv"][1],
            global_kernel=j["global_feature_conv"][3],
            quantizer=QuantizerConfig(dim=512, codes=j["n_codes"]),
            global_quantizer=QuantizerConfig(
                dim=128, codes=j["n_codes"], groups=j["global_code_num"]
            ),
        )
        made = TiCodec(config)
        state = {renamed(k): v for k, v in golden_variant.state_dict("codec").items()}
        state.pop(None, None)
        made.load_state_dict(state)
        codecs[golden_variant.name] = made.eval().fold_weight_norm()
    return codecs[golden_variant.name]


@pytest.fixture
def voice(golden_variant) -> Tensor:
    return torch.tensor([[golden_variant.codec_json["global_tokens"]]])  # [1, 1, G]


def encoded(codec: TiCodec, wave: Tensor) -> dict[str, Tensor]:
    """What the quantisers are given: the first six frames, and the whole."""
    frames, whole = codec.encoder(wave.to(next(codec.parameters())))
    return {"codec.feat": frames[:, :6].transpose(1, 2), "codec.global_feat": whole[:, 0]}


def test_encoding(golden_variant, codec):
    units, double = golden_variant.units, exact(codec)
    wave = units["codec.wav"].float()[None] / 32768
    allowed = bounds(lambda: encoded(double, wave))
    for name, found in encoded(codec, wave).items():
        near(found, units[name], allowed[name], name)
    for size, ending in ((24000, ""), (13000, "_13000")):
        tokens, global_tokens = codec.encode(wave[:, :size])
        assert torch.equal(tokens, units[f"codec.tokens{ending}"])
        assert torch.equal(global_tokens, units[f"codec.global{ending}"])


def decoded(codec: TiCodec, units: dict[str, Tensor], voice: Tensor) -> dict[str, Tensor]:
    """Waves of the recorded tokens, in the recorded and in the configured voice."""
    tokens = units["codec.tok_in"].unsqueeze(-1)  # [1, 23, 1]
    vectors = codec.quantizer.decode(tokens)
    return {
        "codec.decode": codec.decode(units["codec.tokens"], units["codec.global"])[0],
        "codec.decode_default": codec.decode(tokens, voice)[0],
        "codec.pre": codec.generator.conv_pre(vectors.transpose(1, 2)),
    }


def test_decoding(golden_variant, codec, voice):
    units, double = golden_variant.units, exact(codec)
    allowed = bounds(lambda: decoded(double, units, voice))
    for name, found in decoded(codec, units, voice).items():
        near(found, units[name], allowed[name], name)


@pytest.mark.parametrize("name", ["rvq22", "rvq41"])
def test_residual_quantiser(golden_variant, golden_normal, name):
    spec, units = golden_variant.units_json["rvq"], golden_variant.units
    layers, groups = spec[name]["residul_layer"], spec[name]["n_code_groups"]
    codes, global_groups = spec["n_codes"], spec["global_code_num"]

    def made(key: str, *shape: int, scale: float = 1.0) -> Tensor:
        values = scale * golden_normal(spec["seed"], f"{name}.{key}", math.prod(shape))
        return torch.from_numpy(values).float().reshape(shape)

    def fill(quantizer: Quantizer, layer: int, table: str) -> None:
        count = quantizer.cfg.groups
        for i in range(count):
            weight = quantizer.codebooks[layer * count + i].weight
            key = f"{table}.{i}.embedding.weight"
            weight.data = made(key, *weight.shape, scale=spec["scale"])

    frames = Quantizer(QuantizerConfig(dim=512, codes=codes, groups=groups, layers=layers)).eval()
    for layer in range(layers):
        fill(frames, layer, f"quantizer_modules{layer + 1 if layer else ''}")
    whole = Quantizer(QuantizerConfig(dim=128, codes=codes, groups=global_groups)).eval()
    fill(whole, 0, "quantizer_modules_globaltokens")

    x = frames(made("x", 1, 512, 6).transpose(1, 2))
    g = whole(made("g", 1, 128).unsqueeze(1))
    assert torch.equal(x.tokens, units[f"{name}.codes"])
    assert torch.equal(g.tokens[:, 0], units[f"{name}.global_codes"])
    size = 512 // groups  # numbers behind a mean
    for found, ending in ((x.vectors, "zq_mean"), (frames.decode(x.tokens), "embed_mean")):
        expected = units[f"{name}.{ending}"]
        near(found.mean(-1), expected, roundings(layers * math.sqrt(512), found), ending)
    # The published weights: codebook 1, commitment 0.25.
    loss = sum(q.codebook_loss + 0.25 * q.commitment_loss for q in (x, g))
    expected = units[f"{name}.vq_loss"]
    near(loss.reshape(1), expected, roundings(math.sqrt(size * layers) + 4, expected), "loss")


def test_cut_points(golden_variant):
    units = golden_variant.units
    for i, case in enumerate(golden_variant.units_json["segment"]):
        x, held = units[f"seg{i}.x"], units[f"seg{i}.buffer"]
        cut = cut_point(x, case["N"], case["threshold"], compat=True)
        if cut is None:
            assert case["out"] is None and len(held) + len(x) == case["buffer_out"]
        else:
            assert (len(held) + cut, len(x) - cut) == (case["out"], case["buffer_out"])


def speak(codec, voice, run, sentence: int) -> tuple[list[Tensor], list[int]]:
    """The pieces of one recorded sentence, and how many tokens each codec call had."""
    params = run.json["sentences"][sentence]["params"]
    config = VocoderConfig(
        first_chunk=params["codec_chunk_size"],
        chunk=params["codec_chunk_size"],
        overlap=params["codec_padding_size"],
        cut_window=params["N"],
        first_threshold=params["seg_threshold"],
        threshold=params["seg_threshold"],
        compat=True,
    )
    vocoder = Vocoder(codec, voice, config)
    state = vocoder.init_state()
    pieces, calls = [], []
    for token in run[f"s{sentence}.speech_tokens"].tolist():
        waiting = len(state.tokens) + 1
        new, state = vocoder.step(token, state)
        pieces += new
        if len(state.tokens) < waiting:
            calls.append(waiting)
    if state.tokens:
        calls.append(len(state.tokens))
    return pieces + vocoder.flush(state), calls


@pytest.mark.parametrize("name", ["run_a", "run_b", "run_c"])
def test_recorded_runs(golden_variant, codec, voice, name):
    run = golden_variant.run(name)
    pieces = []
    for i, sentence in enumerate(run.json["sentences"]):
        new, calls = speak(codec, voice, run, i)
        assert calls == [call["n_tokens"] for call in sentence["codec_calls"]]
        assert [len(piece) for piece in new] == sentence["yields"]
        pieces += new
    if "wave" in run.tensors:
        tokens = [run[f"s{i}.speech_tokens"] for i in range(len(run.json["sentences"]))]
        double = exact(codec)
        allowed = bounds(lambda: {"wave": double.decode(torch.cat(tokens).view(1, -1, 1), voice)})
        near(torch.cat(pieces), run["wave"], allowed["wave"])
    if "sent_lens" in run.json and pieces:  # the server trims the onset and sends int16
        config = VocoderConfig.official(**golden_variant.server_json)
        pieces[0] = Vocoder(codec, voice, config).trim_onset(pieces[0])
        assert [len(piece) for piece in pieces] == run.json["sent_lens"]
        sent = torch.cat([pcm16(piece) for piece in pieces]).int()
        assert (sent - run["pcm"].int()).abs().max() <= 1


def test_server_settings_give_the_recorded_chunks(golden_variant):
    config = VocoderConfig.official(**golden_variant.server_json)
    for i, sentence in enumerate(golden_variant.run("run_c").json["sentences"]):
        params = sentence["params"]
        assert params["codec_chunk_size"] == (config.chunk if i else config.first_chunk)
        assert params["codec_padding_size"] == config.overlap
        assert params["seg_threshold"] == (config.threshold if i else config.first_threshold)
