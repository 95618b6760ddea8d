"""What a codec's training pass returns, whatever its type."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class CodecOutput:
    """Result of one training pass over a batch of waves."""

    wave: Tensor  # [B, S] reconstruction at 24 kHz
    tokens: Tensor  # [B, T, K] int64
    global_tokens: Tensor  # [B, 1, G] int64
    codebook_loss: Tensor  # []
    commitment_loss: Tensor  # []
    voice: Tensor  # [B, 1, G] global vectors before quantising


def exchanged(vectors: Tensor) -> Tensor:
    """Vectors ``[2 B, ...]`` whose two halves have changed places."""
    first, second = vectors.chunk(2)
    return torch.cat((second, first))
