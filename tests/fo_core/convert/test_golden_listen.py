"""The input branch against the reference tensors: features, encoder, adapter, chunk by chunk."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from rounding import Bound, bounds, near, roundings
from torch import Tensor, nn

from fo_core.convert.keymap import ADAPTER, ENCODER
from fo_core.features import KaldiFbank
from fo_core.models.adapter.conv_adapter import ConvAdapter, ConvAdapterConfig
from fo_core.models.compat.speech_encoder import OfficialSpeechEncoder
from fo_core.models.encoder.speech_encoder import SpeechEncoder, SpeechEncoderConfig


def exact(module: nn.Module) -> Any:
    """A float64 copy."""
    return copy.deepcopy(module).double()


def tensors(variant: Any, rules: list, module: str) -> dict[str, torch.Tensor]:
    found = {}
    for name, tensor in variant.state_dict("audiollm").items():
        for rule in rules:
            ours = rule.to_ours(name)
            if ours is not None:
                assert rule.module == module
                found[ours] = tensor
                break
    return found


@pytest.fixture
def encoder(golden_variant: Any) -> SpeechEncoder:
    para = golden_variant.train_yaml["encoder_conf"]["para_conf"]["transformer"]
    found = OfficialSpeechEncoder(
        SpeechEncoderConfig(
            dim=para["transformer-attention-dim"],
            heads=para["transformer-attention-heads"],
            ffn=para["transformer-linear-units"],
            layers=para["transformer-num-blocks"],
            chunk=para["transformer-chunk_size"],
            left=para["transformer-left_chunks"],
            input_layer=para["transformer-input-layer"],
            norm_first=para["transformer-normalize-before"],
            concat_after=para["transformer-concat-after"],
            compat="official",
        )
    ).eval()
    path = golden_variant.root / "ckpt/checkpoints/audiollm/global_cmvn"
    cmvn = json.loads(path.read_text())
    total, squares = (torch.tensor(cmvn[k], dtype=torch.float64) for k in ("mean_stat", "var_stat"))
    found.cmvn.set_statistics(total, squares, cmvn["frame_num"])
    state = tensors(golden_variant, ENCODER, "speech_encoder")
    missing, unexpected = found.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"cmvn.mean", "cmvn.istd"}
    return found


@pytest.fixture
def adapter(golden_variant: Any) -> ConvAdapter:
    conf = golden_variant.train_yaml["model_conf"]
    cfg = ConvAdapterConfig(
        kernel=conf["kernel_size"], norm=conf["norm"], activation=conf["activation_func"]
    )
    found = ConvAdapter(cfg, conf["enc_out_dim"], conf["llm_embed_dim"]).eval()
    found.load_state_dict(tensors(golden_variant, ADAPTER, "adapter"))
    return found


@cache
def recording(path: Path) -> tuple[Tensor, Bound]:
    """The wave [1, S] that all variants heard, and the bound of its features."""
    wave, rate = soundfile.read(path, dtype="float32")
    assert rate == 16000
    sound = torch.from_numpy(wave)[None]
    # Made anew in each run: the filters are computed in float32, with a rounding of their own.
    return sound, bounds(lambda: {"frames": KaldiFbank().double()(sound)})["frames"]


def test_features_of_the_recording(golden_variant: Any) -> None:
    sound, bound = recording(golden_variant.input_wave)
    expected = golden_variant.fbank("a")
    extractor = KaldiFbank()
    near(extractor(sound), expected[:, 3:].flatten(0, 1)[None], bound, "whole")
    sound = torch.nn.functional.pad(sound, (0, -sound.shape[1] % 2560))
    state, context, chunks = extractor.init_state(1), torch.zeros(3, 80), []
    for piece in sound.split(2560, 1):
        feats, state = extractor.step(piece, state)
        chunks.append(torch.cat([context, feats[0]]))
        context = feats[0, -3:]
    near(torch.stack(chunks), expected, bound, "chunk by chunk")


def test_normalisation(golden_variant: Any, encoder: SpeechEncoder) -> None:
    for name in ("mean", "istd"):  # computed in double, then rounded once
        found, expected = getattr(encoder.cmvn, name), golden_variant.units[f"cmvn.{name}"]
        near(found, expected, roundings(2, expected), name)


def whole(encoder: SpeechEncoder, variant: Any) -> dict[str, Tensor]:
    """Both utterances with every pair of chunk settings, what is padding left out."""
    units = variant.units
    real, dtype = units["enc.mask"].bool()[:, 0], encoder.cmvn.mean.dtype
    settings = {"default": (None, None), **variant.units_json["encoder_forward"]}
    found = {}
    for name, (chunk, left) in settings.items():
        y, lens = encoder(units["enc.x"].to(dtype), units["enc.lens"], chunk, left, context=False)
        assert lens.tolist() == real.sum(1).tolist()
        found[name] = y[real]
    return found


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_encoder_over_whole_utterances(
    golden_variant: Any, encoder: SpeechEncoder, dtype: torch.dtype
) -> None:
    units = golden_variant.units
    allowed = bounds(lambda: whole(exact(encoder), golden_variant))
    real = units["enc.mask"].bool()[:, 0]
    for name, y in whole(encoder.to(dtype), golden_variant).items():
        near(y, units[f"enc.{name}.y"][real], allowed[name], name)


def streamed(encoder: SpeechEncoder, x: Tensor, hop: int) -> tuple[Tensor, int]:
    """Row 0 in hops, and the position counter at the end."""
    x, state, parts = x[:1].to(encoder.cmvn.mean), encoder.init_state(1), []
    state.context = x[:, :3]
    for piece in x[:, 3:].split(hop, 1):
        y, state = encoder.step(piece, state)
        parts.append(y)
    return torch.cat(parts, 1), int(state.position)


@torch.inference_mode()
@pytest.mark.parametrize(("name", "hop"), [("infer", 16), ("infer8", 32)])
def test_encoder_streaming(
    golden_variant: Any, encoder: SpeechEncoder, name: str, hop: int
) -> None:
    x, double = golden_variant.units["enc.x"], exact(encoder)
    allowed = bounds(lambda: {"y": streamed(double, x, hop)[0]})
    y, position = streamed(encoder, x, hop)
    near(y, golden_variant.units[f"enc.{name}.y"], allowed["y"])
    if name == "infer8":
        assert position == golden_variant.units_json["infer8_pe_index_end"]


def wrapped(encoder: SpeechEncoder, variant: Any) -> tuple[Tensor, list[int]]:
    """Calls around the end of the position counter, and the counter after each."""
    chunks, first = variant.fbank("a"), variant.units_json["wrap_pe_start"]
    frames = torch.cat([chunks[0], chunks[1:, 3:].flatten(0, 1)])[None].to(encoder.cmvn.mean)
    state, parts, found = encoder.init_state(1), [], []
    state.position = torch.tensor([first])
    for call in range(len(variant.units_json["wrap_pe_after"])):
        start = 16 * (call % 20)
        state.context = frames[:, start : start + 3]
        y, state = encoder.step(frames[:, start + 3 : start + 19], state)
        parts.append(y)
        found.append(int(state.position))
    return torch.cat(parts), found


@torch.inference_mode()
def test_encoder_when_the_position_counter_wraps(
    golden_variant: Any, encoder: SpeechEncoder
) -> None:
    double = exact(encoder)
    allowed = bounds(lambda: {"y": wrapped(double, golden_variant)[0]})
    y, counters = wrapped(encoder, golden_variant)
    assert counters == golden_variant.units_json["wrap_pe_after"]
    near(y, golden_variant.units["enc.wrap.y"], allowed["y"])


def adapted(adapter: ConvAdapter, variant: Any) -> dict[str, Tensor]:
    """Two rows at once, and the first one in pieces of four frames."""
    x = variant.units["ad.x"].to(next(adapter.parameters()))
    y, lens = adapter(x, variant.units["ad.mask"].bool()[:, 0].sum(1))
    real = variant.units["ad.mask_out"].bool()[:, 0]
    assert lens.tolist() == real.sum(1).tolist()
    state, parts = adapter.init_state(1), []
    for piece in x[:1].split(4, 1):
        part, _, state = adapter.step(piece, state)
        parts.append(part)
    caches = {f"ad.stream.cache{i}": cache for i, cache in enumerate(state.caches)}
    return {"ad.y": y[real], "ad.stream.y": torch.cat(parts, 1), **caches}


@torch.inference_mode()
def test_adapter(golden_variant: Any, adapter: ConvAdapter) -> None:
    double, units = exact(adapter), golden_variant.units
    allowed = bounds(lambda: adapted(double, golden_variant))
    real = units["ad.mask_out"].bool()[:, 0]
    for name, found in adapted(adapter, golden_variant).items():
        near(found, units[name][real] if name == "ad.y" else units[name], allowed[name], name)


def heard(encoder: SpeechEncoder, adapter: ConvAdapter, chunks: Tensor) -> dict[str, Tensor]:
    """Chunks [n, 19, 80] one after the other through both."""
    encoded, states = encoder.init_state(1), adapter.init_state(1)
    ys, embeds = [], []
    for chunk in chunks.to(encoder.cmvn.mean):
        y, encoded = encoder.step(chunk[None, 3:], encoded)
        embed, _, states = adapter.step(y, states)
        ys.append(y)
        embeds.append(embed)
    return {"enc_out": torch.cat(ys), "adapter_out": torch.cat(embeds)}


@torch.inference_mode()
@pytest.mark.parametrize("run", ["a", "b"])
def test_runs_chunk_by_chunk(
    golden_variant: Any, encoder: SpeechEncoder, adapter: ConvAdapter, run: str
) -> None:
    expected = golden_variant.run(f"run_{run}")
    chunks = golden_variant.fbank(run)[: expected["enc_out"].shape[0]]
    double = exact(encoder), exact(adapter)
    allowed = bounds(lambda: heard(*double, chunks))
    for name, found in heard(encoder, adapter, chunks).items():
        near(found, expected[name], allowed[name], name)
