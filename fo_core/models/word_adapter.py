"""An adapter that writes the words the CTC head heard in the LLM's own tokens, word by word.

A deviation from the paper, for small data and for any LLM: the head's classes are pieces of
spelling (``ctc.vocabulary: pieces``), so nothing of the head depends on the LLM. Pieces are
collected until their word is complete: when the next piece begins a word, when ``pause`` blank
frames have passed, or at the end of speech (``flush``). Then the word is tokenised as the LLM's
tokenizer would in a text, and its embedding rows are handed on. On top lies a projection of the
word's mean encoder frame behind a gate that starts at 0 (stage ``input-2``).

``forward`` is one step from a fresh state, and a flush. Parameters: ``project``, ``gate``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fo_core.config import config
from fo_core.errors import ConfigError
from fo_core.models.chat import encode
from fo_core.models.vocabulary import PieceVocabulary

BEFORE = "a"  # stands before a word to see how the tokenizer writes it inside a text


@config
class WordAdapterConfig:
    """Adapter that writes whole words."""

    type: Literal["words"] = "words"
    pause: int = 10  # blank frames (40 ms) after which an open word is complete; 0 = never


@dataclass(frozen=True)
class OpenWord:
    """What one stream has heard of a word that is not complete."""

    last: int = 0  # class of the frame before
    pieces: tuple[int, ...] = ()  # classes so far
    blanks: int = 0  # blank frames since the last piece
    frames: int = 0  # frames that said a piece
    begun: bool = False  # whether a word has been written in this stream


@dataclass
class WordAdapterState:
    """The word that is open at the end of a chunk, for every stream."""

    words: list[OpenWord]
    frame: Tensor  # [B, E] sum of the open word's encoder frames


class WordAdapter(nn.Module):
    """Words of a CTC head over pieces to vectors in the LLM's embedding space.

    Args:
        cfg: When a word is complete.
        enc_dim: E, width of the encoder's frames.
        llm_dim: H, width of the LLM.
        vocabulary: Of the CTC head.
        tokenizer: The LLM's.
        embed: LLM token ids to embedding rows ``[1, N, H]``.

    Raises:
        ConfigError: The head's classes are not pieces, or the pause is negative.
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
        if cfg.pause < 0:
            raise ConfigError(f"adapter.pause {cfg.pause}", possible="0 (never) or more frames")
        self.cfg, self.enc_dim, self.llm_dim = cfg, enc_dim, llm_dim
        self.vocabulary, self._tokenizer, self._embed = vocabulary, tokenizer, embed
        self.project = nn.Linear(enc_dim, llm_dim)
        self.gate = nn.Parameter(torch.zeros(()))
        self._ids = lru_cache(maxsize=20_000)(self._tokenise)

    def init_state(self, batch_size: int) -> WordAdapterState:
        """No open word."""
        zeros = self.project.weight.new_zeros(batch_size, self.enc_dim, dtype=torch.float32)
        return WordAdapterState([OpenWord()] * batch_size, zeros)

    def forward(
        self, x: Tensor, lens: Tensor | None = None, ctc_logits: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Whole utterances.

        Args:
            x: Encoder frames ``[B, T, E]``.
            lens: Real frames ``[B]``; None: all are.
            ctc_logits: ``[B, T, V]``.

        Returns:
            ``[B, N, H]`` with zeros beyond each length, and the lengths ``[B]`` (0 is possible).
        """
        embeds, counts, _ = self._run(x, self.init_state(x.shape[0]), ctc_logits, lens, True)
        return embeds, counts

    def step(
        self, x: Tensor, state: WordAdapterState, ctc_logits: Tensor | None = None
    ) -> tuple[Tensor, Tensor, WordAdapterState]:
        """One chunk ``[B, T, E]``, logits ``[B, T, V]`` -> ``[B, N, H]``, lengths, next state."""
        return self._run(x, state, ctc_logits, None, False)

    def flush(self, state: WordAdapterState) -> tuple[Tensor, Tensor, WordAdapterState]:
        """End of speech: the open word, if there is one -> ``[B, N, H]``, lengths, state."""
        batch = len(state.words)
        x = self.project.weight.new_zeros(batch, 0, self.enc_dim)
        return self._run(x, state, x.new_zeros(batch, 0, len(self.vocabulary) + 1), None, True)

    def _run(
        self,
        x: Tensor,
        state: WordAdapterState,
        logits: Tensor | None,
        lens: Tensor | None,
        last: bool,
    ) -> tuple[Tensor, Tensor, WordAdapterState]:
        assert logits is not None, "the word adapter needs the CTC head's logits"
        best = logits.argmax(-1).tolist()
        ends = [x.shape[1]] * len(best) if lens is None else lens.tolist()
        rows, words, sums = [], [], []
        for b, (classes, end) in enumerate(zip(best, ends, strict=True)):
            vectors, word, frame = self._row(x[b], classes[:end], state.words[b], state.frame[b])
            if last:
                vectors += self._written(word, frame)
                word, frame = OpenWord(), torch.zeros_like(frame)
            rows.append(torch.cat(vectors) if vectors else frame.new_zeros(0, self.llm_dim))
            words.append(word)
            sums.append(frame)
        counts = torch.tensor([len(row) for row in rows], device=x.device)
        packed = nn.utils.rnn.pad_sequence([r.to(x.dtype) for r in rows], batch_first=True)
        return packed, counts, WordAdapterState(words, torch.stack(sums))

    def _row(
        self, x: Tensor, classes: list[int], word: OpenWord, frame: Tensor
    ) -> tuple[list[Tensor], OpenWord, Tensor]:
        """Frames ``[T, E]`` of one stream: vectors of complete words, the open word, its sum."""
        vectors: list[Tensor] = []
        for place, found in enumerate(classes):
            fresh = found > 0 and found != word.last
            if fresh and self.vocabulary.pieces[found - 1].startswith(" ") and word.pieces:
                vectors += self._written(word, frame)
                word, frame = OpenWord(begun=True), torch.zeros_like(frame)
            if found > 0:
                pieces = (*word.pieces, found) if fresh else word.pieces
                frame = frame + x[place].float()
                word = replace(word, pieces=pieces, last=found, blanks=0, frames=word.frames + 1)
            else:
                word = replace(word, last=0, blanks=word.blanks + 1)
                if word.pieces and word.blanks == self.cfg.pause:
                    vectors += self._written(word, frame)
                    word, frame = OpenWord(begun=True), torch.zeros_like(frame)
        return vectors, word, frame

    def _written(self, word: OpenWord, frame: Tensor) -> list[Tensor]:
        """Vectors ``[N, H]`` of a word, in a list; none where there is no word."""
        ids = self._ids(self.vocabulary.join(word.pieces), word.begun)
        if not ids:
            return []
        mean = (frame / max(1, word.frames)).to(self.project.weight.dtype)
        rows = self._embed(list(ids))[0]
        return [rows.to(mean) + self.gate * self.project(mean)]

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
