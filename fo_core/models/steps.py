"""Work of a session as a coroutine that asks for one model step after the other.

Whoever drives the coroutine decides when a step runs, and with whose: :func:`drive` runs each at
once, the pool (:mod:`fo_core.dialogue.sessions.pool`) runs those of several sessions in one batch.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.state import LLMState

SpeechDecoder: TypeAlias = Any  # of decoder/speech_decoder.py, which imports this file
SpeechState: TypeAlias = Any


@dataclass(frozen=True)
class LLMRequest:
    """Feed vectors to the LLM; gives its states [1, N, H]."""

    model: FrozenLLM
    embeds: Tensor  # [1, N, H]
    state: LLMState  # of one session; extended in place

    @property
    def rows(self) -> int:
        """New positions."""
        return self.embeds.shape[1]

    @torch.inference_mode()
    def run(self) -> Tensor:
        """The step alone."""
        return self.model.step(self.embeds, self.state)[0]


@dataclass(frozen=True)
class DecoderRequest:
    """Feed speech tokens to the speech decoder; gives the logits behind each, [n, S]."""

    model: SpeechDecoder
    token: Tensor  # [n], most often one
    state: SpeechState  # of one sentence; extended in place

    @property
    def rows(self) -> int:
        """New positions."""
        return len(self.token)

    @torch.inference_mode()
    def run(self) -> Tensor:
        """The step alone."""
        if len(self.token) > 1:
            return self.model.step_tokens(self.token, self.state)
        return self.model.step(self.token, self.state)[0]


Step = LLMRequest | DecoderRequest
R = TypeVar("R")
Steps = Generator[Step, Tensor, R]  # yields steps, is sent their results, returns its own


@torch.inference_mode()
def drive(steps: Steps[R]) -> R:
    """Run a coroutine to its end, every step at once and alone."""
    result: Tensor | None = None
    while True:
        try:
            step = steps.send(result)  # type: ignore[arg-type]
        except StopIteration as end:
            return end.value
        result = step.run()


@torch.inference_mode()
def run_together(steps: Sequence[Step]) -> list[Tensor]:
    """Results of several sessions' steps of one kind on one model, in one batch where it can be.

    With packed weights a result does not depend, to the bit, on what else is in the batch; from
    ``run``, which knows quicker ways for one row, it may differ in the rounding.
    """
    first = steps[0]
    assert all(step.model is first.model for step in steps), "one model a batch"
    asked = [step for step in steps if isinstance(step, LLMRequest)]
    if asked:
        states = [step.state for step in asked]
        return asked[0].model.step_many([step.embeds for step in asked], states)
    spoken = [step for step in steps if isinstance(step, DecoderRequest)]
    speech = [step.state for step in spoken]
    return spoken[0].model.step_many([step.token for step in spoken], speech)
