"""CTC head of stage ``input-1``, which CTC adapters read (paper, section 2.2: CTC on the encoder).

Its classes are tokens of the LLM or pieces of spelling
(:mod:`fo_core.models.encoder.vocabulary`), so that what the head hears is text.
Parameters: ``linear``; buffer ``token_ids`` where classes are tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.models.encoder.vocabulary import TokenVocabulary, Vocabulary

FRAMES_A_CLASS = 5  # 0.2 s: what a class of speech takes; what a recording without text counts by


class CtcHead(nn.Module):
    """Linear from encoder frames to classes; class 0 is blank.

    Args:
        dim: E, width of the encoder's frames.
        vocabulary: What the classes stand for. Without any the head can only say blank.
        zero: Start with all classes alike, so that a new head does not pull at a trained encoder.
    """

    def __init__(self, dim: int, vocabulary: Vocabulary, zero: bool = False) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.linear = nn.Linear(dim, len(vocabulary) + 1)
        if zero:
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)
        if isinstance(vocabulary, TokenVocabulary):
            self.register_buffer("token_ids", torch.tensor([-1, *vocabulary.token_ids]))

    @property
    def classes(self) -> int:
        """V_ctc: classes of the vocabulary and blank."""
        return self.linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, E] -> logits [B, T, V_ctc]``."""
        return self.linear(x)

    def targets(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Classes ``[B, N]`` of transcripts, padded with 0, and lengths ``[B]``, on the CPU."""
        rows = [self.vocabulary.encode(text) for text in texts]
        lens = torch.tensor([len(row) for row in rows])
        padded = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=torch.int64)
        for i, row in enumerate(rows):
            padded[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
        return padded, lens

    def loss(self, logits: Tensor, lens: Tensor, texts: Sequence[str]) -> Tensor:
        """CTC loss per target class, averaged over the batch; of a noise per FRAMES_A_CLASS frames.

        Args:
            logits: ``[B, T, V_ctc]``.
            lens: Real frames ``[B]``.
            texts: Transcripts; one that is too long for its frames counts 0.
        """
        targets, target_lens = self.targets(texts)
        device = logits.device
        logs = logits.float().log_softmax(-1).transpose(0, 1)
        each = F.ctc_loss(
            logs,
            targets.to(device),
            lens.to(device),
            target_lens.to(device),
            reduction="none",
            zero_infinity=True,
        )
        silent = (lens // FRAMES_A_CLASS).clamp_min(1)
        classes = torch.where(target_lens > 0, target_lens, silent.to(target_lens))
        return (each / classes.to(each)).mean()

    def greedy(self, logits: Tensor, lens: Tensor | None = None) -> list[list[int]]:
        """Best class of each frame, runs collapsed, blanks dropped: classes of each row."""
        best = logits.argmax(-1)
        ends = [best.shape[1]] * best.shape[0] if lens is None else lens.tolist()
        return [collapse(row[:end]) for row, end in zip(best, ends, strict=True)]

    def read(self, logits: Tensor, lens: Tensor | None = None) -> list[str]:
        """:meth:`greedy` as texts."""
        return [self.vocabulary.decode(row) for row in self.greedy(logits, lens)]


def collapse(frames: Tensor) -> list[int]:
    """Classes of frames ``[T]`` with runs collapsed and blanks dropped."""
    kept = torch.unique_consecutive(frames)
    return kept[kept > 0].tolist()
