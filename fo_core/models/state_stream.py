"""One turn of a user as the state head follows it, chunk by chunk.

The LLM is read behind everything that it was told of the turn, and behind the words that are not
complete yet: an adapter that writes words hands on a word only when it is sure of it, at the end of
speech some hundred milliseconds late. So the partial hypothesis is fed to the LLM, read, and
cropped away from the cache again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.state import LLMState
from fo_core.models.state_head import StateHead
from fo_core.models.steps import LLMRequest, Steps


@dataclass
class StateStream:
    """What is kept from one chunk of a turn to the next; tensors are never written in place."""

    memory: Tensor | None = None  # of a recurrent head
    told: Tensor | None = None  # LLM state [1, 1, H] behind the vectors that stay in the cache
    partial: Tensor | None = None  # vectors [1, P, H] that were read behind them last
    hidden: Tensor | None = None  # LLM state [1, 1, H] behind those

    def read(
        self, llm: FrozenLLM, cache: LLMState, new: Sequence[Tensor], partial: Tensor
    ) -> Steps[Tensor]:
        """Feed a chunk's vectors; the LLM's state ``[1, 1, H]`` behind the newest word.

        Nothing is fed where nothing has changed, as in silence.

        Args:
            llm: The LLM.
            cache: Of the dialogue; ``new`` stays in it.
            new: ``[1, N, H]`` each, N >= 0; in the first chunk of a turn at least its opening.
            partial: ``[1, P, H]``, P >= 0: words that are not complete yet.
        """
        kept, more = sum(each.shape[1] for each in new), partial.shape[1]
        same = self.partial is not None and torch.equal(partial, self.partial)
        if kept or not same or self.hidden is None:
            hidden = self.told
            if kept + more:
                vectors = [each.to(llm.dtype) for each in (*new, partial)]
                states = yield LLMRequest(llm, torch.cat(vectors, dim=1), cache)
                hidden = states[:, -1:]
                if kept:
                    self.told = states[:, kept - 1 : kept]
                if more:
                    cache.crop(cache.length - more)
            self.partial, self.hidden = partial, hidden
        assert self.hidden is not None, "a turn begins with something that the LLM reads"
        return self.hidden

    def moved(self, told: Tensor | None) -> None:
        """All was read again: the LLM's state ``[1, 1, H]`` behind the turn's vectors."""
        self.told, self.partial, self.hidden = told, None, None

    def pass_over(self, head: StateHead, hidden: Tensor, frames: Tensor) -> None:
        """A chunk whose state nobody asks for; arguments as of :meth:`judge`."""
        self.memory = head.advance(hidden, frames[:, None], self.memory)

    def judge(self, head: StateHead, hidden: Tensor, frames: Tensor) -> list[float]:
        """Probabilities of the three states for the next chunk.

        Args:
            head: The model's.
            hidden: What :meth:`read` gave.
            frames: The chunk's encoder frames ``[1, 4, E]``.
        """
        found, self.memory = head.step(hidden, frames[:, None], self.memory)
        return found[0, -1].tolist()
