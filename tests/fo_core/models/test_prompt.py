"""Prompt embeddings: where they start and whether they are used."""

import torch

from fo_core.models.prompt import PromptEmbeddings


def test_start_from_text_repeats_and_cuts() -> None:
    table = torch.randn(10, 8)
    prompt = PromptEmbeddings(5, 8).start_from(table, [3, 4])
    assert torch.equal(prompt(2)[1], table[[3, 4, 3, 4, 3]])
    assert torch.equal(PromptEmbeddings(1, 8).start_from(table, [3, 4])(1)[0], table[[3]])


def test_start_from_table_has_its_spread() -> None:
    table = torch.randn(500, 8) * 0.1 + 2
    weight = PromptEmbeddings(64, 8).start_from(table)(1)[0]
    assert abs(weight.mean() - 2) < 0.1 and 0.07 < weight.std() < 0.14


def test_unused_and_empty_prompts_add_nothing() -> None:
    assert PromptEmbeddings(3, 8, before_audio=False)(2).shape == (2, 0, 8)
    assert PromptEmbeddings(0, 8)(2).shape == (2, 0, 8)


def test_gradient_reaches_the_vectors() -> None:
    prompt = PromptEmbeddings(3, 8)
    prompt(2).sum().backward()
    assert torch.equal(prompt.weight.grad, torch.full((3, 8), 2.0))
