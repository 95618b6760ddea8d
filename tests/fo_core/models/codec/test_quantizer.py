"""Quantiser: round trips, gradients, learning and revival of codes."""

from __future__ import annotations

import pytest
import torch

from fo_core.errors import ConfigError
from fo_core.models.codec.quantizer import Quantizer, QuantizerConfig


def make(**fields) -> Quantizer:
    torch.manual_seed(0)
    return Quantizer(QuantizerConfig(**{"dim": 8, "codes": 16, **fields}))


def settle(quantizer: Quantizer) -> None:
    for book in quantizer.codebooks:
        book.after_step()


@pytest.mark.parametrize("layers, groups", [(1, 1), (3, 1), (2, 2), (1, 4)])
def test_decode_gives_what_forward_gave(layers, groups):
    quantizer = make(layers=layers, groups=groups).eval()
    x = torch.randn(2, 5, 8)
    out = quantizer(x)
    assert out.tokens.shape == (2, 5, layers * groups)
    torch.testing.assert_close(quantizer.decode(out.tokens), out.vectors)
    assert torch.equal(quantizer.encode(x), out.tokens)


def test_more_layers_leave_less():
    x = torch.randn(1, 64, 8)
    errors = []
    for layers in (1, 2, 4):
        quantizer = make(layers=layers, codes=64, revive_after=1).train()
        quantizer(x)
        errors.append((quantizer.eval()(x).vectors - x).square().mean().item())
    assert errors[0] > errors[1] > errors[2] or errors[0] < 1e-3


@pytest.mark.parametrize("distance", ["l2", "cosine"])
def test_gradient_reaches_the_input_straight_through(distance):
    quantizer = make(distance=distance).train()
    x = torch.randn(2, 5, 8, requires_grad=True)
    quantizer(x).vectors.square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_codes_learn_clusters_and_all_stay_alive(update):
    quantizer = make(codes=32, update=update, revive_after=5, decay=0.8).train()
    centres = 4 * torch.randn(8, 8)
    tables = [p for p in quantizer.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(tables, lr=0.05) if tables else None
    for _ in range(60):
        x = centres.repeat(4, 1)[None] + 0.05 * torch.randn(1, 32, 8)
        out = quantizer(x)
        if optimizer:
            optimizer.zero_grad()
            (out.codebook_loss + out.commitment_loss).backward()
            optimizer.step()
        settle(quantizer)
    out = quantizer.eval()(centres[None])
    assert len(out.tokens.unique()) >= 7
    assert (out.vectors - centres).square().mean() < 1.0 < centres.square().mean()


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_a_step_of_two_batches_learns_like_one_batch_of_both(update):
    """As two processes share a step: codes stand still until it is over."""
    torch.manual_seed(1)
    one, two = (make(update=update, revive_after=1).train() for _ in range(2))
    first, second = torch.randn(2, 1, 16, 8)
    for quantizer in (one, two):
        torch.manual_seed(2)
        quantizer(first)
        settle(quantizer)
    before = two.codebooks[0].weight.clone()
    one(torch.cat((first, second), 1))
    two(first), two(second)
    assert torch.equal(two.codebooks[0].weight, before)
    for quantizer in (one, two):
        quantizer.codebooks[0].revive_after = 100
        settle(quantizer)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value)
    if update == "ema":
        assert not torch.equal(two.codebooks[0].weight, before)


def test_eval_learns_nothing():
    quantizer = make(update="ema").eval()
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    quantizer(torch.randn(2, 5, 8))
    settle(quantizer)
    assert all(torch.equal(before[k], v) for k, v in quantizer.state_dict().items())


def test_learning_resumes_where_it_stopped():
    data = [torch.randn(1, 32, 8) for _ in range(4)]
    whole, half = make(update="ema").train(), make(update="ema").train()
    for i, x in enumerate(data):
        torch.manual_seed(i)
        whole(x)
        settle(whole)
        if i == 2:
            resumed = make(update="ema").train()
            resumed.load_state_dict(half.state_dict())
            half = resumed
        torch.manual_seed(i)
        half(x)
        settle(half)
    for k, v in whole.state_dict().items():
        torch.testing.assert_close(half.state_dict()[k], v)


def test_tables_without_learning_state_count_as_learned():
    quantizer = make(update="ema")
    table = torch.randn(16, 8)
    quantizer.load_state_dict({"codebooks.0.weight": table})
    quantizer.train()(torch.zeros(1, 1, 8))
    settle(quantizer)
    moved = (quantizer.codebooks[0].weight - table).abs().amax(1) > 1e-5
    assert moved.sum() <= 1  # the code that was chosen


def test_wrong_tokens_and_sizes_are_errors():
    with pytest.raises(ConfigError, match="groups"):
        make(groups=3)
    with pytest.raises(ConfigError, match="possible: 0 … 15"):
        make().decode(torch.tensor([[[16]]]))
    with pytest.raises(ConfigError, match="2 codec tokens a frame"):
        make().decode(torch.zeros(1, 1, 2, dtype=torch.long))
