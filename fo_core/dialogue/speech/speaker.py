"""One answer's voice: pieces of text with their LLM states in, pieces of 24 kHz audio out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fo_core.config import check_ranges, config
from fo_core.dialogue.speech.vocoder import Vocoder, VocoderConfig, VocoderState
from fo_core.dialogue.speech.writer import Part
from fo_core.models.decoder.speech_decoder import Sentence
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.steps import Steps, drive
from fo_core.sampling import SamplingConfig
from fo_core.text_chunks import TextChunk


@config
class SpeakerConfig:
    """How a piece of text becomes speech tokens and audio."""

    sampling: SamplingConfig = SamplingConfig(top_k=2)  # of speech tokens (paper: 2 is best)
    max_tokens: int = 1000  # speech tokens of one piece of text (25 ms each)
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)  # chunks and cuts

    def __post_init__(self) -> None:
        check_ranges(self, "speaker", max_tokens=(1, None))


@dataclass
class SpokenPart:
    """What was spoken of one piece of text, filled while it is spoken."""

    index: int  # 0 for the first piece of the answer
    tokens: list[int] = field(default_factory=list)  # speech tokens, end excluded
    prefilled: float = 0.0  # time.monotonic() when the decoder had read the text
    first_chunk: float = 0.0  # when the tokens of the first audio were there; 0 = not yet
    first_audio: float = 0.0  # when the first audio was there; 0 = not yet


@dataclass
class Utterance:
    """A piece of text that is being spoken."""

    spoken: SpokenPart
    sentence: Sentence
    vocoder: VocoderState
    done: bool = False  # all that is written of it is spoken


class Speaker:
    """Speaks the pieces of one answer, in order.

    Args:
        model: Its speech decoder, codec, voice and the LLM's embedding table are used.
        cfg: Sampling, chunk sizes, cuts.
        generator: Source of randomness, on the model's device.
        voice: Global tokens [1, 1, G]; None: the model's own voice.
    """

    def __init__(
        self,
        model: FreezeOmni,
        cfg: SpeakerConfig,
        generator: torch.Generator | None = None,
        voice: Tensor | None = None,
    ) -> None:
        self._model, self._cfg, self._generator = model, cfg, generator
        voice = model.voice() if voice is None else voice
        self._vocoder = Vocoder(model.codec, voice, cfg.vocoder)
        self._heard = False  # whether any audio of the answer has left
        self._last: Utterance | None = None  # the newest
        self.parts: list[SpokenPart] = []

    @property
    def sample_rate(self) -> int:
        """Samples a second of the audio."""
        return self._vocoder.sample_rate

    def inputs(self, part: Part) -> tuple[Tensor, Tensor]:
        """Text vectors [1, N, D] and prefix vectors [1, P, D] that the decoder reads."""
        llm, decoder = self._model.llm, self._model.speech_decoder
        kind, segment = decoder.embedding.weight.dtype, part.segment
        if segment.joined or segment.more:
            chunk = TextChunk(segment.text, segment.ahead, segment.joined, segment.more)
            text = decoder.chunk_input(llm, chunk, segment.token_ids)
        else:
            text, _ = decoder.text_input(llm, [segment.text], [segment.token_ids])
        # The published program counts a prefix in its positions even where nothing reads it.
        if decoder.prefix is None and not decoder.counts_prefix:
            return text, part.states.new_zeros(1, 0, decoder.cfg.dim, dtype=kind)
        return text, llm.split(part.states.to(kind), decoder.cfg.dim)

    @torch.inference_mode()
    def speak(self, part: Part) -> Iterator[Tensor]:
        """Audio [S] of one piece of text, as soon as it can be played."""
        utterance = self.begin(part)
        while not utterance.done:
            yield from drive(self.advance(utterance))

    def begin(self, part: Part) -> Utterance:
        """Read one piece of text, to speak it with :meth:`advance`.

        A chunk that goes on with the piece before it is read into that piece's utterance, which is
        given back.
        """
        text, prefix = self.inputs(part)
        decoder, more = self._model.speech_decoder, part.segment.more
        utterance = self._last
        if part.segment.joined and utterance is not None:
            utterance.done = False
            decoder.extend(utterance.sentence, text, prefix, more)
        else:
            spoken = SpokenPart(part.index)
            self.parts.append(spoken)
            cfg = self._cfg
            sentence = decoder.begin(
                text, prefix, cfg.sampling, cfg.max_tokens, self._generator, more
            )
            before = None if self._last is None else self._last.vocoder
            state = self._vocoder.init_state(part.index == 0, before)
            utterance = Utterance(spoken, sentence, state)
        self._last = utterance
        return utterance

    def advance(self, utterance: Utterance) -> Steps[list[Tensor]]:
        """One speech token further: the audio [S] that can be played now."""
        token = yield from self._model.speech_decoder.next_token(utterance.sentence)
        now, spoken = time.monotonic(), utterance.spoken
        if token is None:
            utterance.done = True
            if utterance.sentence.more:
                return []
            pieces = self._vocoder.flush(utterance.vocoder)
            spoken.first_chunk = spoken.first_chunk or now
        else:
            spoken.prefilled = spoken.prefilled or now
            spoken.tokens.append(token)
            pieces, utterance.vocoder = self._vocoder.step(token, utterance.vocoder)
            if pieces:
                spoken.first_chunk = spoken.first_chunk or now
        if pieces:
            spoken.first_audio = spoken.first_audio or time.monotonic()
            if not self._heard:
                pieces[0], self._heard = self._vocoder.trim_onset(pieces[0]), True
        return [piece for piece in pieces if piece.numel()]
