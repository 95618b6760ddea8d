"""Streaming synthesis: speech tokens in, pieces of 24 kHz audio out.

Tokens are decoded in chunks that overlap, so that the codec sees context on both sides of what is
kept. A kept stretch is played up to its quietest moment and the rest waits for the next stretch:
pieces end in pauses, and where there is none (the mean level stays above the threshold) nothing is
cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from fo_core.config import check_ranges, config


class CodecDecoder(Protocol):
    """The part of a codec that synthesis needs."""

    hop: int
    sample_rate: int

    def decode(
        self, tokens: Tensor, global_tokens: Tensor, keep: tuple[int, int] | None = None
    ) -> Tensor:
        """Wave ``[B, hop * kept tokens]`` of ``[B, T, K]`` and ``[B, 1, G]``."""
        ...


@config
class VocoderConfig:
    """How speech tokens become pieces of audio."""

    first_chunk: int = 20  # tokens kept of the first call of a turn (25 ms each)
    chunk: int = 40  # tokens kept of a later call, at most
    growth: float = 2.0  # tokens kept of a call over those of the call before it, up to chunk
    overlap: int = 10  # tokens of context on either side of what is kept
    cut_window: int = 2401  # window whose mean level is searched for a pause, samples
    first_threshold: float = 0.1  # mean level below which the first part of a turn is cut
    threshold: float = 0.015  # the same, later
    onset: float = 0.03  # the turn's audio starts at the first sample above this level; 0 = at once
    compat: bool = False  # published behaviour: the first sentence of a turn keeps first_chunk and
    # first_threshold to its end, and the search for the cut counts its offset twice

    def __post_init__(self) -> None:
        sizes = ("first_chunk", "chunk", "growth", "overlap", "cut_window")
        check_ranges(self, "vocoder", **dict.fromkeys(sizes, (1, None)))
        levels = ("first_threshold", "threshold", "onset")
        check_ranges(self, "vocoder", **dict.fromkeys(levels, (0, None)))

    @classmethod
    def official(cls, **fields: float) -> VocoderConfig:
        """The published server's behaviour from the fields of its ``server.json``.

        Args:
            **fields: ``decoder_first_chunk_size``, ``decoder_chunk_size``,
                ``decoder_chunk_overlap_size``, ``decoder_N``,
                ``decoder_seg_threshold_first_pack``, ``decoder_seg_threshold``; others are ignored.
        """
        names = {
            "decoder_first_chunk_size": "first_chunk",
            "decoder_chunk_size": "chunk",
            "decoder_chunk_overlap_size": "overlap",
            "decoder_N": "cut_window",
            "decoder_seg_threshold_first_pack": "first_threshold",
            "decoder_seg_threshold": "threshold",
        }
        chosen = {names[key]: value for key, value in fields.items() if key in names}
        return cls(compat=True, **chosen)  # type: ignore[arg-type]


@dataclass
class VocoderState:
    """What synthesis of one sentence remembers between tokens."""

    first: bool  # the turn has not been heard yet
    chunk: int  # tokens kept of the next call
    tokens: list[list[int]] = field(default_factory=list)  # waiting, and context; [T][K]
    left: int = 0  # tokens at the start of ``tokens`` that are only context
    held: Tensor = field(default_factory=lambda: torch.zeros(0))  # [S] decoded, not yet cut


class Vocoder:
    """Turns the tokens of one voice into audio as they come.

    Args:
        codec: The codec, in eval mode.
        global_tokens: Its voice, ``[1, 1, G]``.
        cfg: Chunk sizes and thresholds.
    """

    def __init__(self, codec: CodecDecoder, global_tokens: Tensor, cfg: VocoderConfig) -> None:
        self.codec, self.global_tokens, self.cfg = codec, global_tokens, cfg
        self.sample_rate = codec.sample_rate

    def init_state(self, first: bool = True, before: VocoderState | None = None) -> VocoderState:
        """Fresh state for a sentence.

        Args:
            first: Whether it is the turn's first.
            before: Of the sentence before it, from which chunks go on to grow.
        """
        chunk = self.cfg.chunk if before is None or self.cfg.compat else before.chunk
        return VocoderState(first, self.cfg.first_chunk if first else chunk)

    def step(
        self, token: int | Sequence[int], state: VocoderState
    ) -> tuple[list[Tensor], VocoderState]:
        """Take one speech token.

        Args:
            token: Code of the frame, or its codes where the codec has several.
            state: Of this sentence.

        Returns:
            Pieces of audio ``[S]`` that can be played now (most often none), and the new state.
        """
        tokens = [*state.tokens, [token] if isinstance(token, int) else list(token)]
        first, chunk, left, pad = state.first, state.chunk, state.left, self.cfg.overlap
        if len(tokens) < left + chunk + pad:
            return [], VocoderState(first, chunk, tokens, left, state.held)
        wave = self._decode(tokens, left, len(tokens) - pad)
        threshold = self.cfg.first_threshold if first else self.cfg.threshold
        cut = cut_point(wave, self.cfg.cut_window, threshold, self.cfg.compat)
        tokens = tokens[-2 * pad :]
        if cut is None:
            return [], VocoderState(first, chunk, tokens, pad, torch.cat([state.held, wave]))
        pieces = [torch.cat([state.held, wave[:cut]])]
        first = first and self.cfg.compat
        chunk = chunk if first else min(self.cfg.chunk, math.ceil(chunk * self.cfg.growth))
        return pieces, VocoderState(first, chunk, tokens, pad, wave[cut:])

    def flush(self, state: VocoderState) -> list[Tensor]:
        """What is left at the end of the sentence: one piece ``[S]``, or none if no token came."""
        if not state.tokens:
            return []
        wave = self._decode(state.tokens, state.left, len(state.tokens))
        return [torch.cat([state.held, wave])]

    def trim_onset(self, piece: Tensor) -> Tensor:
        """A turn's first piece from its first sample above ``onset`` on (all of it if none is)."""
        if not self.cfg.onset:
            return piece
        loud = (piece.abs() > self.cfg.onset).nonzero()
        return piece[int(loud[0]) :] if len(loud) else piece

    def _decode(self, tokens: list[list[int]], start: int, stop: int) -> Tensor:
        """Samples ``[S]`` of tokens ``start .. stop``, the others being context."""
        frames = torch.tensor([tokens], device=self.global_tokens.device)  # [1, T, K]
        return self.codec.decode(frames, self.global_tokens, keep=(start, stop))[0].cpu()


def cut_point(wave: Tensor, window: int, threshold: float, compat: bool = False) -> int | None:
    """Where to cut a stretch of audio: at its quietest sample near its quietest window.

    Args:
        wave: ``[S]``.
        window: Length of the window, samples.
        threshold: Mean of ``|wave|`` below which a window counts as a pause.
        compat: Search for the sample beyond the window's end, as the published program does (it
            adds the window's offset twice).

    Returns:
        Samples to play, or None where the second half has no pause.
    """
    size = wave.shape[0]
    if size < window:
        return None
    level = wave.abs()
    sums = torch.zeros(size + 1, dtype=torch.float64)
    torch.cumsum(level.double(), 0, out=sums[1:])
    start = size // 2 - window // 2  # windows centred in the second half
    means = (sums[window + start :] - sums[start : size + 1 - window]) / window
    offset = int(means.argmin())
    if float(means[offset]) >= threshold:
        return None
    begin = start + offset
    end = min(size, begin + window + (offset if compat else 0))
    return begin + int(level[begin:end].argmin())
