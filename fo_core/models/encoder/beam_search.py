"""Beam search over a CTC head's frames, with a language model, as a stream of complete words.

Prefix beam search: hypotheses are rows of pieces, each with the log-probability of ending in blank
and in its last piece. A word is handed on as soon as every hypothesis begins with it and goes on
behind it, so a stream gives the same words however it is cut. One stream's state is small and
never changed in place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fo_core.config import config
from fo_core.models.encoder.piece_lm import PieceLM
from fo_core.models.encoder.vocabulary import PieceVocabulary

NEVER = -1e9  # log-probability of what cannot be
UNLIKELY = -9.0  # classes of a frame below this are not looked at
OPEN = 40  # pieces that may be undecided; then the best hypothesis's first word is taken

Hypothesis = tuple[tuple[int, ...], float, float, float]  # pieces, ends in blank, in piece, LM


@config
class SearchConfig:
    """How words are searched."""

    beam: int = 8  # hypotheses kept; 1 = greedy
    classes: int = 12  # best classes of a frame that are looked at
    margin: float = 8.0  # hypotheses so much less likely (natural log) than the best are dropped
    lm_weight: float = 0.6  # on the language model's log-probabilities, where there is one
    bonus: float = 2.5  # for each piece, against the language model's pull to short texts


@dataclass(frozen=True)
class SearchState:
    """One stream."""

    beams: tuple[Hypothesis, ...] = (((), 0.0, NEVER, 0.0),)  # best first
    before: tuple[int, ...] = ()  # newest pieces of the words that were handed on


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    low, high = (a, b) if a < b else (b, a)
    return high if low <= NEVER / 2 else high + math.log1p(math.exp(low - high))


def score(hypothesis: Hypothesis) -> float:
    """Log-probability of the sound and the language model's share."""
    _, blank, piece, lm = hypothesis
    return _add(blank, piece) + lm


class PieceSearch:
    """Words of frames.

    Args:
        cfg: Width and weights.
        vocabulary: Of the CTC head.
        lm: Of the same pieces; None: without.
    """

    def __init__(
        self, cfg: SearchConfig, vocabulary: PieceVocabulary, lm: PieceLM | None = None
    ) -> None:
        self.cfg, self.vocabulary, self.lm = cfg, vocabulary, lm
        self._starts = [False, *(piece.startswith(" ") for piece in vocabulary.pieces)]

    def step(
        self, state: SearchState, frame: Sequence[tuple[int, float]]
    ) -> tuple[list[tuple[int, ...]], SearchState]:
        """One frame.

        Args:
            state: Of the stream.
            frame: Classes with their log-probabilities, blank among them.

        Returns:
            Pieces of each word that is complete now, and the next state.
        """
        found: dict[tuple[int, ...], list[float]] = {}
        for pieces, blank, last, lm in state.beams:
            total = _add(blank, last)
            for klass, chance in frame:
                if klass == 0:
                    _note(found, pieces, total + chance, NEVER, lm)
                    continue
                ends = total
                if pieces and pieces[-1] == klass:
                    _note(found, pieces, NEVER, last + chance, lm)
                    ends = blank
                if ends > NEVER / 2:
                    more = lm + self._weigh(state.before + pieces, klass)
                    _note(found, (*pieces, klass), NEVER, ends + chance, more)
        rows: list[Hypothesis] = [(p, v[0], v[1], v[2]) for p, v in found.items()]
        scored = sorted(((score(row), row) for row in rows), reverse=True)[: self.cfg.beam]
        least = scored[0][0] - self.cfg.margin
        return self._commit(replace(state, beams=tuple(row for s, row in scored if s >= least)))

    def finish(self, state: SearchState) -> tuple[list[tuple[int, ...]], SearchState]:
        """The words of the best hypothesis, and a stream that goes on behind them."""
        pieces = state.beams[0][0]
        before = (state.before + pieces)[-(self._memory()) :]
        return self._words(pieces), SearchState(before=before)

    def _memory(self) -> int:
        return self.lm.order - 1 if self.lm is not None else 1

    def _weigh(self, before: tuple[int, ...], klass: int) -> float:
        if self.lm is None:
            return 0.0
        size = self.lm.order - 1
        context = ((0,) * size + before)[-size:]
        return self.cfg.lm_weight * self.lm.log_probability(context, klass) + self.cfg.bonus

    def _words(self, pieces: Sequence[int]) -> list[tuple[int, ...]]:
        words: list[tuple[int, ...]] = []
        for piece in pieces:
            if not words or self._starts[piece]:
                words.append((piece,))
            else:
                words[-1] += (piece,)
        return words

    def _commit(self, state: SearchState) -> tuple[list[tuple[int, ...]], SearchState]:
        """Hand on the words that all hypotheses begin with."""
        shared = _common([pieces for pieces, *_ in state.beams])
        words = self._words(shared)[:-1]  # the last one may go on
        beams = state.beams
        if not words and len(beams[0][0]) > OPEN:
            words = self._words(beams[0][0])[:1]
            beams = tuple(b for b in beams if b[0][: len(words[0])] == words[0])
        if not words:
            return [], state
        size = sum(map(len, words))
        before = (state.before + beams[0][0][:size])[-self._memory() :]
        top = score(beams[0])
        kept = tuple((p[size:], b - top, n - top, lm) for p, b, n, lm in beams)
        return words, SearchState(kept, before)


def _note(
    found: dict[tuple[int, ...], list[float]],
    pieces: tuple[int, ...],
    blank: float,
    last: float,
    lm: float,
) -> None:
    row = found.get(pieces)
    if row is None:
        found[pieces] = [blank, last, lm]
    else:
        row[0], row[1] = _add(row[0], blank), _add(row[1], last)


def _common(rows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The longest common beginning."""
    first, last = min(rows), max(rows)
    for place, piece in enumerate(first):
        if place >= len(last) or last[place] != piece:
            return first[:place]
    return first
