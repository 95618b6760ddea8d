"""A speech decoder that reads spelling and is aligned by durations: no attention between text and
speech has to be learned, so hours of speech are enough where attention needs thousands.

A deviation from the paper (its decoder is :mod:`fo_core.models.decoder.speech_decoder`). The
non-autoregressive part reads characters and says for how many speech tokens each is spoken; its
outputs, repeated so often, are added to the inputs of the autoregressive part, together with the
next character's output and the tokens since the character's start and to its end. So every speech
token knows what it says, and the sentence ends when its last character does: there is no end
token. The hidden-state prefix (``output-3``) works as in the paper's decoder.

What is read is spelling, not the LLM's embeddings: the decoder speaks the text of any LLM.

Parameters: those of the paper's decoder without ``pre_network``, and ``letters``, ``reader``,
``duration``, ``sound``, ``place``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.config import config, replace
from fo_core.errors import ConfigError
from fo_core.layers.kv_cache import KVCache, LlamaConfig
from fo_core.layers.masks import full_mask, valid_rows
from fo_core.layers.transformer import LlamaStack
from fo_core.models.decoder.speech_decoder import (
    Sentence,
    SpeechDecoder,
    SpeechDecoderConfig,
    SpeechLoss,
)
from fo_core.normalize import speakable
from fo_core.sampling import Compat, SamplingConfig
from fo_core.spelling import LETTERS, spell

PAD, START, END = 0, 1, 2  # unit ids before those of the letters
LONGEST = 40  # tokens (1 s) of one unit at most when speaking


@config
class DurationDecoderConfig:
    """Shape and training noise of the speech decoder with durations."""

    type: Literal["durations"] = "durations"
    dim: int = 288  # D, width; for the prefix the LLM's width must be a multiple of it
    codes: int = 1024  # entries of the codec's codebook
    heads: int = 6  # attention heads
    ffn: int = 768  # inner width of the feed-forward
    layers: int = 4  # of the autoregressive and of the prefix stack
    reader_layers: int = 2  # of the non-autoregressive stack that reads the letters
    language: str = "en"  # whose way of reading numbers and signs aloud
    letters: str = LETTERS  # characters it can read; others are read without their accents
    sounds: tuple[str, ...] = ()  # pronunciations it names per letter in training; () = none
    prefix: bool = True  # whether the LLM's hidden states are read
    dropout: float = 0.1  # on letters, speech vectors and before the output, in training
    token_noise: float = 0.1  # share of the speech tokens read in training that are replaced
    duration_weight: float = 0.1  # of the loss of the durations
    sound_weight: float = 0.3  # of the loss of the pronunciations
    compat: Compat = "none"  # there is no published decoder of this kind


@dataclass
class Spelling:
    """Texts as units: start, letters, end."""

    units: Tensor  # [B, N] ids, PAD behind each text
    lens: Tensor  # [B]


@dataclass
class DurationState:
    """What one sentence's decoding remembers."""

    cache: KVCache  # keys and values of [prefix, sos, tokens ..]
    shift: int  # position = cache.length - shift
    steering: Tensor  # [1, T, D] what the text adds to every input
    given: int = 0  # tokens so far


