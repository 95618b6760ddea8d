"""State head and its probe."""

import torch

from fo_core.models.state_head import StateHead


def test_probabilities_are_of_the_first_three() -> None:
    head = StateHead(16)
    hidden = torch.randn(2, 5, 16)
    logits = head(hidden)
    assert logits.shape == (2, 5, 4)
    expected = logits[..., :3].softmax(-1)
    torch.testing.assert_close(head.probabilities(hidden), expected)
    assert head(hidden.bfloat16()).dtype == torch.float32


def test_probe_is_one_vector_a_chunk_with_gradient() -> None:
    head = StateHead(16, probe_dim=8)
    vector = head.probe(torch.randn(3, 4, 8), scale=0.5)
    assert vector.shape == (3, 1, 16) and head.has_probe and not StateHead(16).has_probe
    vector.sum().backward()
    assert all(p.grad is not None for p in head.probe_net.parameters())
