"""What the classes of a CTC head stand for: tokens of the LLM, or pieces of spelling.

Tokens tie the head to one LLM's tokenizer, and an open domain needs thousands of them. Pieces are
plain strings, characters and frequent runs of them, in which every transcript can be spelled; they
do not depend on the LLM. A piece that begins with a space begins a word. Class 0 is blank in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol

from fo_core.errors import ConfigError, DataError
from fo_core.models.llm.chat import encode

LONGEST = 8  # characters of a piece, its space not counted


class Vocabulary(Protocol):
    """Texts to classes of a CTC head and back."""

    def __len__(self) -> int:
        """Classes without blank."""

    def encode(self, text: str) -> list[int]:
        """Classes of a transcript; what has no class is skipped."""

    def missing(self, text: str) -> list[str]:
        """What of a transcript has no class."""

    def decode(self, classes: Sequence[int]) -> str:
        """The text of classes without blanks."""


class TokenVocabulary:
    """Some of the LLM's own tokens.

    Args:
        token_ids: LLM token id of each class; a first -1 (blank) may be left out.
        tokenizer: The LLM's; without one only ids can be handled.

    Raises:
        ConfigError: A token is negative or appears twice.
    """

    def __init__(self, token_ids: Sequence[int], tokenizer: Any = None) -> None:
        ids = [int(i) for i in token_ids]
        self.token_ids = ids[1:] if ids[:1] == [-1] else ids
        if min(self.token_ids, default=0) < 0 or len(set(self.token_ids)) < len(self.token_ids):
            raise ConfigError("ctc.tokens", possible="LLM token ids of 0 and above, each once")
        self.tokenizer = tokenizer
        self._classes = {token: index for index, token in enumerate(self.token_ids, 1)}

    def __len__(self) -> int:
        return len(self.token_ids)

    def classes(self, ids: Iterable[int]) -> list[int]:
        """Classes of LLM token ids; those without one are skipped."""
        return [self._classes[int(i)] for i in ids if int(i) in self._classes]

    def encode(self, text: str) -> list[int]:
        """See :class:`Vocabulary`."""
        return self.classes(encode(self.tokenizer, text))

    def missing(self, text: str) -> list[str]:
        """See :class:`Vocabulary`."""
        ids = (i for i in encode(self.tokenizer, text) if i not in self._classes)
        return [self.tokenizer.decode([i]) for i in ids]

    def decode(self, classes: Sequence[int]) -> str:
        """See :class:`Vocabulary`."""
        ids = [self.token_ids[c - 1] for c in classes]
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip() if ids else ""


class PieceVocabulary:
    """Pieces of spelling. A word is written by the fewest pieces, the longest first.

    Args:
        pieces: String of each class.

    Raises:
        ConfigError: A piece is empty, appears twice, or has a space behind its first character.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = tuple(pieces)
        wrong = [p for p in self.pieces if not p or " " in p[1:]]
        if wrong or len(set(self.pieces)) < len(self.pieces):
            raise ConfigError(
                f"ctc.pieces {wrong[:3] or 'with doubles'}",
                possible="strings, each once, with a space at most in front",
            )
        self._classes = {piece: index for index, piece in enumerate(self.pieces, 1)}
        self._longest = max(map(len, self.pieces), default=0)
        self._spelled = lru_cache(maxsize=100_000)(self._spell)

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """See :class:`Vocabulary`."""
        return [c for word in text.split() for c in self._spelled(f" {word}")]

    def missing(self, text: str) -> list[str]:
        """See :class:`Vocabulary`: characters that no piece of one character has."""
        return [c for word in text.split() for c in f" {word}" if c not in self._classes]

    def decode(self, classes: Sequence[int]) -> str:
        """See :class:`Vocabulary`."""
        return self.join(classes).strip()

    def join(self, classes: Sequence[int]) -> str:
        """The text of classes with the space that may be in front."""
        return "".join(self.pieces[c - 1] for c in classes)

    def _spell(self, word: str) -> tuple[int, ...]:
        """Fewest pieces of a word with its space; from the end, so that ties go to long firsts."""
        best: list[tuple[int, int]] = [(0, 0)] * (len(word) + 1)  # (pieces to the end, length here)
        for at in range(len(word) - 1, -1, -1):
            options = [
                (best[at + size][0] + 1, -size)
                for size in range(1, min(self._longest, len(word) - at) + 1)
                if word[at : at + size] in self._classes
            ]
            count, size = min(options, default=(best[at + 1][0], -1))  # a character without class
            best[at] = count, -size
        found, at = [], 0
        while at < len(word):
            piece = word[at : at + best[at][1]]
            if piece in self._classes:
                found.append(self._classes[piece])
            at += best[at][1]
        return tuple(found)


def make_pieces(texts: Iterable[str], size: int) -> tuple[str, ...]:
    """Pieces for some transcripts: all of their characters, then merges by byte-pair encoding.

    Args:
        texts: Transcripts; every one of them can be spelled in the result.
        size: How many pieces; characters come on top where they alone are more.

    Raises:
        DataError: There is no text.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    words = [f" {word}" for text in texts for word in text.split()]
    if not words:
        raise DataError("no item has a transcript", do="give a manifest of transcribed speech")
    characters = sorted({c for word in words for c in word})
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Split("\n", "removed")
    trainer = trainers.BpeTrainer(
        vocab_size=max(size, len(characters)),
        initial_alphabet=characters,
        show_progress=False,
        max_token_length=LONGEST + 1,
    )
    model.train_from_iterator(words, trainer)
    known = model.get_vocab()
    ranked = sorted(known, key=lambda piece: known[piece])
    return tuple(characters) + tuple(p for p in ranked if p not in characters)
