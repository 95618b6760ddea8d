"""The paper's encoder: the stream equals the whole, for every chunk setting and length."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from states import cat_states, take_rows

from fo_core.errors import ConfigError
from fo_core.layers.conv import pack_convolutions
from fo_core.layers.packed import pack_linears
from fo_core.models.compat.speech_encoder import OfficialSpeechEncoder
from fo_core.models.encoder.speech_encoder import SpeechEncoder, SpeechEncoderConfig

TINY = SpeechEncoderConfig(dim=16, heads=2, ffn=24, layers=2, left=3)


def make(**changes: object) -> SpeechEncoder:
    torch.manual_seed(0)
    cfg = dataclasses.replace(TINY, **changes)
    kind = OfficialSpeechEncoder if cfg.compat == "official" else SpeechEncoder
    return kind(cfg).eval()  # type: ignore[arg-type]


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-5 * b.abs().max())


def stream(
    encoder: SpeechEncoder, feats: torch.Tensor, size: int = 16, chunk: int | None = None
) -> torch.Tensor:
    state, parts = encoder.init_state(feats.shape[0], chunk), []
    for piece in feats.split(size, 1):
        y, state = encoder.step(piece, state)
        parts.append(y)
    return torch.cat(parts, 1)


FORMS = [
    {},
    {"norm_first": False, "concat_after": True, "input_layer": "none"},
    {"concat_after": True, "heads": 1},
]


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS, ids=["paper", "post-norm", "concat"])
@pytest.mark.parametrize(("chunk", "left"), [(4, 3), (4, 0), (4, -1), (1, 6), (5, 2)])
def test_stream_equals_whole_with_padding(chunk: int, left: int, form: dict) -> None:
    encoder = make(chunk=chunk, left=left, **form)
    feats = torch.randn(2, 20 * 12, 80)
    feats[1, 120:] = 0
    whole, lens = encoder(feats, torch.tensor([240, 120]))
    assert lens.tolist() == [60, 30]
    parts = stream(encoder, feats, 4 * chunk)
    assert close(parts[0], whole[0])
    end = 30 // chunk * chunk  # in the chunk of the end the stream sees padding as sound
    assert close(parts[1, :end], whole[1, :end])


@torch.no_grad()
def test_several_chunks_in_one_step_and_another_chunk_than_the_configs() -> None:
    encoder = make()
    feats = torch.randn(1, 192, 80)
    assert close(stream(encoder, feats, 96), encoder(feats)[0])
    assert close(stream(encoder, feats, 32, chunk=8), encoder(feats, None, 8)[0])


@torch.no_grad()
def test_long_talks_with_labels_that_start_again_and_beyond_the_kept_table() -> None:
    encoder = make(positions=1100)
    feats = torch.randn(1, 4 * 1200, 80)
    assert close(stream(encoder, feats, 64), encoder(feats)[0])


@torch.no_grad()
def test_sessions_of_different_ages_share_a_batch() -> None:
    for compat in ("none", "official"):
        encoder = make(compat=compat)
        feats = torch.randn(2, 160, 80)
        older, expected = encoder.init_state(1), []
        for piece in feats[:1, :80].split(16, 1):
            _, older = encoder.step(piece, older)
        both = cat_states([older, encoder.init_state(1)])
        younger = encoder.init_state(1)
        for i in range(5):
            pieces = feats[:1, 80 + 16 * i : 96 + 16 * i], feats[1:, 16 * i : 16 * i + 16]
            y, both = encoder.step(torch.cat(pieces), both)
            y0, older = encoder.step(pieces[0], older)
            y1, younger = encoder.step(pieces[1], younger)
            assert close(y, torch.cat([y0, y1]))
            expected.append(y1)
        alone, _ = encoder.step(feats[1:, 80:96], take_rows(both, 1, 2))
        assert close(alone, encoder.step(feats[1:, 80:96], younger)[0])


@torch.no_grad()
def test_a_step_leaves_the_old_state_as_a_snapshot() -> None:
    for compat in ("none", "official"):
        encoder = make(compat=compat)
        feats, state = torch.randn(1, 160, 80), encoder.init_state(1)
        for piece in feats[:, :80].split(16, 1):
            _, state = encoder.step(piece, state)
        first, _ = encoder.step(feats[:, 80:96], state)
        _, other = encoder.step(feats[:, 96:112], state)
        encoder.step(feats[:, 112:128], other)
        assert torch.equal(encoder.step(feats[:, 80:96], state)[0], first)


def test_left_context_and_state_stay_bounded() -> None:
    encoder = make()
    state = encoder.init_state(1)
    before = state.caches[0].keys.shape
    with torch.inference_mode():
        for _ in range(8):
            _, state = encoder.step(torch.randn(1, 16, 80), state)
    assert state.caches[0].keys.shape == before == (1, 2, 12, 16)
    assert state.context.shape == (1, 3, 80) and state.position.tolist() == [32]


def test_padding_does_not_reach_real_frames_and_gradients_are_finite() -> None:
    encoder = make().train()
    feats, lens = torch.randn(2, 96, 80), torch.tensor([96, 40])
    encoder(feats, lens)[0][1, :10].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    assert all(p.grad is not None for p in encoder.parameters())
    encoder.eval()
    other = feats.clone()
    other[1, 48:] = 9
    a, b = encoder(feats, lens, -1, -1)[0], encoder(other, lens, -1, -1)[0]
    assert torch.allclose(a[1, :9], b[1, :9], atol=1e-6)


@torch.inference_mode()
def test_packed_for_inference_gives_the_same_stream() -> None:
    encoder = make(dim=128, ffn=256)
    feats = torch.randn(1, 192, 80)
    expected = stream(encoder, feats)
    pack_convolutions(pack_linears(encoder))
    assert close(stream(encoder, feats), expected)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="heads"):
        make(heads=3)
    with pytest.raises(ConfigError, match="chunk"):
        make(chunk=0)
