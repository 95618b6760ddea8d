"""Training on text that comes by the chunk: which chunk each row of a batch belongs to.

A row sees nothing of a later chunk. What is read with a chunk stands behind all that was spoken
before, as it does when a sentence is spoken while it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Ends = Sequence[Sequence[int]]  # of each text: rows up to each chunk's end, the last: all


@dataclass(frozen=True)
class ChunkLayout:
    """Chunks of the rows of a batch with B texts of N vectors, P prefix vectors and R speech rows.

    Speech row r predicts token r, the row behind the last token the end.
    """

    text: Tensor  # [B, N] chunk of each text vector
    speech: Tensor  # [B, R]
    prefix: Tensor | None  # [B, P]
    at_text: Tensor  # [B, 1 + N] positions of bos and text: behind what was spoken before
    at_speech: Tensor  # [B, R]

    def restrict(self, mask: Tensor, prefix: int) -> Tensor:
        """A mask without what is not there yet.

        Args:
            mask: ``[B, 1+N+R, P+1+N+R]`` of whole texts: queries bos, text, speech; keys prefix,
                bos, text, speech.
            prefix: P of it.
        """
        own = torch.cat((self.text.new_zeros(len(self.text), 1), self.text, self.speech), dim=1)
        before = self.text.new_zeros(len(self.text), prefix)
        if self.prefix is not None and prefix:
            before = self.prefix
        keys = torch.cat((before, own), dim=1)
        reads = self.text.shape[1] + 1  # queries that are text
        mask = mask & (keys[:, None] <= own[:, :, None])
        heard = self.speech[:, None] < own[:, :reads, None]  # text sees what was spoken before it
        mask[:, :reads, prefix + reads :] = heard
        return mask


def chunk_index(ends: Ends, size: int, device: torch.device | str | None = None) -> Tensor:
    """The chunk of each row: ``[B, size]``; rows behind a text belong to its last chunk."""
    rows = torch.arange(size, device=device)
    found = torch.zeros(len(ends), size, dtype=torch.long, device=device)
    for row, own in zip(found, ends, strict=True):
        for end in own[:-1]:
            row += rows >= end
    return found


def chunk_layout(
    ends: Ends,
    ratio: float,
    tokens: Sequence[int],
    sizes: tuple[int, int],
    prefix_ends: Ends | None,
    prefix: int,
    device: torch.device | str | None = None,
) -> ChunkLayout:
    """Where speech waits for text.

    Args:
        ends: Text vectors up to each chunk's end.
        ratio: Speech tokens that are spoken for each text vector while more text is to come.
        tokens: Speech tokens of each item. A chunk that would come behind them is read with the
            one before it.
        sizes: N, R.
        prefix_ends: The same of prefix vectors; None: all are there from the start.
        prefix: P.
        device: Of the tensors.
    """
    N, R = sizes
    at_text, at_speech, kept, quotas = [], [], [], []
    for own, count in zip(ends, tokens, strict=True):
        early = [end for end in own[:-1] if int(end * ratio) <= count]
        kept.append([*early, own[-1]])
        quotas.append([*(int(end * ratio) for end in early), R])
        texts, speeches = torch.arange(N + 1), torch.arange(R) + 1 + own[-1]
        for end, quota in zip(early, quotas[-1][:-1], strict=True):
            texts[end + 1 :] = torch.arange(end + 1, N + 1) + quota
        for end, quota in reversed(list(zip(early, quotas[-1][:-1], strict=True))):
            speeches[:quota] = torch.arange(quota) + 1 + end
        at_text.append(texts)
        at_speech.append(speeches)
    return ChunkLayout(
        chunk_index(kept, N, device),
        chunk_index(quotas, R, device),
        None if prefix_ends is None else chunk_index(prefix_ends, prefix, device),
        torch.stack(at_text).to(device),
        torch.stack(at_speech).to(device),
    )
