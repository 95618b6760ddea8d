"""Subsampling needs no state beyond three frames; the causal convolution keeps its last inputs."""

from __future__ import annotations

import copy

import pytest
import torch
from formats import UNITS, stored
from rounding import bounds, near

from fo_core.layers.conv import CausalConv1d, ConvSubsampling, pack_convolutions


@torch.no_grad()
def test_subsampling_of_a_chunk_is_a_part_of_the_whole() -> None:
    conv = ConvSubsampling(80, 6)
    x = torch.randn(2, 67, 80)
    whole = conv(x)
    assert whole.shape == (2, 16, 6)
    parts = [conv(x[:, start : start + 19]) for start in range(0, 64, 16)]
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 2)])
def test_causal_convolution_in_pieces(kernel: int, stride: int) -> None:
    conv = CausalConv1d(3, 4, kernel, stride)
    x = torch.randn(2, 3, 12)
    state, parts = conv.init_state(2), []
    for piece in x.split(4, 2):
        y, state = conv.step(piece, state)
        parts.append(y)
    assert torch.allclose(torch.cat(parts, 2), conv(x), atol=1e-6)
    later = x.clone()
    later[:, :, 8:] = 0
    assert torch.allclose(conv(later)[:, :, : 8 // stride], conv(x)[:, :, : 8 // stride])


@torch.no_grad()
@pytest.mark.parametrize("weights", ["same", "fp16", "bf16", "int8"])
def test_packed_convolutions_compute_the_same(weights: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.ModuleList([ConvSubsampling(80, 48), CausalConv1d(64, 64, 5, 2)])
    x, z = torch.randn(2, 19, 80), torch.randn(2, 64, 8)
    state = torch.randn(2, 64, 4)
    exact = copy.deepcopy(model).double()
    pack_convolutions(model, weights)  # type: ignore[arg-type]
    assert type(model[1]) is not CausalConv1d and type(model[0].conv2) is not torch.nn.Conv2d
    unit = 0.0
    for theirs, ours in ((exact[0].conv2, model[0].conv2), (exact[1], model[1])):
        kernel = ours.product.kernel
        theirs.weight.copy_(stored(theirs.weight.flatten(1), kernel).view_as(theirs.weight))
        unit = max(unit, UNITS[kernel])

    def run(model: torch.nn.ModuleList) -> dict[str, torch.Tensor]:
        like = next(model.parameters())
        y, after = model[1].step(z.to(like), state.to(like))
        return {"subsampled": model[0](x.to(like)), "convolved": y, "state": after}

    allowed, expected = bounds(lambda: run(exact), unit), run(exact)
    for name, found in run(model).items():
        near(found, expected[name], allowed[name], name)
    assert model[1].init_state(3).shape == (3, 64, 4)
