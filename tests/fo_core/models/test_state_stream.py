"""The LLM is read to the newest word of a turn, complete or not, once for each new one."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.tiny import write_tiny
from fo_core.models.state_stream import StateStream
from fo_core.models.steps import LLMRequest, drive


class Turn:
    """A stream over a tiny LLM; counts the LLM's steps."""

    def __init__(self, llm: FrozenLLM) -> None:
        self.llm, self.cache, self.stream = llm, llm.init_state(1, 64), StateStream()
        self.steps = 0

    def read(self, new: Tensor, partial: Tensor) -> Tensor:
        return drive(self.stream.read(self.llm, self.cache, [new], partial))

    def alone(self, *vectors: Tensor) -> Tensor:
        """The state behind vectors that an LLM reads at once."""
        return self.llm.step(torch.cat(vectors, 1), self.llm.init_state(1, 64))[0][:, -1:]


@pytest.fixture
def turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turn:
    torch.manual_seed(0)
    made, run = Turn(FrozenLLM.load(str(write_tiny(tmp_path)))), LLMRequest.run

    def counted(step: LLMRequest) -> Tensor:
        made.steps += 1
        return run(step)

    monkeypatch.setattr(LLMRequest, "run", counted)
    return made


def test_partial_words_are_read_and_leave_no_trace(turn: Turn) -> None:
    a, b, c = (torch.randn(1, n, turn.llm.width) for n in (3, 2, 1))
    nothing = a[:, :0]
    torch.testing.assert_close(turn.read(a, b), turn.alone(a, b))
    assert turn.cache.length == 3
    torch.testing.assert_close(turn.read(nothing, c), turn.alone(a, c))  # another hypothesis
    torch.testing.assert_close(turn.read(b, c), turn.alone(a, b, c))
    assert turn.cache.length == 5 and turn.steps == 3


def test_in_silence_the_llm_is_not_asked(turn: Turn) -> None:
    a, b = torch.randn(1, 3, turn.llm.width), torch.randn(1, 2, turn.llm.width)
    nothing = a[:, :0]
    first = turn.read(a, b)
    assert turn.read(nothing, b) is first and turn.steps == 1
    withdrawn = turn.read(nothing, nothing)  # behind what stays, which was read already
    torch.testing.assert_close(withdrawn, turn.alone(a))
    assert turn.steps == 1


def test_after_everything_was_read_again_partial_words_are_too(turn: Turn) -> None:
    a, b, more = (torch.randn(1, n, turn.llm.width) for n in (3, 2, 4))
    turn.read(a, b)
    turn.cache = turn.llm.init_state(1, 64)
    hidden, _ = turn.llm.step(torch.cat((more, a), 1), turn.cache)  # a turn before it came in
    turn.stream.moved(hidden[:, -1:])
    nothing = a[:, :0]
    torch.testing.assert_close(turn.read(nothing, b), turn.alone(more, a, b))
    torch.testing.assert_close(turn.read(nothing, nothing), turn.alone(more, a))
