"""An adapter that writes the words the CTC head heard in the LLM's own tokens, word by word.

A deviation from the paper, for small data and for any LLM: the head's classes are pieces of
spelling (``ctc.vocabulary: pieces``), so nothing of the head depends on the LLM. Beam search
(:mod:`fo_core.models.encoder.beam_search`), with a language model over pieces where the model
folder has one, finds the words; each is complete when every hypothesis agrees on it, when
``pause`` blank frames have passed, or at the end of speech (``flush``). Then it is tokenised as
the LLM's tokenizer would in a text, and its embedding rows are handed on. On top lies a projection
of the mean encoder frame since the word before, behind a gate that starts at 0 (stage ``input-2``).

``forward`` is one step from a fresh state, and a flush. Parameters: ``project``, ``gate``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fo_core.config import config
from fo_core.errors import ConfigError
from fo_core.models.adapter.speech_adapter import SpeechAdapter
from fo_core.models.encoder.beam_search import UNLIKELY, PieceSearch, SearchConfig, SearchState
from fo_core.models.encoder.piece_lm import PieceLM
from fo_core.models.encoder.vocabulary import PieceVocabulary
from fo_core.models.llm.chat import encode

SILENT = 0.01  # chance of being no blank below which a frame leaves no mark on the word before
BEFORE = "a"  # stands before a word to see how the tokenizer writes it inside a text


@config
class WordAdapterConfig:
    """Adapter that writes whole words."""

    type: Literal["words"] = "words"
    pause: int = 10  # blank frames (40 ms) after which an open word is complete; 0 = never
    search: SearchConfig = SearchConfig()  # width and weights of the beam search


@dataclass(frozen=True)
class WordStream:
    """What one stream has heard."""

    search: SearchState = SearchState()
    blanks: int = 0  # blank frames in a row
    weight: float = 0.0  # of the frames in the sum since the last word
    said: tuple[str, ...] = ()  # words so far, with their spaces


@dataclass
class WordAdapterState:
    """Every stream's search, and its encoder frames since the last word."""

    streams: list[WordStream]
    frame: Tensor  # [B, E] sum of encoder frames, each weighed by its chance of being no blank

    def text(self, row: int = 0) -> str:
        """What a stream has said so far."""
        return "".join(self.streams[row].said).strip()


