"""Subsampling needs no state beyond three frames; the causal convolution keeps its last inputs."""

from __future__ import annotations

import pytest
import torch

from fo_core.layers.conv import CausalConv1d, ConvSubsampling


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
