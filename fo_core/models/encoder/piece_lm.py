"""An n-gram language model over a CTC head's pieces: which spelling is likely behind which.

CTC says each frame's class by itself; small heads hear "theternption". Counted once from texts
(transcripts and any others), the model tells the beam search of the word adapter what words look
like. Witten-Bell interpolation: p(w | h) = (c(hw) + u(h) p(w | h')) / (c(h) + u(h)), with u(h) the
different pieces seen behind h and h' one piece shorter. N-grams are 64-bit keys in sorted arrays.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from fo_core.errors import CheckpointError, DataError
from fo_core.io.checkpoint import load_tensors, save_tensors
from fo_core.models.encoder.vocabulary import PieceVocabulary

ORDER = 5  # pieces of the longest n-gram
FILE = "piece_lm.safetensors"  # in a model folder
NAMES = ("ngrams", "counts", "contexts", "totals", "kinds")


class PieceLM:
    """Log-probabilities of the next piece.

    Args:
        classes: Pieces of the CTC head, blank not counted.
        ngrams: Keys of n-grams, rising, int64 ``[M]``.
        counts: How often each was seen ``[M]``.
        contexts: Keys of what stands before, rising, int64 ``[K]``.
        totals: How often anything was seen behind each ``[K]``.
        kinds: How many different pieces ``[K]``.
    """

    order = ORDER

    def __init__(
        self,
        classes: int,
        ngrams: np.ndarray,
        counts: np.ndarray,
        contexts: np.ndarray,
        totals: np.ndarray,
        kinds: np.ndarray,
    ) -> None:
        self.classes = classes
        self.arrays = (ngrams, counts, contexts, totals, kinds)
        self._p = lru_cache(maxsize=200_000)(self._probability)

    @classmethod
    def count(cls, vocabulary: PieceVocabulary, texts: Iterable[str], least: int = 2) -> PieceLM:
        """Count the n-grams of texts.

        Args:
            vocabulary: Of the CTC head.
            texts: One sentence or utterance each; doubles count once.
            least: N-grams of three and more pieces that are rarer are dropped.

        Raises:
            DataError: There is no text.
        """
        grams: Counter[tuple[int, ...]] = Counter()
        for text in dict.fromkeys(texts):
            row = vocabulary.encode(text)
            row = [0] * (ORDER - 1) + row if row else row
            for end in range(ORDER, len(row) + 1):
                grams.update(tuple(row[end - size : end]) for size in range(1, ORDER + 1))
        if not grams:
            raise DataError("no text for the language model", do="give texts or a manifest")
        totals: Counter[tuple[int, ...]] = Counter()
        kinds: Counter[tuple[int, ...]] = Counter()
        for gram, number in grams.items():
            totals[gram[:-1]] += number
            kinds[gram[:-1]] += 1
        kept = {g: n for g, n in grams.items() if len(g) < 3 or n >= least}
        needed = {g[:-1] for g in kept}
        base = len(vocabulary) + 2
        ngrams, counts = _sorted({_key(g, base): n for g, n in kept.items()})
        contexts, sums = _sorted({_key(h, base): totals[h] for h in needed})
        _, different = _sorted({_key(h, base): kinds[h] for h in needed})
        return cls(len(vocabulary), ngrams, counts, contexts, sums, different)

    def log_probability(self, before: Sequence[int], piece: int) -> float:
        """Natural log of p(piece | the pieces before it), class 0 standing for a beginning."""
        return math.log(self._p(tuple(before)[-(ORDER - 1) :], piece))

    def _probability(self, before: tuple[int, ...], piece: int) -> float:
        ngrams, counts, contexts, totals, kinds = self.arrays
        base = self.classes + 2
        place = _find(contexts, _key(before, base))
        if not before:
            total = float(totals[place]) if place >= 0 else 0.0
            seen = _find(ngrams, _key((piece,), base))
            return (float(counts[seen] if seen >= 0 else 0) + 0.5) / (total + 0.5 * self.classes)
        shorter = self._p(before[1:], piece)
        if place < 0:
            return shorter
        seen = _find(ngrams, _key((*before, piece), base))
        number = float(counts[seen]) if seen >= 0 else 0.0
        return (number + float(kinds[place]) * shorter) / (float(totals[place] + kinds[place]))

    def save(self, folder: Path) -> None:
        """Write it into a model folder."""
        tensors = {n: torch.from_numpy(a) for n, a in zip(NAMES, self.arrays, strict=True)}
        save_tensors(folder / FILE, tensors, {"classes": self.classes})

    @classmethod
    def load(cls, folder: Path, classes: int) -> PieceLM | None:
        """That of a model folder; None where there is none.

        Raises:
            CheckpointError: The file is damaged, or of other pieces.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        tensors = load_tensors(path)
        if set(tensors) != set(NAMES) or len(tensors["ngrams"]) != len(tensors["counts"]):
            raise CheckpointError(f"{path} is no language model of pieces", do="make it again")
        arrays = [tensors[name].numpy() for name in NAMES]
        if len(arrays[0]) and int(arrays[0][-1]) >= (classes + 2) ** ORDER:
            raise CheckpointError(
                f"{path} is of more pieces than the {classes} of this model's CTC head",
                do="make it again (fo models language-model)",
            )
        return cls(classes, *arrays)


def _key(gram: Sequence[int], base: int) -> int:
    """A number for an n-gram; shorter ones begin with zeros, classes are counted from 1."""
    key = 0
    for piece in gram:
        key = key * base + piece + 1
    return key


def _sorted(table: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    keys = np.fromiter(table, dtype=np.int64, count=len(table))
    values = np.fromiter(table.values(), dtype=np.int32, count=len(table))
    order = keys.argsort()
    return keys[order], values[order]


def _find(keys: np.ndarray, key: int) -> int:
    place = int(keys.searchsorted(key))
    return place if place < len(keys) and int(keys[place]) == key else -1
