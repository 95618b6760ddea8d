"""The published program's speech encoder: its position labels lag and restart (GOLDEN)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fo_core.layers.attention import AttentionState
from fo_core.models.encoder.speech_encoder import SpeechEncoder, SpeechEncoderState

OFFICIAL_POSITIONS = 5000  # length of the original's position table


class OfficialSpeechEncoder(SpeechEncoder):
    """Our encoder with the published program's labels in a stream; the same on whole utterances."""

    def step(self, feats: Tensor, state: SpeechEncoderState) -> tuple[Tensor, SpeechEncoderState]:
        """Encode what came next: several chunks at once see each other."""
        return self._step(feats, state)

    def _places(self, chunk: int, left: int) -> int:
        return max(super()._places(chunk, left), 1)

    def _grows(self, state: SpeechEncoderState) -> bool:
        return False

    def _label(
        self, state: SpeechEncoderState, count: int, places: int
    ) -> tuple[SpeechEncoderState, Tensor, int]:
        state = self._official_labels(state, places)
        labels = (state.first_label + places)[:, None] + torch.arange(count)
        return state, labels, state.chunk

    def _official_labels(self, state: SpeechEncoderState, places: int) -> SpeechEncoderState:
        """The published program's labels: counter taken modulo M, all keys labelled anew.

        From the call left + 2 on every label lags its frame by one chunk, and after M frames labels
        restart at 0 while the cache stays (GOLDEN, "Position labels"). Cached keys carry their
        labels, so where a label changes, the difference of the rows is added.
        """
        chunk, window = state.chunk, (state.left + 1) * state.chunk
        position = state.position % (chunk * (OFFICIAL_POSITIONS // chunk) - window)
        first = (position - window).clamp_min(0) + state.filled - places
        caches = state.caches
        if bool(((first != state.first_label) & (state.filled > 0)).any()):
            index = torch.arange(places)
            old = self._labels.rows((state.first_label[:, None] + index).clamp_min(0))
            new = self._labels.rows((first[:, None] + index).clamp_min(0))
            change = (new - old).permute(2, 0, 3, 1, 4)  # [layers, B, heads, C, K]
            caches = [
                AttentionState(cache.keys + change[i], cache.values)
                for i, cache in enumerate(caches)
            ]
        return replace(state, position=position, first_label=first, caches=caches)
