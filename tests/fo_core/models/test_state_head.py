"""State head: the paper's linear layer, and the recurrent one that reads the encoder's frames."""

import pytest
import torch

from fo_core.errors import ConfigError
from fo_core.models.model_config import StateHeadConfig
from fo_core.models.state_head import StateHead


def test_probabilities_are_of_the_first_three() -> None:
    head = StateHead(16)
    hidden = torch.randn(2, 5, 16)
    logits = head(hidden)
    assert logits.shape == (2, 5, 4)
    found, memory = head.step(hidden)
    torch.testing.assert_close(found, logits[..., :3].softmax(-1))
    assert memory is None and head(hidden.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("sizes", [[1] * 6, [2, 4], [6]])
def test_a_turn_read_in_pieces_gives_what_the_whole_gives(sizes: list[int]) -> None:
    torch.manual_seed(0)
    head = StateHead(16, gru=12, enc_dim=8).eval()
    hidden, frames = torch.randn(1, 6, 16), torch.randn(1, 6, 4, 8)
    whole, memory, found = head(hidden, frames)[..., :3].softmax(-1), None, []
    for states, sound in zip(hidden.split(sizes, 1), frames.split(sizes, 1), strict=True):
        part, memory = head.step(states, sound, memory)
        found.append(part)
    torch.testing.assert_close(torch.cat(found, 1), whole)


def test_a_recurrent_head_reads_words_sound_and_what_was_before() -> None:
    torch.manual_seed(0)
    head = StateHead(16, gru=12, enc_dim=8)
    hidden = torch.randn(1, 3, 16, requires_grad=True)
    frames = torch.randn(1, 3, 4, 8, requires_grad=True)
    head(hidden, frames)[0, -1, 0].backward()
    for read in (hidden.grad, frames.grad):
        assert read is not None and bool((read.abs().sum(dim=-1) > 0).all())
    assert all(p.grad is not None for p in head.parameters())


def test_a_head_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(ConfigError, match="state_head.gru is -1; possible: 0 or more"):
        StateHeadConfig(gru=-1)
    with pytest.raises(ConfigError, match="state_head.classes is 2; possible: 3 or more"):
        StateHeadConfig(classes=2)
