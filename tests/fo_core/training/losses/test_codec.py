"""Codec losses: both objectives, both adversarial forms."""

from __future__ import annotations

import pytest
import torch

from fo_core.errors import ConfigError
from fo_core.models.codec.discriminators import Discriminators, DiscriminatorsConfig
from fo_core.models.codec.istft_codec import IstftCodec, IstftCodecConfig
from fo_core.models.codec.ticodec import TiCodec, TiCodecConfig
from fo_core.models.codec.token_codec import CodecOutput
from fo_core.training.losses.codec import (
    CodecLossConfig,
    CodecLosses,
    discriminator_adversarial,
    feature_distance,
    generator_adversarial,
)


def output(wave: torch.Tensor) -> CodecOutput:
    tokens = torch.zeros(1, 1, 1, dtype=torch.long)
    zero = torch.zeros(len(wave), 1, 8)
    return CodecOutput(wave, tokens, tokens, torch.tensor(0.5), torch.tensor(2.0), zero)


def judges() -> Discriminators:
    torch.manual_seed(0)
    return Discriminators(
        DiscriminatorsConfig(periods=[3], period_width=2, scales=0, windows=[256], window_width=4)
    )


def test_a_perfect_copy_has_no_mel_and_no_feature_loss():
    wave = 0.1 * torch.randn(2, 4800)
    losses = CodecLosses(CodecLossConfig()).generator_losses(output(wave), wave, judges())
    assert set(losses) == {"mel", "codebook", "commitment", "adversarial", "features"}
    assert losses["mel"] == 0 and losses["features"] < 1e-6
    assert losses["codebook"] == 0.5 and losses["commitment"] == 0.5


def test_objectives_touch_only_their_side():
    target, judge = 0.1 * torch.randn(1, 2400), judges()
    made = (0.1 * torch.randn(1, 2400)).requires_grad_()
    losses = CodecLosses(CodecLossConfig(kind="hinge"))
    (loss,) = losses.discriminator_losses(output(made), target, judge).values()
    loss.backward()
    assert made.grad is None and all(p.grad is not None for p in judge.parameters())
    parts = losses.generator_losses(output(made), target, judge)
    torch.stack(list(parts.values())).sum().backward()
    assert made.grad is not None and made.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["lsgan", "hinge"])
def test_adversarial_losses_want_opposite_scores(kind):
    high, low = [torch.full((2, 3), 1.0)], [torch.full((2, 3), -1.0)]
    assert generator_adversarial(high, kind) < generator_adversarial(low, kind)
    right = discriminator_adversarial(high, low, kind)
    assert right < discriminator_adversarial(low, high, kind)


def test_feature_distance_is_relative():
    real, fake = [[torch.full((2, 2), 4.0)]], [[torch.full((2, 2), 5.0)]]
    assert feature_distance(real, fake) == pytest.approx(0.25)


def test_windows_need_their_mels():
    with pytest.raises(ConfigError, match="2 windows but 1 mel"):
        CodecLossConfig(windows=[512, 1024], mels=[40])


def make_codec(kind):
    if kind == "ticodec":
        small = {"resblock": "2", "width": 16, "block_kernels": [3], "block_dilations": [[1, 3]]}
        return TiCodec(TiCodecConfig(**small))
    small = {"encoder_dim": 16, "token_dim": 16, "frame_dim": 16}
    return IstftCodec(IstftCodecConfig(**small))


@pytest.mark.parametrize("size", ["istft", "ticodec"])
def test_exchanged_voices_come_from_the_other_half(size):
    torch.manual_seed(0)
    codec = make_codec(size).eval()
    wave = 0.1 * torch.randn(4, 4800)
    plain, exchanged = codec(wave), codec(wave, exchange=True)
    assert torch.equal(exchanged.tokens, plain.tokens)
    swapped = torch.cat((plain.global_tokens[2:], plain.global_tokens[:2]))
    assert torch.equal(exchanged.global_tokens, swapped)
    terms = CodecLosses(CodecLossConfig(windows=[512], mels=[40]))
    assert terms.generator_losses(exchanged, wave, None, exchange=True)["voice"] > 0
    same = torch.cat((wave[:2], wave[:2]))
    twins = terms.generator_losses(codec(same, exchange=True), same, None, exchange=True)
    assert float(twins["voice"].detach()) < 1e-5
