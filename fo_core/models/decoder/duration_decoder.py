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
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fo_core.config import config, replace
from fo_core.errors import ConfigError
from fo_core.layers.kv_cache import LlamaConfig
from fo_core.layers.masks import full_mask, valid_rows
from fo_core.layers.transformer import LlamaStack
from fo_core.models.decoder.chunk_layout import Ends, chunk_index
from fo_core.models.decoder.speech_decoder import SpeechDecoder, SpeechDecoderConfig, SpeechLoss
from fo_core.models.decoder.text_units import (
    END,
    PAD,
    START,
    DurationState,
    Spelling,
    readings,
    token_chunks,
)
from fo_core.normalize import speakable
from fo_core.sampling import Compat
from fo_core.spelling import LETTERS, spell
from fo_core.text_chunks import TextChunk, open_text

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
    drafts: int = 0  # tokens guessed ahead of each step, which verifies them; 0 = none
    draft_weight: float = 0.3  # of the loss of the guesses
    compat: Compat = "none"  # there is no published decoder of this kind


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
            reads_chunks=True,  # it need not learn it: attention does not choose what it says next
            prefix=cfg.prefix,
            dropout=cfg.dropout,
            token_noise=cfg.token_noise,
            drafts=cfg.drafts,
            draft_weight=cfg.draft_weight,
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

    def chunk_input(self, llm: Any, chunk: TextChunk, ids: Sequence[int]) -> Spelling:
        """A chunk of a text as units; see :meth:`SpeechDecoder.chunk_input`."""
        row = [] if chunk.joined else [START]
        row += [self._ids[c] for c in self._open_spelling(chunk.text, chunk.more)]
        ahead = [self._ids[c] for c in self._open_spelling(chunk.ahead, True)]
        if not chunk.more:
            row, ahead = [*row, END], []
        units = torch.tensor([[*row, *ahead]], device=self.letters.weight.device)
        return Spelling(units, torch.tensor([units.shape[1]]), ahead=len(ahead))

    def chunked_input(
        self, llm: Any, texts: Sequence[Sequence[TextChunk]]
    ) -> tuple[Spelling, Tensor, None]:
        """Texts by the chunk as units; see :meth:`SpeechDecoder.chunked_input`.

        A text whose chunks are not spelled as all of it is comes whole.
        """
        text, lens = self.text_input(llm, ["".join(c.text for c in chunks) for chunks in texts])
        chunks = []
        for units, size, parts in zip(text.units, lens.tolist(), texts, strict=True):
            row, found = [], []
            for part in parts:
                one = self.chunk_input(llm, part, ())
                row += one.units[0, : one.units.shape[1] - one.ahead].tolist()
                found.append((len(row), min(len(row) + one.ahead, size)))
            chunks.append(found if row == units[:size].tolist() else [(size, size)])
        return Spelling(text.units, lens, chunks), lens, None

    def _open_spelling(self, text: str, more: bool) -> str:
        """Letters of a part of a text, with the blank before it; no mark closes what goes on."""
        letters = open_text(text, self.spell) if more else self.spell(text)
        return " " + letters if letters and text[:1].isspace() else letters

    def read(self, text: Spelling) -> Tensor:
        """Units ``[B, N] -> [B, N, D]``, every one seeing all of its text."""
        valid = valid_rows(text.lens, len(text.units), text.units.shape[1], text.units.device)
        x = self._drop(self.letters(text.units))
        return self.read_norm(self.reader(x, positions=0, mask=full_mask(valid), causal=False))

    def read_chunks(self, text: Spelling) -> tuple[Tensor, Tensor | None]:
        """:meth:`read` of texts that may come by the chunk.

        Returns:
            ``[B, N, D]``, each unit as its chunk is read, and the unit behind it, read with it
            (None where every text is whole).
        """
        if not text.chunks:
            return self.read(text), None
        parts, row = readings(text)
        hidden = self.read(parts)  # [R, M, D]
        at = torch.arange(row.shape[1], device=row.device).expand_as(row)
        after = (at + 1).minimum(text.lens[:, None] - 1)
        return hidden[row, at], hidden[row, after]

    def tokens_per_unit(self, hidden: Tensor) -> Tensor:
        """Predicted tokens ``[B, N]`` of units ``[B, N, D]``, not rounded, at least 0."""
        return F.softplus(self.duration(hidden)[..., 0].float())

    def steer(
        self,
        hidden: Tensor,
        lens: Tensor,
        counts: Tensor,
        size: int,
        after: Tensor | None = None,
    ) -> Tensor:
        """What the text adds to the speech decoder's inputs.

        Args:
            hidden: Units ``[B, N, D]``.
            lens: Units of each text ``[B]``.
            counts: Tokens of each unit ``[B, N]``, 0 beyond a text's end.
            size: T.
            after: The unit behind each ``[B, N, D]``; None: the next of ``hidden``.

        Returns:
            ``[B, T, D]``; rows behind a text's last token mean nothing.
        """
        B, _, D = hidden.shape
        last = lens[:, None] - 1
        ends = counts.cumsum(1)  # [B, N]
        time = torch.arange(size, device=hidden.device).expand(B, -1).contiguous()
        unit = torch.searchsorted(ends, time, right=True).minimum(last)  # [B, T]
        behind = (hidden, (unit + 1).minimum(last)) if after is None else (after, unit)
        rows = [
            part.gather(1, at[..., None].expand(-1, -1, D)) for part, at in ((hidden, unit), behind)
        ]
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
        prefix_ends: Ends | None = None,
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
            prefix_ends: Prefix vectors that are there with each chunk of each text, where texts
                come by the chunk.
        """
        assert counts is not None, "the speech decoder with durations learns from durations"
        B, T = tokens.shape
        device = tokens.device
        valid = valid_rows(token_lens, B, T, device)
        hidden, after = self.read_chunks(text)
        steering = self.steer(hidden, text.lens, counts, T, after)
        chunks = None
        if prefix is not None and prefix_ends is not None and text.chunks:
            chunks = chunk_index(prefix_ends, prefix.shape[1]), token_chunks(text, counts, T)
        rows, x = self._rows(steering, tokens, valid, prefix, prefix_lens, chunks)
        logits = self.finish(rows)
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
        found = SpeechLoss(loss, total, right / count, count, terms)
        return self.with_drafts(found, rows, x, targets)

    def _rows(
        self,
        steering: Tensor,
        tokens: Tensor,
        valid: Tensor,
        prefix: Tensor | None,
        prefix_lens: Tensor | None,
        chunks: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Outputs of the main stack ``[B, T, D]``, where row t predicts token t, and its inputs.

        ``chunks``: of each prefix vector ``[B, P]`` and token ``[B, T]``, where texts come by the
        chunk; none sees a later one's.
        """
        B, T = tokens.shape
        past, seen = None, None
        if prefix is not None:
            seen = valid_rows(prefix_lens, B, prefix.shape[1], tokens.device)
            of = None if chunks is None else chunks[0]
            past = self.read_prefix(prefix, seen if prefix_lens is not None else None, of)
        x = self._drop(self.embedding(self._inputs(tokens, valid)[:, :T]))
        x = x + steering
        mask = None
        if past is not None and seen is not None:
            causal = torch.ones(T, T, dtype=torch.bool, device=tokens.device).tril()
            before = seen[:, None].expand(B, T, -1)
            if chunks is not None:
                before = before & (chunks[0][:, None] <= chunks[1][:, :, None])
            mask = torch.cat((before, causal.expand(B, -1, -1)), dim=2).unsqueeze(1)
        return self.decoder(x, positions=0, mask=mask, past=past), x

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
        return self._counts(hidden, torch.zeros(1, 1, device=hidden.device))[0]

    def _counts(self, hidden: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`counts` behind units of ``before [1, 1]`` tokens, and the sum with these."""
        exact = before + self.tokens_per_unit(hidden).clamp(max=LONGEST).cumsum(1)
        ends = exact.round().long()
        return ends.diff(dim=1, prepend=before.round().long()), exact[:, -1:]

    def start(self, capacity: int, batch: int = 1) -> DurationState:  # type: ignore[override]
        """The state before anything is read; see :meth:`StreamingDecoder.start`."""
        weight = self.letters.weight
        return DurationState(
            self.decoder.init_cache(1, min(capacity, 256)),
            torch.zeros(1, 0, dtype=torch.long, device=weight.device),
            weight.new_zeros(1, 0, weight.shape[1]),
            torch.zeros(1, 1, device=weight.device),
        )

    def read_more(  # type: ignore[override]
        self, state: DurationState, text: Spelling, prefix: Tensor | None = None
    ) -> None:
        """Read a text, or its next chunk; see :meth:`SpeechDecoder.read_more`.

        All of the text is read anew as far as it is there; what was steered stays.
        """
        self.read_more_prefix(state, prefix)
        old = state.units.shape[1]
        units = torch.cat((state.units, text.units), dim=1)
        state.units = units[:, : units.shape[1] - text.ahead]
        new = state.units.shape[1] - old
        if not new:
            return
        hidden = self.read(Spelling(units, text.lens.new_tensor([units.shape[1]])))[:, old:]
        after = torch.cat((hidden[:, 1:], hidden[:, -1:]), dim=1)[:, :new]
        hidden = hidden[:, :new]
        counts, state.end = self._counts(hidden, state.end)
        lens = text.lens.new_tensor([new])
        steering = self.steer(hidden, lens, counts, int(counts.sum()), after)
        state.steering = torch.cat((state.steering, steering), dim=1)

    def row(self, token: Tensor, state: DurationState) -> Tensor:
        """Input vector ``[1, 1, D]`` of the newest token, at its place in the text."""
        return self.rows(token, state)

    def rows(self, tokens: Tensor, state: DurationState, ahead: int = 0) -> Tensor:
        """Input vectors ``[1, n, D]`` of tokens, each at its place in the text."""
        at = state.cache.length - state.shift + ahead
        return super().rows(tokens, state) + state.steering[:, at : at + len(tokens)]

    def ready(self, state: DurationState, more: bool) -> int | None:  # type: ignore[override]
        """Tokens that the text read so far takes."""
        return state.steering.shape[1]


def with_sounds(cfg: DurationDecoderConfig, sounds: Sequence[str]) -> DurationDecoderConfig:
    """The config with the pronunciations that training data names."""
    return replace(cfg, sounds=tuple(sounds))
