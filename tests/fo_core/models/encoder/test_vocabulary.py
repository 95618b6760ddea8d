"""What CTC classes stand for: every transcript can be spelled, with the fewest pieces."""

from __future__ import annotations

import pytest

from fo_core.errors import ConfigError, DataError
from fo_core.models.encoder.vocabulary import PieceVocabulary, TokenVocabulary, make_pieces

TEXTS = ["What is the capital of France?", "the cat, the hat: it's what it is.", "Zoë's café"] * 5


def test_made_pieces_spell_every_text_and_nothing_is_lost() -> None:
    words = PieceVocabulary(make_pieces(TEXTS, 60))
    for text in [*TEXTS, "tac Fish"]:
        assert words.missing(text.replace("F", "f") if "Fish" in text else text) == []
    for text in TEXTS:
        assert words.decode(words.encode(text)) == text
    assert make_pieces(TEXTS, 60) == make_pieces(TEXTS, 60)
    assert len(make_pieces(TEXTS, 60)) == 60
    assert len(make_pieces(TEXTS, 1)) == len({c for t in TEXTS for c in t})


def test_the_fewest_pieces_are_taken_and_the_longest_first() -> None:
    words = PieceVocabulary([" ", "a", "b", "c", "ab", "bc", "abc", " a", " ab"])
    assert [words.pieces[c - 1] for c in words.encode("abc")] == [" ab", "c"]
    assert [words.pieces[c - 1] for c in words.encode("bcabc a")] == [" ", "bc", "abc", " a"]


def test_an_unknown_character_is_named_and_skipped() -> None:
    words = PieceVocabulary([" ", "a"])
    assert words.missing("a8a") == ["8"]
    assert words.decode(words.encode("a8a")) == "aa"


def test_tokens_have_each_id_once() -> None:
    assert TokenVocabulary([-1, 7, 9]).token_ids == [7, 9]
    assert TokenVocabulary([7, 9]).classes([9, 8, 7]) == [2, 1]
    with pytest.raises(ConfigError, match=r"ctc\.tokens"):
        TokenVocabulary([7, 7])


@pytest.mark.parametrize("pieces", [["a", "a"], ["", "a"], ["a b"]])
def test_wrong_pieces_are_refused(pieces: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"ctc\.pieces"):
        PieceVocabulary(pieces)


def test_no_text_no_pieces() -> None:
    with pytest.raises(DataError, match="transcript"):
        make_pieces(["", " "], 10)
