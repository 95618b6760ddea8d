"""Stage ``output-2``: the speech decoder learns to speak text: LLM embeddings to speech tokens.

Paper, section 2.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fo_core.config import config, to_dict
from fo_core.errors import ConfigError, DataError
from fo_core.models.decoder.duration_decoder import DurationDecoder
from fo_core.models.freeze_omni import FreezeOmni
from fo_core.models.llm.chat import encode
from fo_core.sampling import SamplingConfig
from fo_core.text_chunks import TextChunk, chunked
from fo_core.training.cache import one_item
from fo_core.training.optim import OptimConfig
from fo_core.training.stage import Batch, Objective, Sounds, Stage, StageOptions


@dataclass(frozen=True)
class SpeechLoss:
    """``output-2``, ``output-3``: text, and with a prefix LLM hidden states, to speech tokens.

    Attributes:
        prefix: Read the LLM's hidden states (``output-3``).
        chunks: Share of the items whose text comes by the chunk.
    """

    prefix: bool = False
    chunks: float = 0.0

    def __call__(self, model: FreezeOmni, batch: Batch) -> dict[str, Tensor]:
        decoder = model.speech_decoder
        chunks: dict[str, Any] = {}
        learns = decoder.prefix if self.prefix else decoder
        if self.chunks and learns is not None and learns.training:
            drawn = [draw_chunks(text, self.chunks) for text in batch["text"]]
            text, text_lens, chunks["text_ends"] = decoder.chunked_input(model.llm, drawn)
            if self.prefix:
                chunks["prefix_ends"] = [_prefix_ends(model, parts) for parts in drawn]
        else:
            text, text_lens = decoder.text_input(model.llm, batch["text"])
        prefix: Tensor | None = None
        prefix_lens: Tensor | None = None
        if self.prefix:
            rows = self._prefix(model, batch)
            prefix_lens = torch.tensor([len(row) for row in rows], device=model.device)
            prefix = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(decoder.out.weight.dtype)
        speech = batch["speech_tokens"], batch["token_lens"]
        if isinstance(decoder, DurationDecoder):
            chunks.pop("text_ends", None)  # the text itself knows
            chunks |= {"counts": unit_counts(batch, text_lens), "sounds": batch["letter_sounds"]}
        found = decoder.loss(text, text_lens, *speech, prefix, prefix_lens, **chunks)
        return {"loss": found.loss, "accuracy": found.accuracy} | found.terms

    def _prefix(self, model: FreezeOmni, batch: Batch) -> list[Tensor]:
        """States of every item; after "both" contexts one of the two is drawn while training."""
        rows, typed = batch["prefix"], batch.get("prefix_typed")
        stack = model.speech_decoder.prefix
        if typed is None or stack is None or not stack.training:
            return rows
        drawn = torch.rand(len(rows)) < 0.5
        return [b if other else a for a, b, other in zip(rows, typed, drawn, strict=True)]


def check_share(chunks: float) -> None:
    """Refuse a share that is none.

    Raises:
        ConfigError: It is not between 0 and 1.
    """
    if not 0.0 <= chunks <= 1.0:
        raise ConfigError(f"stage.chunks is {chunks}", possible="a share of the items: 0 to 1")


def draw_chunks(text: str, share: float) -> list[TextChunk]:
    """A text as it may come in a talk: whole, or by chunks of growing size.

    Args:
        text: The sentence.
        share: How often it comes by the chunk.
    """
    first, growth, whole = 1 + 3 * torch.rand(()), 1 + 2 * torch.rand(()), torch.rand(()) >= share
    if whole:
        return [TextChunk(text)]
    return chunked(
        text,
        lambda number: int(first * growth**number),
        lambda left: int(2 + 8 * torch.rand(())),
    )


def _prefix_ends(model: FreezeOmni, chunks: Sequence[TextChunk]) -> list[int]:
    """Prefix vectors that are there with each chunk of a text."""
    tokenizer, width = model.llm.tokenizer, model.llm.width // model.speech_decoder.cfg.dim
    said = accumulate(chunk.text for chunk in chunks)
    return [width * len(encode(tokenizer, text)) for text in said]


def unit_counts(batch: Batch, lens: Tensor) -> Tensor:
    """Speech tokens of every unit of a batch's texts: ``[B, N]``, 0 behind each text.

    Raises:
        DataError: An item has no durations, or they are of another text or sound.
    """
    counts = torch.zeros(len(lens), int(lens.max()), dtype=torch.int64, device=lens.device)
    sizes = zip(lens.tolist(), batch["token_lens"].tolist(), strict=True)
    given = zip(batch["items"], batch["letter_tokens"], sizes, strict=True)
    for row, (item, tokens, (units, size)) in zip(counts, given, strict=True):
        if len(tokens) != units or sum(tokens) != size:
            raise DataError(
                f"item {getattr(item, 'id', '?')}: letter_tokens of {len(tokens)} units and "
                f"{sum(tokens)} tokens, where its text has {units} and its sound {size}",
                possible="one count for the start, each letter that is read, and the end",
                do="align the manifest again (fo prepare-data align)",
            )
        row[:units] = torch.tensor(tokens)
    return counts


MOST_TOKENS = 400  # 10 s


@dataclass(frozen=True)
class SpeechSounds:
    """Held-out answers, spoken greedily; nothing while the model has no trained codec.

    Attributes:
        precompute: Gives the LLM's hidden states (``prefix [P, D]``) of a batch of one item
            (``output-3``); None: the decoder reads none (``output-2``).
    """

    precompute: Callable[[FreezeOmni, Batch], Mapping[str, Tensor]] | None = None

    def __call__(self, model: FreezeOmni, batch: Batch, count: int) -> Sounds:
        if "codec" not in model.trained:
            return {}
        sounds = {}
        for row in range(min(count, len(batch["items"]))):
            alone = one_item(batch, row)
            text, _ = model.speech_decoder.text_input(model.llm, alone["text"])
            states: Tensor | None = None
            if self.precompute is not None:
                states = self.precompute(model, alone)["prefix"][None]
                states = states.to(model.speech_decoder.embedding.weight.dtype)
            greedy = SamplingConfig(top_k=1)
            tokens = list(model.speech_decoder.generate(text, states, greedy, MOST_TOKENS))
            if tokens:
                codes = torch.tensor(tokens, device=model.device)[None, :, None]
                wave = model.codec.decode(codes, model.voice())[0].float().cpu().numpy()
                sounds[batch["items"][row].id] = (wave, model.codec.sample_rate)
        return sounds


@config
class Output2(StageOptions):
    """Options of ``output-2``."""

    after: ClassVar = ("output-1",)
    side: ClassVar = "assistant"
    speech_tokens: ClassVar = True
    new_llm: ClassVar = "the decoder reads the LLM's text embeddings"
    type: Literal["output-2"] = "output-2"
    optim: OptimConfig = OptimConfig(lr=5e-5)
    chunks: float = 0.0  # share of the items whose text comes by the chunk (segmenter.chunk)
    drafts: int = 0  # tokens that the decoder learns to guess ahead of a step; 0 = as before
    trainable: tuple[str, ...] = (  # globs; "!" leaves out
        "speech_decoder.*",
        "!speech_decoder.prefix.*",
    )

    def __post_init__(self) -> None:
        check_share(self.chunks)
        if not 0 <= self.drafts <= 16:
            raise ConfigError(f"stage.drafts is {self.drafts}", possible="0 to 16 tokens")

    def prepare(self, model: FreezeOmni) -> None:
        """The head that guesses tokens, where the model has none yet; what it learns."""
        if self.chunks:
            model.learn_chunks()
        if self.drafts:
            model.add_drafts(self.drafts)

    def build(self) -> Stage:
        """The stage."""
        return Stage(
            name=self.type,
            options=to_dict(self),
            summary="speech decoder learns to speak text: LLM embeddings to speech tokens",
            objectives=(
                Objective(
                    "speech",
                    self.trainable,
                    SpeechLoss(chunks=self.chunks),
                    self.optim,
                    active=("speech_decoder",),
                ),
            ),
            data="tts",
            samples=SpeechSounds(),
        )


OPTIONS = Output2
