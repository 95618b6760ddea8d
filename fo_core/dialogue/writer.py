"""The LLM writes the answer token by token; pieces to speak leave as soon as they are complete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fo_core.dialogue.segmenter import Segment, Segmenter
from fo_core.models.frozen_llm import FrozenLLM, LLMState
from fo_core.sampling import SamplingConfig, sample


@dataclass(frozen=True)
class Part:
    """A piece of the answer with what the speech decoder needs of it."""

    index: int  # 0 for the first piece of the answer
    segment: Segment  # text, its ids, which generated tokens it covers
    states: Tensor  # [1, n, H] the LLM states that predicted those tokens


@dataclass
class Answer:
    """The answer so far; filled while it is written."""

    start: int  # length of the LLM's cache when the answer began
    token_ids: list[int] = field(default_factory=list)  # without the end of turn
    ended: bool = False  # whether the LLM ended it (else it was cut at the limit)
    text: str = ""  # all of the text so far


class Writer:
    """Writes one answer.

    Args:
        llm: The frozen LLM.
        state: Its cache, fed up to where the assistant speaks; extended in place. The token that
            was chosen last is never fed: the next turn's opening closes the message.
        hidden: The state there [1, 1, H], which predicts the first token.
        segmenter: Fresh, for this answer.
        sampling: How a token is chosen.
        generator: Source of randomness, on the LLM's device.
    """

    def __init__(
        self,
        llm: FrozenLLM,
        state: LLMState,
        hidden: Tensor,
        segmenter: Segmenter,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
    ) -> None:
        self._llm, self._state, self._hidden = llm, state, hidden
        self._segmenter, self._sampling, self._generator = segmenter, sampling, generator
        self.answer = Answer(start=state.length)

    @torch.inference_mode()
    def parts(self) -> Iterator[Part]:
        """Generate; each piece is yielded when its last token is there."""
        states: list[Tensor] = []  # of the tokens not yet handed out, from `first` on
        first, index = 0, 0
        hidden, answer, how = self._hidden, self.answer, self._sampling
        while not self._segmenter.full:
            logits = self._llm.logits(hidden[:, -1])
            token = sample(logits, how.temperature, how.top_k, how.top_p, self._generator)
            token_id = int(token)
            if token_id == self._llm.end_id:
                answer.ended = True
                break
            answer.token_ids.append(token_id)
            states.append(hidden[:, -1:])
            done = self._segmenter.push(token_id)
            answer.text = self._segmenter.text
            for segment in done:
                yield self._part(index, segment, states, first)
                index += 1
            if done:
                states, first = states[done[-1].stop - first :], done[-1].stop
            if not self._segmenter.full:
                hidden, _ = self._llm.step(self._llm.embed(token.view(1, 1)), self._state)
        for segment in self._segmenter.finish():
            yield self._part(index, segment, states, first)
            index += 1
        answer.text = self._segmenter.text

    def _part(self, index: int, segment: Segment, states: list[Tensor], first: int) -> Part:
        rows = states[segment.start - first : segment.stop - first]
        return Part(index, segment, torch.cat(rows, dim=1))
