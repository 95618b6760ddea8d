"""The CTC head over tokens of the LLM or pieces of spelling."""

from __future__ import annotations

import pytest
import torch

from fo_core.models.encoder.ctc import CtcHead, collapse
from fo_core.models.encoder.vocabulary import PieceVocabulary, TokenVocabulary

PIECES = PieceVocabulary(["a", "b", " ", " a"])


def test_tokens_are_kept_beside_the_weights_and_pieces_are_not() -> None:
    head = CtcHead(4, TokenVocabulary([7, 9]))
    assert head.token_ids.tolist() == [-1, 7, 9] and head.classes == 3
    assert set(CtcHead(4, PIECES).state_dict()) == {"linear.weight", "linear.bias"}
    assert CtcHead(4, TokenVocabulary([])).classes == 1


def test_greedy_collapses_runs_drops_blanks_and_stops_at_the_length() -> None:
    head = CtcHead(4, PIECES)
    symbols = torch.tensor([[1, 1, 0, 1, 2, 2, 4], [0, 4, 4, 0, 0, 1, 1]])
    logits = torch.nn.functional.one_hot(symbols, 5).float()
    assert head.greedy(logits, torch.tensor([7, 5])) == [[1, 1, 2, 4], [4]]
    assert head.greedy(logits) == [[1, 1, 2, 4], [4, 1]]
    assert head.read(logits) == ["aab a", "aa"]
    assert collapse(symbols[0]) == [1, 1, 2, 4]


def test_targets_are_padded_classes() -> None:
    classes, lens = CtcHead(4, PIECES).targets(["ab a", "b", ""])
    assert classes.tolist() == [[4, 2, 4], [3, 2, 0], [0, 0, 0]] and lens.tolist() == [3, 2, 0]


def test_loss_learns_a_transcript_and_forgives_one_that_is_too_long() -> None:
    torch.manual_seed(0)
    head = CtcHead(6, PIECES)
    x, lens, texts = torch.randn(2, 8, 6), torch.tensor([8, 1]), ["ab b", "a a a"]
    optim = torch.optim.Adam(head.parameters(), 0.1)
    for _ in range(60):
        loss = head.loss(head(x), lens, texts)
        optim.zero_grad()
        loss.backward()
        optim.step()
    assert loss.isfinite() and loss < 0.3
    assert head.read(head(x), lens)[0] == "ab b"


def test_a_noise_weighs_as_much_as_speech_of_its_length() -> None:
    head = CtcHead(6, PIECES)
    logits, lens = torch.randn(1, 40, 5), torch.tensor([40])
    silent = -logits.log_softmax(-1)[0, :, 0].sum() / 8  # all blanks; 40 frames are 8 classes
    assert head.loss(logits, lens, [""]) == pytest.approx(float(silent), rel=1e-5)
    spoken = torch.nn.functional.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1), torch.tensor([[4, 2]]), lens, torch.tensor([2])
    )
    assert head.loss(logits, lens, ["ab"]) == pytest.approx(float(spoken), rel=1e-5)
