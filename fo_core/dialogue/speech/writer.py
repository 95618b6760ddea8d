"""The LLM writes the answer token by token; pieces to speak leave as soon as they are complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fo_core.dialogue.speech.segmenter import Segment, Segmenter
from fo_core.dialogue.tool_calls import CallSegmenter
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.state import LLMState
from fo_core.models.steps import LLMRequest, Steps, drive
from fo_core.sampling import Compat, SamplingConfig, sample


@dataclass(frozen=True)
class Part:
    """A piece of the answer, or a chunk of one, with what the speech decoder needs of it."""

    index: int  # 0 for the first piece of the answer; a piece's chunks have the same
    segment: Segment  # text, its ids, which generated tokens it covers
    states: Tensor  # [1, n, H] the LLM states that predicted those tokens


@dataclass
class Answer:
    """The answer so far; filled while it is written."""

    start: int  # length of the LLM's cache when the answer began
    token_ids: list[int] = field(default_factory=list)  # without the end of turn
    ended: bool = False  # whether the LLM ended it (else it was cut at the limit)
    text: str = ""  # all of the text so far
    calls: bool = False  # whether it calls functions


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
        compat: As in :func:`fo_core.sampling.sample`.
        forced: Tokens that the answer begins with.
    """

    def __init__(
        self,
        llm: FrozenLLM,
        state: LLMState,
        hidden: Tensor,
        segmenter: Segmenter | CallSegmenter,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
        compat: Compat = "none",
        forced: Sequence[int] = (),
    ) -> None:
        self._compat: Compat = compat
        self._thoughts = llm.thought_filter()
        self._forced = list(forced)  # tokens that come next without being chosen
        self._llm, self._state, self._hidden = llm, state, hidden
        self._segmenter, self._sampling, self._generator = segmenter, sampling, generator
        self.answer = Answer(start=state.length)
        self.done = segmenter.full  # everything is written
        self._token: Tensor | None = None  # [1] chosen, not yet fed
        self._states: list[Tensor] = []  # of the tokens not yet handed out, from _first on
        self._first = self._index = 0  # first token, and number, of the open piece

    @property
    def calls(self) -> CallSegmenter | None:
        """The functions that the answer calls; None where there are none to call."""
        return self._segmenter if isinstance(self._segmenter, CallSegmenter) else None

    @torch.inference_mode()
    def parts(self) -> Iterator[Part]:
        """Generate; each piece is yielded when its last token is there."""
        while not self.done:
            yield from drive(self.advance())

    def advance(self) -> Steps[list[Part]]:
        """One token further: the pieces that are complete now (most often none)."""
        llm, answer = self._llm, self.answer
        if self._token is not None:
            embeds = llm.embed(self._token.view(1, 1))
            self._hidden = yield LLMRequest(llm, embeds, self._state)
            self._token = None
        token = self._choose()
        token_id = int(token)  # the one time that the host waits for the device
        found: list[Segment] = []
        if token_id in llm.end_ids:
            answer.ended = self.done = True
            if self._thoughts.inside:  # nothing but thoughts was written
                self._restart()
            found = self._push_held() + self._segmenter.finish()
        else:
            answer.token_ids.append(token_id)
            self._token = token
            self._states.append(self._hidden[:, -1:])
            if self._thoughts.push(token_id) and not self._index:
                self._restart()
            elif not self._thoughts.holding:
                found = self._push_held()
            if not self._forced:
                self._forced = self._thoughts.forced
            limit = llm.facts.context
            if self._segmenter.full or (limit is not None and self._state.length + 1 >= limit):
                self.done = True
                found += self._segmenter.finish()
        answer.text = self._segmenter.text
        return [self._part(segment) for segment in found]

    def _choose(self) -> Tensor:
        """The next token [1], on the LLM's device."""
        if self._forced:
            return self._hidden.new_tensor([self._forced.pop(0)], dtype=torch.long)
        logits = self._llm.logits(self._hidden[:, -1])
        return sample(logits, self._sampling, self._generator, self._compat)

    def _push_held(self) -> list[Segment]:
        """Pieces that the tokens which turned out to be no thoughts complete."""
        held = self.answer.token_ids[self._segmenter.count :]
        return [segment for token in held for segment in self._segmenter.push(token)]

    def _restart(self) -> None:
        """What was written was thoughts: the answer begins after it."""
        self.answer.start = self._state.length + (self._token is not None)
        self.answer.token_ids.clear()
        self._states = []
        self._segmenter = self._segmenter.fresh()

    def _part(self, segment: Segment) -> Part:
        first, states = self._first, self._states
        rows = states[segment.start - first : segment.stop - first]
        self._index += not segment.joined
        found = torch.cat(rows, dim=1) if rows else self._hidden[:, :0]
        self._states, self._first = states[segment.stop - first :], segment.stop
        return Part(self._index - 1, segment, found)
