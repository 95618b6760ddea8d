"""Labelled attention equals the published formula; cached steps equal the whole."""

from __future__ import annotations

import math

import torch

from fo_core.layers.attention import LabelledAttention
from fo_core.layers.positions import LabelTable, sinusoids


def test_equal_to_the_published_formula() -> None:
    torch.manual_seed(0)
    attention = LabelledAttention(20, 2).double()
    x, table = torch.randn(3, 9, 20).double(), torch.randn(9, 20).double()
    mask = torch.rand(9, 9) > 0.3
    mask |= torch.eye(9, dtype=torch.bool)

    def heads(y: torch.Tensor) -> torch.Tensor:
        return y.view(*y.shape[:-1], 2, 10).transpose(-3, -2)

    q, k, v = (heads(m(x)) for m in (attention.query, attention.key, attention.value))
    p = heads(attention.position(table))
    content = (q + attention.bias_u[:, None]) @ k.transpose(-2, -1)
    place = (q + attention.bias_v[:, None]) @ p.transpose(-2, -1)
    scores = ((content + place) / math.sqrt(10)).masked_fill(~mask, -65504)
    expected = attention.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(attention(x, attention.label_rows(table), mask), expected, atol=1e-12)


@torch.no_grad()
def test_the_label_table_is_made_anew_when_a_weight_changes() -> None:
    torch.manual_seed(0)
    attentions = [LabelledAttention(8, 2) for _ in range(3)]
    table = LabelTable(8, attentions)
    labels = torch.tensor([[0, 40, 5], [1999, 3, 70]])
    assert torch.allclose(table.rows(labels), table.project(labels), atol=1e-6)
    first = table.rows(labels[:1, :])
    attentions[1].position.weight.mul_(2)
    again = table.rows(labels[:1])
    assert torch.allclose(again[:, :, 1], 2 * first[:, :, 1], atol=1e-6)
    assert torch.equal(again[:, :, 0], first[:, :, 0])
    attentions[2].bias_u.add_(1)
    assert torch.allclose(table.rows(labels[:1]), table.project(labels[:1]), atol=1e-6)


def test_the_label_table_keeps_gradients_when_they_are_on() -> None:
    attentions = [LabelledAttention(8, 2)]
    table = LabelTable(8, attentions)
    with torch.no_grad():
        table.rows(torch.tensor([[1]]))
    assert table.rows(torch.tensor([[1]])).requires_grad


def test_sinusoids_interleave_sine_and_cosine() -> None:
    rows = sinusoids(torch.tensor([0, 1]), 4)
    assert torch.allclose(rows[0], torch.tensor([0.0, 1, 0, 1]))
    expected = [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]
    assert torch.allclose(rows[1], torch.tensor(expected))
