"""How long each letter of a text is spoken, from the phonemes and durations of a voice engine.

A speech decoder with durations reads spelling, a voice engine counts tokens per phoneme. Letters
and phonemes of a word run in the same order, so each phoneme belongs to one letter, and a letter to
none (silent) or several. Which ones is learned from the words themselves: hard
expectation-maximisation over p(phoneme | letter), one table for a voice.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

FLOOR = math.log(1e-4)  # log-probability of a pair that was never seen
SILENT = math.log(0.1)  # of a letter without a phoneme
MARKS = frozenset(".,?!;:-'\u2014\u2026")  # stand for themselves on both sides
STRESS = frozenset("\u02c8\u02cc")  # belong to the phoneme behind them
PAUSES = ("_",)  # an engine's symbol at a sentence's beginning and end


@dataclass(frozen=True)
class Letters:
    """A text with the time of each letter.

    Attributes:
        text: Characters as they are read, single spaces between words.
        counts: Tokens (25 ms) of the silence before, of every character, and of the silence after.
        sounds: Phonemes of every character, "" where it is silent.
    """

    text: str
    counts: tuple[int, ...]
    sounds: tuple[str, ...]


@dataclass
class LetterAligner:
    """Learned once from many words, then used on every utterance."""

    scores: dict[str, dict[str, float]] = field(default_factory=dict)  # letter -> phoneme -> log p

    @classmethod
    def fit(cls, pairs: Iterable[tuple[str, Sequence[str]]], rounds: int = 5) -> LetterAligner:
        """Learn from words and their phonemes.

        Args:
            pairs: Of one word each, its phonemes as :func:`split_words` has them; doubles count
                once.
            rounds: Alignments and counts in turn.
        """
        words = sorted({(w.lower(), tuple(p)) for w, p in pairs if w and p})
        found = cls()
        for _ in range(rounds):
            counts: dict[str, Counter[str]] = defaultdict(Counter)
            for word, phonemes in words:
                for letter, group in zip(word, found.align(word, phonemes), strict=True):
                    counts[letter].update(phonemes[i] for i in group)
            found.scores = {
                letter: {p: math.log(n / sum(row.values())) for p, n in row.items()}
                for letter, row in counts.items()
            }
        return found

    def align(self, word: str, phonemes: Sequence[str]) -> list[list[int]]:
        """Places of the phonemes of every letter of a lower-case word, in order."""
        N, M = len(word), len(phonemes)
        best = [[-math.inf] * (M + 1) for _ in range(N + 1)]  # first N letters, first M phonemes
        came = [[0] * (M + 1) for _ in range(N + 1)]  # phonemes of the letter before
        best[0][0] = 0.0
        for n in range(1, N + 1):
            for m in range(M + 1):
                score = 0.0
                for size in range(min(m, 4 if N > 1 else m) + 1):
                    if size:
                        place = m - size
                        score += self._score(word[n - 1], phonemes[place], n - 1, place, N, M)
                    total = best[n - 1][m - size] + (score if size else SILENT)
                    if total > best[n][m]:
                        best[n][m], came[n][m] = total, size
        if best[N][M] == -math.inf:  # more phonemes than the letters can hold: all to the first
            return [list(range(M)), *([] for _ in range(N - 1))]
        groups: list[list[int]] = []
        m = M
        for n in range(N, 0, -1):
            size = came[n][m]
            groups.append(list(range(m - size, m)))
            m -= size
        return groups[::-1]

    def _score(self, letter: str, phoneme: str, n: int, m: int, N: int, M: int) -> float:
        if (letter in MARKS) != (phoneme in MARKS) and letter not in "'-":
            return 4 * FLOOR
        if not self.scores:  # the first round: the same character, or near the diagonal
            return (letter == phoneme[-1]) - abs((n + 0.5) / N - (m + 0.5) / M)
        return self.scores.get(letter, {}).get(phoneme, FLOOR)


def split_words(symbols: str, counts: Sequence[int]) -> list[tuple[list[str], list[int]]]:
    """An engine's symbols with their counts as words; a silence or a space has no phonemes.

    A sentence's end and the next one's beginning are one silence; a stress mark and the phoneme
    behind it are one phoneme.
    """
    words: list[tuple[list[str], list[int]]] = []
    stress, stressed, fresh = "", 0, True
    for symbol, count in zip(symbols, counts, strict=True):
        if symbol in STRESS:
            stress, stressed = stress + symbol, stressed + count
        elif symbol in (" ", *PAUSES):
            if words and not words[-1][0]:
                words[-1][1][0] += count + stressed
            else:
                words.append(([], [count + stressed]))
            stress, stressed, fresh = "", 0, True
        else:
            if fresh:
                words.append(([], []))
            words[-1][0].append(stress + symbol)
            words[-1][1].append(stressed + count)
            stress, stressed, fresh = "", 0, False
    return words


def letter_counts(
    aligner: LetterAligner, text: str, symbols: str, counts: Sequence[int]
) -> Letters | None:
    """Tokens of every letter of a text.

    Args:
        aligner: Learned from the engine's words.
        text: What the engine spoke.
        symbols: The engine's symbols, with ``PAUSES`` at both ends of every sentence.
        counts: Tokens of each symbol.

    Returns:
        None where the engine read other words than are written (a number, an abbreviation), so
        that words and phonemes are not in step.
    """
    spoken, written = split_words(symbols, counts), text.lower().split()
    words = [entry for entry in spoken if entry[0]]
    in_step = len(words) == len(written) and len(spoken) == 2 * len(words) + 1
    if not in_step or any(bool(e[0]) == (i % 2 == 0) for i, e in enumerate(spoken)):
        return None
    found: list[int] = [sum(spoken[0][1])]
    sounds: list[str] = []
    for index, (word, (phonemes, each)) in enumerate(zip(written, words, strict=True)):
        for group in aligner.align(word, phonemes):
            found.append(sum(each[i] for i in group))
            sounds.append("".join(phonemes[i] for i in group))
        found.append(sum(spoken[2 * index + 2][1]))  # the space, or the silence at the end
        if index + 1 < len(written):
            sounds.append("")
    return Letters(" ".join(written), tuple(found), tuple(sounds))
