"""One answer's voice: pieces of text with their LLM states in, pieces of 24 kHz audio out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fo_core.config import config
from fo_core.dialogue.vocoder import Vocoder, VocoderConfig
from fo_core.dialogue.writer import Part
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.sampling import SamplingConfig


@config
class SpeakerConfig:
    """How a piece of text becomes speech tokens and audio."""

    sampling: SamplingConfig = SamplingConfig(top_k=2)  # of speech tokens (paper: 2 is best)
    max_tokens: int = 1000  # speech tokens of one piece of text (25 ms each)
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)  # chunks and cuts


@dataclass
class SpokenPart:
    """What was spoken of one piece of text, filled while it is spoken."""

    index: int  # 0 for the first piece of the answer
    tokens: list[int] = field(default_factory=list)  # speech tokens, end excluded
    prefilled: float = 0.0  # time.perf_counter() when the decoder had read the text
    first_chunk: float = 0.0  # when the tokens of the first audio were there; 0 = not yet
    first_audio: float = 0.0  # when the first audio was there; 0 = not yet


class Speaker:
    """Speaks the pieces of one answer, in order.

    Args:
        model: Its speech decoder, codec, voice and the LLM's embedding table are used.
        cfg: Sampling, chunk sizes, cuts.
        generator: Source of randomness, on the model's device.
    """

    def __init__(
        self, model: FreezeOmni, cfg: SpeakerConfig, generator: torch.Generator | None = None
    ) -> None:
        self._model, self._cfg, self._generator = model, cfg, generator
        self._vocoder = Vocoder(model.codec, model.voice(), cfg.vocoder)
        self._heard = False  # whether any audio of the answer has left
        self.parts: list[SpokenPart] = []

    @property
    def sample_rate(self) -> int:
        """Samples a second of the audio."""
        return self._vocoder.sample_rate

    def inputs(self, part: Part) -> tuple[Tensor, Tensor]:
        """Text vectors [1, N, D] and prefix vectors [1, P, D] that the decoder reads."""
        llm, decoder = self._model.llm, self._model.speech_decoder
        kind = decoder.embedding.weight.dtype
        text = llm.split(llm.embed(part.segment.token_ids).to(kind), decoder.cfg.dim)
        prefix = llm.split(part.states.to(kind), decoder.cfg.dim)
        return text, prefix

    @torch.inference_mode()
    def speak(self, part: Part) -> Iterator[Tensor]:
        """Audio [S] of one piece of text, as soon as it can be played."""
        spoken = SpokenPart(part.index)
        self.parts.append(spoken)
        state = self._vocoder.init_state(first=part.index == 0)
        text, prefix = self.inputs(part)
        for token in self._model.speech_decoder.generate(
            text, prefix, self._cfg.sampling, self._cfg.max_tokens, self._generator
        ):
            now = time.perf_counter()
            spoken.prefilled = spoken.prefilled or now
            spoken.tokens.append(token)
            pieces, state = self._vocoder.step(token, state)
            for piece in pieces:
                spoken.first_chunk = spoken.first_chunk or now
                yield from self._out(piece, spoken)
        spoken.first_chunk = spoken.first_chunk or time.perf_counter()
        for piece in self._vocoder.flush(state):
            yield from self._out(piece, spoken)

    def _out(self, piece: Tensor, spoken: SpokenPart) -> Iterator[Tensor]:
        spoken.first_audio = spoken.first_audio or time.perf_counter()
        if not self._heard:
            piece, self._heard = self._vocoder.trim_onset(piece), True
        if piece.numel():
            yield piece
