"""Prompt embeddings: trained vectors that stand before the audio (paper, stage input-3).

They tell the frozen LLM what the audio vectors are and how to answer them, as prefix tokens of
prompt tuning do. At first they may be a text's own embeddings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PromptEmbeddings(nn.Module):
    """``num`` vectors in the LLM's space.

    Args:
        num: How many (0: none).
        llm_dim: H.
        before_audio: Whether they are put before the audio; published checkpoints may carry
            vectors that are not used.
        std: Spread of the random start.
    """

    def __init__(
        self, num: int, llm_dim: int, before_audio: bool = True, std: float = 0.02
    ) -> None:
        super().__init__()
        self.num, self.before_audio = num, before_audio
        self.left_out = False  # untrained in a model folder: not used until a stage trains it
        self.weight = nn.Parameter(torch.randn(num, llm_dim) * std)

    @property
    def used(self) -> int:
        """Vectors that go before the audio."""
        return self.num if self.before_audio and not self.left_out else 0

    @torch.no_grad()
    def start_from(self, table: Tensor, ids: list[int] | None = None) -> PromptEmbeddings:
        """Start from rows of an embedding table.

        Args:
            table: The LLM's input embeddings [V, H].
            ids: Token ids of a text, repeated or cut to ``num``; None: the table's mean with its
                spread, so that the vectors lie where the LLM expects some.
        """
        if ids:
            rows = [ids[i % len(ids)] for i in range(self.num)]
            self.weight.copy_(table[torch.tensor(rows, device=table.device)].to(self.weight))
        else:
            mean, spread = table.float().mean(0), table.float().std(0)
            self.weight.copy_((mean + spread * torch.randn_like(self.weight)).to(self.weight))
        return self

    def forward(self, batch_size: int) -> Tensor:
        """The vectors that go before the audio, [B, P, H] with P = num or 0."""
        return self.weight[: self.used].unsqueeze(0).expand(batch_size, -1, -1)
