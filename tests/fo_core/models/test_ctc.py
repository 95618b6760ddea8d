"""The CTC head: classes are LLM tokens."""

from __future__ import annotations

import pytest
import torch

from fo_core.errors import ConfigError
from fo_core.models.ctc import CtcHead


def test_blank_is_put_in_front_once() -> None:
    assert CtcHead(4, [7, 9]).token_ids.tolist() == [-1, 7, 9]
    assert CtcHead(4, [-1, 7, 9]).token_ids.tolist() == [-1, 7, 9]
    assert CtcHead(4, []).token_ids.tolist() == [-1]
    with pytest.raises(ConfigError):
        CtcHead(4, [7, 7])


def test_greedy_collapses_runs_drops_blanks_and_stops_at_the_length() -> None:
    head = CtcHead(4, [7, 9, 30])
    symbols = torch.tensor([[1, 1, 0, 1, 2, 2, 3], [0, 3, 3, 0, 0, 1, 1]])
    logits = torch.nn.functional.one_hot(symbols, 4).float()
    assert head.greedy(logits, torch.tensor([7, 5])) == [[7, 7, 9, 30], [30]]
    assert head.greedy(logits) == [[7, 7, 9, 30], [30, 7]]


def test_targets_leave_out_tokens_without_a_class() -> None:
    classes, lens = CtcHead(4, [7, 9]).targets([[9, 8, 7], [9], []])
    assert classes.tolist() == [[2, 1], [2, 0], [0, 0]] and lens.tolist() == [2, 1, 0]


def test_loss_learns_a_transcript_and_forgives_one_that_is_too_long() -> None:
    torch.manual_seed(0)
    head = CtcHead(6, [7, 9])
    x, lens, texts = torch.randn(2, 8, 6), torch.tensor([8, 1]), [[7, 9, 9], [7, 7, 7]]
    optim = torch.optim.Adam(head.parameters(), 0.1)
    for _ in range(60):
        loss = head.loss(head(x), lens, texts)
        optim.zero_grad()
        loss.backward()
        optim.step()
    assert loss.isfinite() and loss < 0.3
    assert head.greedy(head(x), lens)[0] == [7, 9, 9]
