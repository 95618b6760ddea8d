"""The listening side against the reference tensors: features, encoder, adapter, chunk by chunk."""

from __future__ import annotations

import json
from typing import Any

import pytest
import soundfile
import torch

from fo_core.convert.keymap import ADAPTER, ENCODER
from fo_core.features import KaldiFbank
from fo_core.models.adapter import ConvAdapter, ConvAdapterConfig
from fo_core.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig

FLOAT32 = 4e-5  # v3 amplifies rounding: 4e-6 in float64, up to 2e-5 in float32 by a CPU's kernels


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> bool:
    assert found.shape == expected.shape
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


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
    found = SpeechEncoder(
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


def test_features_of_the_recording(golden_variant: Any) -> None:
    wave, rate = soundfile.read(golden_variant.input_wave, dtype="float32")
    assert rate == 16000
    expected = golden_variant.fbank("a")
    extractor = KaldiFbank()
    sound = torch.from_numpy(wave)[None]
    assert close(extractor(sound), expected[:, 3:].flatten(0, 1)[None])
    sound = torch.nn.functional.pad(sound, (0, -sound.shape[1] % 2560))
    state, context = extractor.init_state(1), torch.zeros(3, 80)
    for piece, chunk in zip(sound.split(2560, 1), expected, strict=True):
        feats, state = extractor.step(piece, state)
        assert close(torch.cat([context, feats[0]]), chunk)
        context = feats[0, -3:]


def test_normalisation(golden_variant: Any, encoder: SpeechEncoder) -> None:
    assert close(encoder.cmvn.mean, golden_variant.units["cmvn.mean"], 1e-7)
    assert close(encoder.cmvn.istd, golden_variant.units["cmvn.istd"], 1e-7)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float32, FLOAT32)], ids=str
)
def test_encoder_over_whole_utterances(
    golden_variant: Any, encoder: SpeechEncoder, dtype: torch.dtype, tolerance: float
) -> None:
    encoder.to(dtype)
    units = golden_variant.units
    real = units["enc.mask"].bool()[:, 0]
    settings = {"default": (None, None), **golden_variant.units_json["encoder_forward"]}
    for name, (chunk, left) in settings.items():
        y, lens = encoder(units["enc.x"].to(dtype), units["enc.lens"], chunk, left, context=False)
        assert lens.tolist() == real.sum(1).tolist()
        assert close(y[real], units[f"enc.{name}.y"][real], tolerance), name


@torch.inference_mode()
@pytest.mark.parametrize(("name", "hop"), [("infer", 16), ("infer8", 32)])
def test_encoder_streaming(
    golden_variant: Any, encoder: SpeechEncoder, name: str, hop: int
) -> None:
    x = golden_variant.units["enc.x"][:1]
    state, parts = encoder.init_state(1), []
    state.context = x[:, :3]
    for piece in x[:, 3:].split(hop, 1):
        y, state = encoder.step(piece, state)
        parts.append(y)
    assert close(torch.cat(parts, 1), golden_variant.units[f"enc.{name}.y"], FLOAT32)
    if name == "infer8":
        assert int(state.position) == golden_variant.units_json["infer8_pe_index_end"]


@torch.inference_mode()
def test_encoder_when_the_position_counter_wraps(
    golden_variant: Any, encoder: SpeechEncoder
) -> None:
    chunks, counters = golden_variant.fbank("a"), golden_variant.units_json["wrap_pe_after"]
    frames = torch.cat([chunks[0], chunks[1:, 3:].flatten(0, 1)])[None]
    state, parts, found = encoder.init_state(1), [], []
    state.position = torch.tensor([golden_variant.units_json["wrap_pe_start"]])
    for call in range(len(counters)):
        start = 16 * (call % 20)
        state.context = frames[:, start : start + 3]
        y, state = encoder.step(frames[:, start + 3 : start + 19], state)
        parts.append(y)
        found.append(int(state.position))
    assert found == counters
    assert close(torch.cat(parts), golden_variant.units["enc.wrap.y"])


@torch.inference_mode()
def test_adapter(golden_variant: Any, adapter: ConvAdapter) -> None:
    units = golden_variant.units
    real = units["ad.mask"].bool()[:, 0]
    y, lens = adapter(units["ad.x"], real.sum(1))
    real = units["ad.mask_out"].bool()[:, 0]
    assert lens.tolist() == real.sum(1).tolist()
    assert close(y[real], units["ad.y"][real])
    state, parts = adapter.init_state(1), []
    for piece in units["ad.x"][:1].split(4, 1):
        y, _, state = adapter.step(piece, state)
        parts.append(y)
    assert close(torch.cat(parts, 1), units["ad.stream.y"])
    for i, cache in enumerate(state.caches):
        assert close(cache, units[f"ad.stream.cache{i}"])


@torch.inference_mode()
@pytest.mark.parametrize("run", ["a", "b"])
def test_runs_chunk_by_chunk(
    golden_variant: Any, encoder: SpeechEncoder, adapter: ConvAdapter, run: str
) -> None:
    expected = golden_variant.run(f"run_{run}")
    encoded, adapted = encoder.init_state(1), adapter.init_state(1)
    count = expected["enc_out"].shape[0]
    ys, embeds = [], []
    for chunk in golden_variant.fbank(run)[:count]:
        y, encoded = encoder.step(chunk[None, 3:], encoded)
        embed, _, adapted = adapter.step(y, adapted)
        ys.append(y)
        embeds.append(embed)
    assert close(torch.cat(ys), expected["enc_out"])
    assert close(torch.cat(embeds), expected["adapter_out"])
