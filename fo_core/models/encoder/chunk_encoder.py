"""What speech encoders share, whatever their type: whole utterances and streams of chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.errors import ConfigError
from fo_core.streaming import CONTEXT_FRAMES

State = TypeVar("State")


class ChunkEncoder(nn.Module, ABC, Generic[State]):
    """Features of 10 ms to encoder frames of 40 ms.

    Args:
        cfg: Sizes and the default chunk: ``dim``, ``heads``, ``chunk``, ``left`` at least.

    Raises:
        ConfigError: heads do not divide dim, or the chunk is not positive.
    """

    features: str  # name of the feature extractor

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        if cfg.dim % cfg.heads:
            raise ConfigError(f"speech_encoder: {cfg.heads} heads do not divide dim {cfg.dim}")
        if cfg.chunk < 1:
            raise ConfigError(f"speech_encoder.chunk is {cfg.chunk}", possible="1 or more frames")
        self.dim: int = cfg.dim
        self._usual = cfg.chunk, cfg.left

    def _chunks(self, chunk: int | None, left: int | None) -> tuple[int, int]:
        """Chunk and left context; the config's where None."""
        usual = self._usual
        return usual[0] if chunk is None else chunk, usual[1] if left is None else left

    @staticmethod
    def _framed(feats: Tensor, lens: Tensor | None, context: bool) -> tuple[Tensor, Tensor]:
        """Features with the frames before the utterance in front, and lengths of the output."""
        before = CONTEXT_FRAMES if context else 0
        feats = F.pad(feats, (0, 0, before, 0))
        if lens is None:
            lens = torch.full((feats.shape[0],), feats.shape[1] - before)
        return feats, (lens + before - CONTEXT_FRAMES).clamp_min(0) // 4

    @abstractmethod
    def forward(
        self,
        feats: Tensor,
        lens: Tensor | None = None,
        chunk: int | None = None,
        left: int | None = None,
        context: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Encode whole utterances.

        Args:
            feats: ``[B, T, mel]`` from the start of the utterance, T a multiple of 4.
            lens: Real frames ``[B]``; None: all are.
            chunk: Output frames a chunk; None: the config's; -1: full context.
            left: Chunks of left context; None: the config's; -1: all.
            context: Put the three zero frames in front; False: ``feats`` bring them (lens count
                them too).

        Returns:
            ``[B, T / 4, E]`` and its lengths ``[B]``; what lies beyond a length means nothing.
        """

    @abstractmethod
    def init_state(
        self, batch_size: int, chunk: int | None = None, left: int | None = None
    ) -> State:
        """The state of a stream before its first frame (chunk and left None: the config's)."""

    def step(self, feats: Tensor, state: State) -> tuple[Tensor, State]:
        """Encode the next chunk.

        Args:
            feats: ``[B, 4 chunk, mel]`` or several chunks of it (16 frames for a chunk of 4).
            state: From ``init_state`` or the step before; left as it is.

        Returns:
            ``[B, T / 4, E]`` and the next state.
        """
        size = 4 * state.chunk  # type: ignore[attr-defined]
        assert feats.shape[1] % size == 0, f"a step takes whole chunks of {size} frames"
        outputs = []
        for piece in feats.split(size, 1):
            y, state = self._step(piece, state)
            outputs.append(y)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1), state

    @abstractmethod
    def _step(self, feats: Tensor, state: State) -> tuple[Tensor, State]:
        """:meth:`step` for one chunk."""
