"""Beam search over CTC frames with a language model: streams give what the whole gives."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from fo_core.errors import CheckpointError, DataError
from fo_core.io.checkpoint import save_tensors
from fo_core.models.encoder.beam_search import NEVER, PieceSearch, SearchConfig, SearchState
from fo_core.models.encoder.piece_lm import FILE, PieceLM
from fo_core.models.encoder.vocabulary import PieceVocabulary

WORDS = PieceVocabulary([" a", "b", " c", "d"])
TEXTS = ["ab cd", "ab ab cd", "cd ab", "a cb ab"]


def frames(rows: np.ndarray) -> list[list[tuple[int, float]]]:
    logs = rows - np.log(np.exp(rows).sum(1, keepdims=True))
    return [list(enumerate(row.tolist())) for row in logs]


def words_of(search: PieceSearch, rows: list[list[tuple[int, float]]]) -> list[str]:
    state, found = SearchState(), []
    for row in rows:
        words, state = search.step(state, row)
        found += words
    return [WORDS.join(w) for w in found + search.finish(state)[0]]


def alignments(pieces: tuple[int, ...], logs: np.ndarray) -> float:
    """Log-probability of a text by adding up all of its paths."""
    total = NEVER
    for path in itertools.product(range(5), repeat=len(logs)):
        kept = tuple(k for k, _ in itertools.groupby(path) if k)
        if kept == pieces:
            total = np.logaddexp(total, sum(logs[t, k] for t, k in enumerate(path)))
    return float(total)


def test_the_search_finds_the_likeliest_text_of_all() -> None:
    draw = np.random.default_rng(0)
    for _ in range(5):
        rows = draw.normal(size=(4, 5))
        logs = rows - np.log(np.exp(rows).sum(1, keepdims=True))
        texts = [t for n in range(5) for t in itertools.product(range(1, 5), repeat=n)]
        best = max(texts, key=lambda t: alignments(t, logs))
        search = PieceSearch(SearchConfig(beam=500, classes=5, margin=1e9), WORDS)
        assert "".join(words_of(search, frames(rows))) == WORDS.join(best)


def test_the_language_model_decides_where_the_sound_does_not() -> None:
    lm = PieceLM.count(WORDS, ["ab ab", "ab ab ab", "ab", "cd"] * 1, least=1)
    rows = np.full((3, 5), -6.0)
    rows[0, 1], rows[1, 0] = 3.0, 3.0
    rows[2, 2], rows[2, 4] = 0.0, 0.1  # " a" then "b" or, a little likelier, "d"
    plain = PieceSearch(SearchConfig(bonus=0.0), WORDS)
    taught = PieceSearch(SearchConfig(bonus=0.0), WORDS, lm)
    assert words_of(plain, frames(rows)) == [" ad"]
    assert words_of(taught, frames(rows)) == [" ab"]


def test_words_leave_when_all_agree_and_none_is_lost() -> None:
    lm = PieceLM.count(WORDS, TEXTS, least=1)
    search = PieceSearch(SearchConfig(margin=6.0), WORDS, lm)
    rows = np.full((12, 5), -4.0)
    for place, klass in enumerate((1, 0, 2, 0, 3, 0, 4, 0, 1, 0, 2, 0)):
        rows[place, klass] = 4.0
    state, when = SearchState(), {}
    for place, row in enumerate(frames(rows)):
        words, state = search.step(state, row)
        when |= {WORDS.join(w): place for w in words}
    assert when[" ab"] == 4 and when[" cd"] == 8  # with the next word's first piece
    assert [WORDS.join(w) for w in search.finish(state)[0]] == [" ab"]


def test_probabilities_add_up_and_known_pieces_are_likelier() -> None:
    lm = PieceLM.count(WORDS, TEXTS, least=1)
    for before in ((), (1,), (0, 0, 0, 1), (2, 3)):
        total = sum(math.exp(lm.log_probability(before, k)) for k in range(1, 5))
        assert total == pytest.approx(1.0, abs=1e-9)
    assert lm.log_probability((0, 0, 0, 1), 2) > lm.log_probability((0, 0, 0, 1), 4)


def test_it_is_kept_in_a_model_folder_and_checked(tmp_path: Path) -> None:
    lm = PieceLM.count(WORDS, TEXTS, least=1)
    lm.save(tmp_path)
    again = PieceLM.load(tmp_path, 4)
    assert again is not None
    assert again.log_probability((1,), 2) == lm.log_probability((1,), 2)
    assert PieceLM.load(tmp_path / "none", 4) is None
    with pytest.raises(CheckpointError, match="more pieces"):
        PieceLM.load(tmp_path, 2)
    save_tensors(tmp_path / FILE, {})
    with pytest.raises(CheckpointError, match="no language model"):
        PieceLM.load(tmp_path, 4)
    with pytest.raises(DataError, match="no text"):
        PieceLM.count(WORDS, [""])
