"""One user's ear: wave or feature chunks in, vectors in the LLM's embedding space out.

Owns the features', encoder's and adapter's caches of one turn; nothing is kept in the model, and
states are never written in place, so a copy of a :class:`Listener` is a cheap fork.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fo_core.models.adapter.word_adapter import WordAdapterState
from fo_core.models.encoder.ctc import collapse
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.streaming import CHUNK_SAMPLES, FRAMES_PER_CHUNK


@dataclass
class AdaptedChunk:
    """One chunk after the encoder and the adapter."""

    encoded: Tensor  # [1, 4, E] encoder frames
    embeds: Tensor  # [1, N, H] vectors for the LLM; N is 2, or varies with the CTC adapter
    classes: Tensor | None = None  # [4] best CTC class of each frame; None: the head has no words


class Listener:
    """Caches of the input branch for one turn of one user.

    Args:
        model: Its speech encoder, CTC head and adapter are used.
        before: The listener of the turn before, if the features go on from there (the published
            server runs them through all of the talk); None starts in silence.
    """

    def __init__(self, model: FreezeOmni, before: Listener | None = None) -> None:
        self._model = model
        self._features = model.features.init_state(1)
        self._encoder: Any = model.speech_encoder.init_state(1)  # the encoder type's own state
        self._adapter: Any = model.adapter.init_state(1)  # the adapter type's own state
        if before is not None:
            self._features = before._features
            self._carry(before._encoder.context)

    def fork(self) -> Listener:
        """An independent copy (the states are shared until one of the two hears more)."""
        return copy.copy(self)

    @torch.inference_mode()
    def hear(self, chunk: Tensor) -> AdaptedChunk:
        """One chunk of 160 ms: a wave [S] at 16 kHz in [-1, 1], S <= 2560 (zeros are added)."""
        assert chunk.dim() == 1 and chunk.numel() <= CHUNK_SAMPLES, "a chunk is at most 160 ms"
        wave = F.pad(chunk, (0, CHUNK_SAMPLES - chunk.numel())).unsqueeze(0)
        feats, self._features = self._model.features.step(wave, self._features)
        return self.hear_features(feats)

    def _carry(self, context: Tensor) -> None:
        """Feature frames [1, 3, mel] before the next chunk."""
        self._encoder = dataclasses.replace(self._encoder, context=context)

    @torch.inference_mode()
    def hear_features(self, feats: Tensor) -> AdaptedChunk:
        """The same from feature frames [1, 16, mel], without the frames of the chunk before."""
        assert feats.shape[1] == FRAMES_PER_CHUNK, "a chunk has 16 feature frames"
        model = self._model
        feats = feats.to(model.device)
        encoded, self._encoder = model.speech_encoder.step(feats, self._encoder)
        words = model.ctc_head.classes > 1
        logits = model.ctc_head(encoded) if words or model.adapter.requires_ctc else None
        embeds, _, self._adapter = model.adapter.step(encoded, self._adapter, logits)
        classes = logits[0].argmax(-1) if words and logits is not None else None
        return AdaptedChunk(encoded, embeds, classes)

    @property
    def text(self) -> str | None:
        """The words that the adapter wrote so far; None where it writes none itself."""
        return self._adapter.text() if isinstance(self._adapter, WordAdapterState) else None

    def words(self, classes: Sequence[Tensor]) -> str:
        """What was heard, the word that is not complete included; empty without CTC classes [T]."""
        if not classes:
            return ""
        twin = self.fork()
        twin.flush()
        if twin.text is not None:
            return twin.text
        return self._model.ctc_head.vocabulary.decode(collapse(torch.cat(list(classes))))

    @torch.inference_mode()
    def partial(self) -> Tensor:
        """What :meth:`flush` would give now, [1, N, H]; nothing is changed by it."""
        return self._model.adapter.flush(self._adapter)[0]

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The end of speech: what the adapter held back, [1, N, H], N often 0."""
        embeds, _, self._adapter = self._model.adapter.flush(self._adapter)
        return embeds
