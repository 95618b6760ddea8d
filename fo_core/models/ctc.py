"""CTC head over a subset of the LLM's own tokens, for stage ``input-1`` and the CTC adapter.

Paper, section 2.2 (CTC on the encoder). Ours: the classes are LLM token ids, so that what the head
hears is already text in the LLM's spelling. Parameters: ``linear``; buffer ``token_ids``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.errors import ConfigError


class CtcHead(nn.Module):
    """Linear from encoder frames to classes; class 0 is blank.

    Args:
        dim: E, width of the encoder's frames.
        token_ids: LLM token id of each class; the first is -1 (blank), which is put in front if
            it is missing. Without tokens the head can only say blank.
        zero: Start with all classes alike, so that a new head does not pull at a trained encoder.

    Raises:
        ConfigError: A token is negative or appears twice.
    """

    def __init__(self, dim: int, token_ids: Sequence[int], zero: bool = False) -> None:
        super().__init__()
        tokens = [int(i) for i in token_ids]
        tokens = tokens[1:] if tokens[:1] == [-1] else tokens
        if min(tokens, default=0) < 0 or len(set(tokens)) < len(tokens):
            raise ConfigError("ctc.tokens", possible="LLM token ids of 0 and above, each once")
        self.linear = nn.Linear(dim, len(tokens) + 1)
        if zero:
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)
        self.register_buffer("token_ids", torch.tensor([-1, *tokens]))
        self.token_ids: Tensor

    @property
    def classes(self) -> int:
        """V_ctc: tokens and blank."""
        return self.linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, E] -> logits [B, T, V_ctc]``."""
        return self.linear(x)

    def targets(self, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """LLM ids to classes; ids that the head has no class for are left out.

        Args:
            texts: LLM token ids of each transcript.

        Returns:
            classes ``[B, N]`` padded with 0, and lengths ``[B]``, on the CPU.
        """
        of = {token: index for index, token in enumerate(self.token_ids.tolist()) if index}
        rows = [[of[int(i)] for i in text if int(i) in of] for text in texts]
        lens = torch.tensor([len(row) for row in rows])
        padded = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=torch.int64)
        for i, row in enumerate(rows):
            padded[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
        return padded, lens

    def loss(self, logits: Tensor, lens: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """CTC loss per target token, averaged over the batch.

        Args:
            logits: ``[B, T, V_ctc]``.
            lens: Real frames ``[B]``.
            texts: LLM token ids of each transcript; one that is too long for its frames counts 0.
        """
        targets, target_lens = self.targets(texts)
        device = logits.device
        logs = logits.float().log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(
            logs, targets.to(device), lens.to(device), target_lens.to(device), zero_infinity=True
        )

    def greedy(self, logits: Tensor, lens: Tensor | None = None) -> list[list[int]]:
        """Best class of each frame, runs collapsed, blanks dropped: LLM token ids of each row."""
        best = logits.argmax(-1)
        ends = [best.shape[1]] * best.shape[0] if lens is None else lens.tolist()
        texts = []
        for row, end in zip(best, ends, strict=True):
            kept = torch.unique_consecutive(row[:end])
            texts.append(self.token_ids[kept[kept > 0]].tolist())
        return texts