class DurationDecoder(SpeechDecoder):
    """Reader, durations, prefix stack, main stack and output layer.

    Letters: N units of text, P prefix vectors, T speech tokens, S = codes + 4 token ids.

    Raises:
        ConfigError: Sizes contradict each other.
    """

    def __init__(self, cfg: DurationDecoderConfig) -> None:
        if len(set(cfg.letters)) < len(cfg.letters) or not cfg.letters:
            raise ConfigError("speech_decoder.letters", possible="characters, each once")
        if cfg.compat != "none":
            raise ConfigError("speech_decoder.compat", possible="none for type durations")
        shape = SpeechDecoderConfig(
            dim=cfg.dim,
            codes=cfg.codes,
            heads=cfg.heads,
            ffn=cfg.ffn,
            layers=cfg.layers,
            pre_network=False,
            prefix=cfg.prefix,
            dropout=cfg.dropout,
            token_noise=cfg.token_noise,
        )
        super().__init__(shape)
        self.spelled = cfg
        self._ids = {letter: END + 1 + i for i, letter in enumerate(cfg.letters)}
        self._sounds = {sound: i for i, sound in enumerate(cfg.sounds)}
        D = cfg.dim
        self.letters = nn.Embedding(END + 1 + len(cfg.letters), D, padding_idx=PAD)
        reader = LlamaConfig(D, cfg.heads, cfg.heads, D // cfg.heads, cfg.ffn, cfg.reader_layers)
        self.reader = LlamaStack(reader)
        self.read_norm = nn.RMSNorm(D, eps=1e-6)
        self.duration = nn.Sequential(nn.Linear(D, D // 2), nn.SiLU(), nn.Linear(D // 2, 1))
        self.sound = nn.Linear(D, len(cfg.sounds)) if cfg.sounds else None
        self.place = nn.Linear(2 * D + 2, D)  # unit, next unit, tokens since its start, to its end
        for part in (self.letters, self.reader, self.duration, self.sound, self.place):
            for module in part.modules() if part is not None else ():
                if isinstance(module, nn.Linear | nn.Embedding):
                    nn.init.normal_(module.weight, std=0.02 if module is not self.letters else 0.5)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.letters.weight[PAD] = 0
            cast(nn.Linear, self.duration[-1]).bias.fill_(1.0)
        self.forbidden[[self.eos]] = float("-inf")

    # --- text ---

    def spell(self, text: str) -> str:
        """The letters that the decoder reads of a text: as it is spoken, numbers in words."""
        return spell(speakable(text, self.spelled.language), self.spelled.letters)

    def text_input(
        self, llm: Any, texts: Sequence[str], ids: Sequence[Sequence[int]] | None = None
    ) -> tuple[Spelling, Tensor]:
        """Texts as units and their lengths; see :meth:`SpeechDecoder.text_input`."""
        rows = [[START, *(self._ids[c] for c in self.spell(text)), END] for text in texts]
        lens = torch.tensor([len(row) for row in rows], device=self.letters.weight.device)
        units = lens.new_zeros(len(rows), int(lens.max()))
        for row, target in zip(rows, units, strict=True):
            target[: len(row)] = torch.tensor(row)
        return Spelling(units, lens), lens

    def read(self, text: Spelling) -> Tensor:
        """Units ``[B, N] -> [B, N, D]``, every one seeing all of its text."""
        valid = valid_rows(text.lens, len(text.units), text.units.shape[1], text.units.device)
        x = self._drop(self.letters(text.units))
        return self.read_norm(self.reader(x, positions=0, mask=full_mask(valid), causal=False))

    def tokens_per_unit(self, hidden: Tensor) -> Tensor:
        """Predicted tokens ``[B, N]`` of units ``[B, N, D]``, not rounded, at least 0."""
        return F.softplus(self.duration(hidden)[..., 0].float())

    def steer(self, hidden: Tensor, lens: Tensor, counts: Tensor, size: int) -> Tensor:
        """What the text adds to the speech decoder's inputs.

        Args:
            hidden: Units ``[B, N, D]``.
            lens: Units of each text ``[B]``.
            counts: Tokens of each unit ``[B, N]``, 0 beyond a text's end.
            size: T.

        Returns:
            ``[B, T, D]``; rows behind a text's last token mean nothing.
        """
        B, _, D = hidden.shape
        last = lens[:, None] - 1
        ends = counts.cumsum(1)  # [B, N]
        time = torch.arange(size, device=hidden.device).expand(B, -1).contiguous()
        unit = torch.searchsorted(ends, time, right=True).minimum(last)  # [B, T]
        after = (unit + 1).minimum(last)
        rows = [hidden.gather(1, at[..., None].expand(-1, -1, D)) for at in (unit, after)]
        end = ends.gather(1, unit)
        start = end - counts.gather(1, unit)
        clock = torch.stack([time - start, end - 1 - time], -1).clamp(0, LONGEST).to(hidden) / 8
        return self.place(torch.cat([*rows, clock], -1))

    # --- training ---

    def loss(  # type: ignore[override]
        self,
        text: Spelling,
        text_lens: Tensor | None,
        tokens: Tensor,
        token_lens: Tensor | None,
        prefix: Tensor | None = None,
        prefix_lens: Tensor | None = None,
        counts: Tensor | None = None,
        sounds: Sequence[Sequence[str]] | None = None,
    ) -> SpeechLoss:
        """Cross-entropy on the tokens, and the losses of durations and pronunciations.

        Args:
            text: Units ``[B, N]``.
            text_lens: Not used; ``text`` knows its lengths.
            tokens: Speech tokens ``[B, T]``; what is beyond the length may hold anything.
            token_lens: ``[B]``, or None.
            prefix: LLM hidden states ``[B, P, D]``.
            prefix_lens: ``[B]``, or None.
            counts: Tokens of each unit ``[B, N]``, together those of a row.
            sounds: Pronunciation of every letter, "" where it is silent; None: not known.
        """
        assert counts is not None, "the speech decoder with durations learns from durations"
        B, T = tokens.shape
        device = tokens.device
        valid = valid_rows(token_lens, B, T, device)
        hidden = self.read(text)
        steering = self.steer(hidden, text.lens, counts, T)
        logits = self._logits(steering, tokens, valid, prefix, prefix_lens)
        targets = tokens.masked_fill(~valid, self.pad)
        total = F.cross_entropy(
            logits.flatten(0, 1).float(),
            targets.flatten(),
            ignore_index=self.pad,
            reduction="sum",
        )
        count = valid.sum()
        right = ((logits.argmax(-1) == targets) & valid).sum()
        within = valid_rows(text.lens, len(text.units), text.units.shape[1], device)
        guess = self.tokens_per_unit(hidden)[within]
        terms = {"duration": F.huber_loss(guess, counts[within].float(), delta=2.0)}
        loss = total / count + self.spelled.duration_weight * terms["duration"]
        if self.sound is not None and sounds is not None:
            terms["sound"] = self._sound_loss(hidden, sounds)
            loss = loss + self.spelled.sound_weight * terms["sound"]
        return SpeechLoss(loss, total, right / count, count, terms)

    def _logits(
        self,
        steering: Tensor,
        tokens: Tensor,
        valid: Tensor,
        prefix: Tensor | None,
        prefix_lens: Tensor | None,
    ) -> Tensor:
        """Logits ``[B, T, S]``: row t predicts token t, steered by ``[B, T, D]``."""
        B, T = tokens.shape
        past, seen = None, None
        if prefix is not None:
            seen = valid_rows(prefix_lens, B, prefix.shape[1], tokens.device)
            past = self.read_prefix(prefix, seen if prefix_lens is not None else None)
        x = self._drop(self.embedding(self._inputs(tokens, valid)[:, :T]))
        x = x + steering
        mask = None
        if past is not None and seen is not None:
            causal = torch.ones(T, T, dtype=torch.bool, device=tokens.device).tril()
            before = seen[:, None].expand(B, T, -1)
            mask = torch.cat((before, causal.expand(B, -1, -1)), dim=2).unsqueeze(1)
        out = self.decoder(x, positions=0, mask=mask, past=past)
        return self.out(self._drop(self.norm(out)))

    def _sound_loss(self, hidden: Tensor, sounds: Sequence[Sequence[str]]) -> Tensor:
        """Cross-entropy ``[]`` of the letters' pronunciations; unknown ones are not counted."""
        targets = torch.full(hidden.shape[:2], -1, device=hidden.device)
        for row, known in zip(targets, sounds, strict=True):
            row[1 : 1 + len(known)] = torch.tensor([self._sounds.get(s, -1) for s in known])
        if not bool((targets >= 0).any()):
            return hidden.sum() * 0.0
        assert self.sound is not None
        logits = self.sound(hidden).flatten(0, 1).float()
        return F.cross_entropy(logits, targets.flatten(), ignore_index=-1)

    # --- streaming ---

    def counts(self, hidden: Tensor) -> Tensor:
        """Whole tokens ``[1, N]`` of units ``[1, N, D]``: sums stay as predicted, not each unit."""
        ends = self.tokens_per_unit(hidden).clamp(max=LONGEST).cumsum(1).round().long()
        return ends.diff(dim=1, prepend=ends.new_zeros(1, 1))

    def prefill(  # type: ignore[override]
        self, text: Spelling, prefix: Tensor | None = None, capacity: int = 1000
    ) -> DurationState:
        """Read one sentence.

        Args:
            text: Units ``[1, N]``.
            prefix: LLM hidden states ``[1, P, D]``, not padded.
            capacity: Speech tokens at most.

        Returns:
            The state before sos.
        """
        hidden = self.read(text)
        counts = self.counts(hidden)
        size = min(int(counts.sum()), capacity)
        steering = self.steer(hidden, text.lens, counts, size)
        past = self.read_prefix(prefix) if prefix is not None else None
        P = 0 if past is None else past[0].shape[3]
        cache = self.decoder.init_cache(1, P + size)
        if past is not None:
            cache.append(*past)
        return DurationState(cache, P, steering)

    def row(self, token: Tensor, state: DurationState) -> Tensor:  # type: ignore[override]
        """Input vector ``[1, 1, D]`` of the newest token, at its place in the text."""
        at = state.given
        state.given += 1
        return self.embedding(token).unsqueeze(1) + state.steering[:, at : at + 1]

    def begin(  # type: ignore[override]
        self,
        text: Spelling,
        prefix: Tensor | None = None,
        sampling: SamplingConfig | None = None,
        max_tokens: int = 1000,
        generator: torch.Generator | None = None,
    ) -> Sentence:
        """Read one sentence, to speak it with :meth:`next_token` for as long as its durations."""
        sentence = super().begin(cast(Any, text), prefix, sampling, max_tokens, generator)
        sentence.limit = cast(DurationState, sentence.state).steering.shape[1]
        return sentence


def with_sounds(cfg: DurationDecoderConfig, sounds: Sequence[str]) -> DurationDecoderConfig:
    """The config with the pronunciations that training data names."""
    return replace(cfg, sounds=tuple(sounds))
