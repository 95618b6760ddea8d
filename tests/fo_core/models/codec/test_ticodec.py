"""Both codec types keep one contract; details of the published one."""

from __future__ import annotations

import pytest
import torch

from fo_core.errors import ConfigError
from fo_core.models.codec.istft_codec import IstftCodec, IstftCodecConfig
from fo_core.models.codec.quantizer import QuantizerConfig
from fo_core.models.codec.ticodec import TiCodec, TiCodecConfig


def ticodec(**fields) -> TiCodec:
    torch.manual_seed(0)
    return TiCodec(
        TiCodecConfig(
            **{
                "width": 32,
                "block_kernels": [3],
                "block_dilations": [[1, 3, 5]],
                "global_hidden": 8,
                "quantizer": QuantizerConfig(dim=512, codes=32),
                "global_quantizer": QuantizerConfig(dim=128, codes=16, groups=4),
                **fields,
            }
        )
    )


def istft(**fields) -> IstftCodec:
    torch.manual_seed(0)
    sizes = {"encoder_dim": 32, "token_dim": 32, "frame_dim": 32}
    return IstftCodec(IstftCodecConfig(**{**sizes, **fields}))


@pytest.fixture(params=[ticodec, istft], ids=["ticodec", "istft"])
def codec(request):
    return request.param()


def test_shapes(codec):
    codec.eval()
    tokens, voice = codec.encode(0.1 * torch.randn(2, 6100))
    groups = codec.cfg.global_quantizer.groups
    assert tokens.shape == (2, 10, 1) and voice.shape == (2, 1, groups)
    assert int(tokens.max()) < codec.codes
    wave = codec.decode(tokens, voice)
    assert wave.shape == (2, 6000) and codec.hop == 600 and codec.sample_rate == 24000
    assert codec.encode(torch.randn(1, 30))[0].shape == (1, 1, 1)


def test_keeping_some_tokens_changes_no_sample(codec):
    codec.eval()
    tokens = torch.randint(0, 32, (1, 40, 1))
    voice = torch.zeros(1, 1, codec.cfg.global_quantizer.groups, dtype=torch.long)
    whole = codec.decode(tokens, voice)
    for keep in ((0, 12), (10, 30), (25, 40), (0, 40)):
        part = codec.decode(tokens, voice, keep)
        torch.testing.assert_close(part, whole[:, keep[0] * 600 : keep[1] * 600])


def test_training_pass_reaches_every_trainable_weight(codec):
    codec.train()
    wave = 0.1 * torch.randn(2, 6000)
    out = codec(wave)
    assert out.wave.shape == wave.shape
    loss = out.wave.square().mean() + out.codebook_loss + out.commitment_loss
    loss.backward()
    missing = [n for n, p in codec.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


def test_the_voice_is_heard(codec):
    codec.eval()
    tokens = torch.randint(0, 32, (1, 8, 1))
    groups = codec.cfg.global_quantizer.groups
    one = codec.decode(tokens, torch.zeros(1, 1, groups, dtype=torch.long))
    other = codec.decode(tokens, torch.full((1, 1, groups), 5))
    assert (one - other).abs().max() > 1e-6


def test_saved_weights_come_back(codec):
    twin = type(codec)(codec.cfg)
    twin.load_state_dict(codec.state_dict())
    tokens = torch.randint(0, 32, (1, 4, 1))
    voice = torch.zeros(1, 1, codec.cfg.global_quantizer.groups, dtype=torch.long)
    assert torch.equal(twin.eval().decode(tokens, voice), codec.eval().decode(tokens, voice))


@pytest.mark.parametrize("resblock", ["1", "2"])
def test_folded_weights_sound_the_same(resblock):
    codec = ticodec(resblock=resblock).eval()
    tokens, voice = codec.encode(0.1 * torch.randn(1, 6000))
    before = codec.decode(tokens, voice)
    codec.fold_weight_norm()
    assert not any("parametrizations" in name for name in codec.state_dict())
    torch.testing.assert_close(codec.decode(tokens, voice), before)


def test_published_rates_and_widths_are_checked():
    with pytest.raises(ConfigError, match="product 600"):
        TiCodecConfig(rates=[8, 5, 5, 2])
    with pytest.raises(ConfigError, match="both odd or both even"):
        TiCodecConfig(kernels=[16, 10, 11, 5])
    with pytest.raises(ConfigError, match="512 and 128"):
        TiCodecConfig(quantizer=QuantizerConfig(dim=64))
