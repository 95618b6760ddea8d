"""The light codec: bounded reach, inverse STFT, and that it learns."""

from __future__ import annotations

import math

import pytest
import torch

from fo_core.errors import ConfigError
from fo_core.models.codec.istft_codec import LOG_SCALE, IstftCodec, IstftCodecConfig, IstftHead
from fo_core.training.losses.codec import CodecLossConfig, CodecLosses


def small(**fields) -> IstftCodec:
    torch.manual_seed(0)
    sizes = {"encoder_dim": 32, "token_dim": 48, "frame_dim": 32}
    return IstftCodec(IstftCodecConfig(**{**sizes, **fields}))


def test_chunks_with_ten_tokens_of_context_equal_the_whole():
    codec = small().eval()
    assert codec.cfg.reach <= 10
    tokens, voice = torch.randint(0, 1024, (1, 60, 1)), torch.zeros(1, 1, 8, dtype=torch.long)
    whole = codec.decode(tokens, voice)
    part = codec.decode(tokens[:, 15:55], voice, keep=(10, 30))  # tokens 25 .. 45
    torch.testing.assert_close(part, whole[:, 25 * 600 : 45 * 600], atol=1e-5, rtol=1e-4)


def test_reach_is_as_far_as_samples_depend():
    codec = small().eval()
    voice = torch.zeros(1, 1, 8, dtype=torch.long)
    tokens = torch.zeros(1, 41, 1, dtype=torch.long)
    base = codec.decode(tokens, voice)
    tokens[0, 20] = 700
    changed = (codec.decode(tokens, voice) - base).abs()[0].view(41, 600).amax(1) > 0
    first, last = changed.nonzero().flatten()[[0, -1]].tolist()
    assert 20 - codec.cfg.reach <= first < 20 < last <= 20 + codec.cfg.reach


@pytest.mark.parametrize("hop, n_fft", [(150, 600), (100, 400), (200, 400)])
def test_head_inverts_the_transform(hop, n_fft):
    """Fed with the true magnitudes and phases, the head gives the wave back."""
    torch.manual_seed(0)
    frames = 24
    wave = torch.randn(1, frames * hop)
    head = IstftHead(n_fft + 2, n_fft, hop)
    pad = (n_fft - hop) // 2
    padded = torch.nn.functional.pad(wave, (pad, n_fft))
    spectrum = torch.stft(
        padded, n_fft, hop, window=head.window, center=False, return_complex=True
    )[:, :, :frames].transpose(1, 2)
    magnitude = spectrum.abs().clamp(min=1e-7).log() / LOG_SCALE
    polar = torch.cat([magnitude, spectrum.angle()], -1)
    with torch.no_grad():
        head.out.weight.copy_(torch.eye(n_fft + 2))
        head.out.bias.zero_()
    inside = slice(n_fft, frames * hop - n_fft)
    torch.testing.assert_close(head(polar)[:, inside], wave[:, inside], atol=1e-3, rtol=1e-3)


def test_it_learns_a_sound():
    codec = small(encoder_blocks=1, token_blocks=1, frame_blocks=1).train()
    losses = CodecLosses(CodecLossConfig(windows=[512], mels=[40]))
    time = torch.arange(12000) / 24000
    wave = (0.3 * torch.sin(2 * math.pi * 220 * time) * (time % 0.1 < 0.07))[None]
    optimizer = torch.optim.AdamW([p for p in codec.parameters() if p.requires_grad], lr=2e-3)
    first = last = 0.0
    for step in range(40):
        values = losses.generator_losses(codec(wave), wave, None)
        optimizer.zero_grad()
        torch.stack(list(values.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 5.0)
        optimizer.step()
        last = float(values["mel"].detach())
        first = first if step else last
    assert last < 0.6 * first


def test_sizes_that_do_not_fit_are_errors():
    with pytest.raises(ConfigError, match="does not divide"):
        IstftCodecConfig(hop=110)
    with pytest.raises(ConfigError, match="does not fit hop"):
        IstftCodecConfig(hop=150, n_fft=500)
