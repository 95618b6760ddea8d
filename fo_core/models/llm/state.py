"""What a frozen LLM remembers of what it was fed."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fo_core.layers.kv_cache import KVCache
from fo_core.models.llm.transformers_module import HFCache


@dataclass
class LLMState:
    """What one session (or one batch of them) has fed to the LLM."""

    cache: KVCache | HFCache

    @property
    def length(self) -> int:
        """Positions fed so far; a snapshot of a session is this number."""
        return self.cache.length

    def crop(self, length: int) -> None:
        """Back to a snapshot: forget everything from position ``length`` on."""
        self.cache.crop(length)

    def branch(self) -> LLMState:
        """Another strand of the same talk: of speech that is judged while the answer goes on, of an
        answer that is begun on trial. Nothing is copied; one strand at a time may take a step.
        """
        return LLMState(self.cache.branch())

    def fork(self, room: int = 64) -> LLMState:
        """An independent copy, for another talk."""
        return LLMState(self.cache.fork(room))

    def expand(self, batch: int, capacity: int) -> LLMState:
        """A copy of a one-row state for ``batch`` rows with room for ``capacity`` positions."""
        return LLMState(self.cache.expand(batch, capacity))

    def select(self, rows: Tensor, capacity: int = 0) -> LLMState:
        """A copy of some rows [B'] of a batch."""
        return LLMState(self.cache.select(rows, capacity))
