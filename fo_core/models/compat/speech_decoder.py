"""The published program's speech decoder: where speech starts, and what may be drawn (GOLDEN)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fo_core.models.decoder.speech_decoder import SpeechDecoder
from fo_core.sampling import Compat


class OfficialSpeechDecoder(SpeechDecoder):
    """Our decoder with the published program's positions and sampling."""

    compat: ClassVar[Compat] = "official"
    counts_prefix: ClassVar[bool] = True

    def _forbidden(self, size: int) -> Tensor:
        return torch.zeros(size)  # it may draw its own specials

    def _speech_start(self, text_size: Tensor, padded: int) -> Tensor:
        return torch.full_like(text_size, padded + 1)  # behind the padding