class WordAdapter(SpeechAdapter[WordAdapterState]):
    """Words of a CTC head over pieces to vectors in the LLM's embedding space.

    Args:
        cfg: When a word is complete, how it is searched.
        enc_dim: E, width of the encoder's frames.
        llm_dim: H, width of the LLM.
        vocabulary: Of the CTC head.
        tokenizer: The LLM's.
        embed: LLM token ids to embedding rows ``[1, N, H]``.

    Raises:
        ConfigError: The head's classes are not pieces, or a setting is negative.
    """

    requires_ctc = True

    def __init__(
        self,
        cfg: WordAdapterConfig,
        enc_dim: int,
        llm_dim: int,
        vocabulary: Any,
        tokenizer: Any,
        embed: Callable[[list[int]], Tensor],
    ) -> None:
        super().__init__()
        if not isinstance(vocabulary, PieceVocabulary):
            raise ConfigError(
                "adapter.type words needs a CTC head over pieces",
                do="set ctc.vocabulary: pieces, or take adapter.type: ctc",
            )
        if cfg.pause < 0 or cfg.search.beam < 1 or cfg.search.classes < 1:
            raise ConfigError(
                f"adapter: pause {cfg.pause}, search.beam {cfg.search.beam}, "
                f"search.classes {cfg.search.classes}",
                possible="a pause of 0 or more, the others 1 or more",
            )
        self.cfg, self.enc_dim, self.llm_dim = cfg, enc_dim, llm_dim
        self.vocabulary, self._tokenizer, self._embed = vocabulary, tokenizer, embed
        self.search = PieceSearch(cfg.search, vocabulary)
        self.project = nn.Linear(enc_dim, llm_dim)
        self.gate = nn.Parameter(torch.zeros(()))
        self._ids = lru_cache(maxsize=20_000)(self._tokenise)

    def attach_lm(self, lm: PieceLM | None) -> None:
        """Search with a language model over the same pieces; None: without."""
        self.search = PieceSearch(self.cfg.search, self.vocabulary, lm)

    def init_state(self, batch_size: int) -> WordAdapterState:
        """Nothing heard."""
        zeros = self.project.weight.new_zeros(batch_size, self.enc_dim, dtype=torch.float32)
        return WordAdapterState([WordStream()] * batch_size, zeros)

    def flush(self, state: WordAdapterState) -> tuple[Tensor, Tensor, WordAdapterState]:
        """End of speech: what is not complete yet -> ``[B, N, H]``, lengths, state.

        The state keeps the text that was said; a stream goes on as a new one behind it.
        """
        batch = len(state.streams)
        x = self.project.weight.new_zeros(batch, 0, self.enc_dim)
        return self._run(x, state, x.new_zeros(batch, 0, len(self.vocabulary) + 1), None, True)

    def read(self, ctc_logits: Tensor, lens: Tensor | None = None) -> list[str]:
        """Texts of whole utterances' logits ``[B, T, V]``, as the LLM is told them."""
        x = self.project.weight.new_zeros(*ctc_logits.shape[:2], self.enc_dim)
        state = self._run(x, self.init_state(x.shape[0]), ctc_logits, lens, True)[2]
        return [state.text(row) for row in range(len(state.streams))]

    def _run(
        self,
        x: Tensor,
        state: WordAdapterState,
        logits: Tensor | None,
        lens: Tensor | None,
        last: bool,
    ) -> tuple[Tensor, Tensor, WordAdapterState]:
        assert logits is not None, "the word adapter needs the CTC head's logits"
        chances = logits.detach().float().log_softmax(-1)
        count = min(self.cfg.search.classes, chances.shape[-1])
        best, classes = chances.topk(count, dim=-1)
        blank = chances[..., 0].tolist()
        frames = zip(blank, best.tolist(), classes.tolist(), strict=True)
        ends = [x.shape[1]] * x.shape[0] if lens is None else lens.tolist()
        rows, streams, sums = [], [], []
        for b, (row, end) in enumerate(zip(frames, ends, strict=True)):
            found = _Row(self, x[b], state.streams[b], state.frame[b])
            for place, (silent, likely, which) in enumerate(zip(*row, strict=True)):
                if place >= end:
                    break
                found.hear(place, silent, likely, which)
            if last:
                found.finish()
            rows.append(found.embeds())
            streams.append(found.stream)
            sums.append(found.frame)
        counts = torch.tensor([len(row) for row in rows], device=x.device)
        packed = nn.utils.rnn.pad_sequence([r.to(x.dtype) for r in rows], batch_first=True)
        return packed, counts, WordAdapterState(streams, torch.stack(sums))

    def vectors(self, word: str, begun: bool, mean: Tensor) -> Tensor:
        """Vectors ``[N, H]`` of a word and the mean frame ``[E]`` since the one before."""
        ids = self._ids(word, begun)
        if not ids:
            return mean.new_zeros(0, self.llm_dim)
        mean = mean.to(self.project.weight.dtype)
        return self._embed(list(ids))[0].to(mean) + self.gate * self.project(mean)

    def _tokenise(self, text: str, begun: bool) -> tuple[int, ...]:
        """LLM token ids of a word: without its space where it is the first of a text."""
        if not text.strip():
            return ()
        if not begun:
            return tuple(encode(self._tokenizer, text.strip()))
        before = encode(self._tokenizer, BEFORE)
        ids = encode(self._tokenizer, BEFORE + text)
        if ids[: len(before)] == before:
            return tuple(ids[len(before) :])
        return tuple(encode(self._tokenizer, text))


@dataclass
class _Row:
    """One stream while frames go through it."""

    adapter: WordAdapter
    x: Tensor  # [T, E]
    stream: WordStream
    frame: Tensor  # [E]
    found: list[Tensor] = field(default_factory=list)

    def hear(
        self, place: int, silent: float, likely: Sequence[float], which: Sequence[int]
    ) -> None:
        """One frame: its log-probability of blank, and of its likeliest classes."""
        adapter, stream = self.adapter, self.stream
        sounding = -math.expm1(silent)  # chance of being no blank
        sounding = 0.0 if sounding < SILENT else sounding
        self.frame = self.frame + sounding * self.x[place].float()
        blanks = stream.blanks + 1 if which[0] == 0 else 0
        frame = [(0, silent)]
        frame += [(k, c) for k, c in zip(which, likely, strict=True) if k and c > UNLIKELY]
        words, search = adapter.search.step(stream.search, frame)
        self.stream = replace(stream, search=search, blanks=blanks, weight=stream.weight + sounding)
        self._write(words)
        if blanks and blanks == adapter.cfg.pause:
            self.finish()

    def finish(self) -> None:
        """The words that are open are complete."""
        words, search = self.adapter.search.finish(self.stream.search)
        self.stream = replace(self.stream, search=search)
        self._write(words)

    def _write(self, words: Sequence[tuple[int, ...]]) -> None:
        if not words:
            return
        mean = self.frame / max(self.stream.weight, 1e-6)
        for pieces in words:
            text = self.adapter.vocabulary.join(pieces)
            self.found.append(self.adapter.vectors(text, bool(self.stream.said), mean))
            self.stream = replace(self.stream, said=(*self.stream.said, text), weight=0.0)
        self.frame = torch.zeros_like(self.frame)

    def embeds(self) -> Tensor:
        """Vectors ``[N, H]`` of the words that became complete."""
        if not self.found:
            return self.frame.new_zeros(0, self.adapter.llm_dim)
        return torch.cat(self.found)
