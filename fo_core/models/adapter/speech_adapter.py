"""What adapters share, whatever their type: whole utterances and streams of chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from torch import Tensor, nn

State = TypeVar("State")


class SpeechAdapter(nn.Module, ABC, Generic[State]):
    """Encoder frames to vectors in the LLM's embedding space."""

    requires_ctc: bool  # whether it reads the CTC head's logits

    def forward(
        self, x: Tensor, lens: Tensor | None = None, ctc_logits: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Whole utterances.

        Args:
            x: Encoder frames ``[B, T, E]``.
            lens: Real frames ``[B]``; None: all are.
            ctc_logits: ``[B, T, V]``, for those that read them.

        Returns:
            ``[B, N, H]`` and the lengths ``[B]`` (0 is possible).
        """
        embeds, counts, _ = self._run(x, self.init_state(x.shape[0]), ctc_logits, lens, True)
        return embeds, counts

    @abstractmethod
    def init_state(self, batch_size: int) -> State:
        """The state of a stream before its first frame."""

    def step(
        self, x: Tensor, state: State, ctc_logits: Tensor | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """One chunk ``[B, T, E]``, logits ``[B, T, V]`` -> ``[B, N, H]``, lengths, next state."""
        return self._run(x, state, ctc_logits, None, False)

    @abstractmethod
    def flush(self, state: State) -> tuple[Tensor, Tensor, State]:
        """End of speech: what was held back -> ``[B, N, H]``, lengths, state."""

    @abstractmethod
    def _run(
        self, x: Tensor, state: State, logits: Tensor | None, lens: Tensor | None, last: bool
    ) -> tuple[Tensor, Tensor, State]:
        """:meth:`step` for frames of which ``lens`` are real; ``last``: nothing is held back."""
