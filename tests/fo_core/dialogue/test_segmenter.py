"""Streaming segmenter: where pieces end, which tokens they cover, and split characters."""

from __future__ import annotations

import random

import pytest

from fo_core.config import replace
from fo_core.dialogue.speech.segmenter import (
    OFFICIAL_OFFLINE,
    OFFICIAL_SERVER,
    Detokenizer,
    Segmenter,
    SegmenterConfig,
)
from fo_core.errors import ConfigError


class Bytes:
    """One token a byte."""

    calls: list[int]

    def __init__(self) -> None:
        self.calls = []

    def decode(self, token_ids, /, skip_special_tokens=True):
        self.calls.append(len(token_ids))
        return bytes(i for i in token_ids if i < 256).decode("utf-8", errors="replace")

    def encode(self, text, /, add_special_tokens=False):
        return list(text.encode())


class Words(Bytes):
    """Given pieces are tokens of their own."""

    def __init__(self, *pieces: str) -> None:
        super().__init__()
        self.pieces = pieces
        self.ids = list(range(len(pieces)))

    def decode(self, token_ids, /, skip_special_tokens=True):
        return "".join(self.pieces[i] for i in token_ids)


def cut(*pieces: str, **changes) -> list[str]:
    """Raw pieces for a list of tokens."""
    words = Words(*pieces)
    cfg = replace(SegmenterConfig(min_tokens=1), **changes)
    found = Segmenter(words, cfg).run(words.ids)
    assert all(s.text_raw == "".join(pieces[s.start : s.stop]) for s in found)
    return [s.text_raw for s in found]


def test_sentences_and_the_first_comma():
    assert cut("Well", ",", " yes", ",", " sure", ".", " Bye", "!") == [
        "Well,",
        " yes, sure.",
        " Bye!",
    ]
    assert cut("Well", ",", " yes", ".", early_stops="") == ["Well, yes."]


def test_early_stops_come_back_in_long_pieces():
    tail = [" a"] * 5
    assert cut("Yes", ".", *tail, ",", " b", early_after=6) == ["Yes.", " a a a a a,", " b"]


def test_shortest_piece():
    assert cut("No", ",", " it", " is", " not", ".", min_tokens=4) == ["No, it is not."]
    assert cut("No", ".", min_tokens=4) == ["No."]  # all there is


def test_numbers_are_decided_by_what_follows():
    assert cut("Pi", " 3", ".", "14", " is", ".") == ["Pi 3.14 is."]
    assert cut("In", " 3", ".", " Then", ".") == ["In 3.", " Then."]
    assert cut("1", ",", "000", " cats", ".") == ["1,000 cats."]
    assert cut("It", " is", " 3", ".") == ["It is 3."]


def test_titles_quotes_and_pieces_without_words():
    assert cut("Ask", " Dr", ".", " Who", ".") == ["Ask Dr. Who."]
    assert cut('"', "Go", '."', " Now", ".") == ['"Go."', " Now."]
    assert cut("Go", ".", "\n\n", "Now", ".", "\n") == ["Go.", "\n\nNow."]
    assert cut("...", " ", "!") == []


def test_a_very_long_piece_ends_at_a_blank():
    assert cut("a", "b", "c", " d", " e", max_piece=3) == ["abc", " d e"]


def test_official_rules():
    def official(cfg, *pieces):
        words = Words(*pieces)
        return [s.text_raw for s in Segmenter(words, cfg).run(words.ids)]

    assert official(OFFICIAL_OFFLINE, "！", "Do", "。", "a", ",", "b") == ["！Do。", "a,b"]
    assert official(OFFICIAL_OFFLINE, "a", "3", ".", " b", ".") == ["a3. b."]
    assert official(OFFICIAL_SERVER, "a", ",", "b", "c", ",", "d", ",") == ["a,bc,", "d,"]
    assert official(OFFICIAL_OFFLINE) == []
    assert official(OFFICIAL_OFFLINE, "x") == ["x"]


def test_full():
    segmenter = Segmenter(Bytes(), SegmenterConfig(max_tokens=3))
    seen = []
    for token in b"abc":
        seen.append(segmenter.full)
        segmenter.push(token)
    assert seen == [False] * 3 and segmenter.full


def test_split_characters():
    ids = list("a€b.".encode())  # 3 bytes in the middle
    ours = Segmenter(Bytes(), SegmenterConfig())
    assert [s.text_raw for s in ours.run(ids)] == ["a€b."]
    offline = Segmenter(Bytes(), OFFICIAL_OFFLINE)
    assert [s.text_raw for s in offline.run(ids)] == ["a\ufffdb."]
    broken = [*b"ab", 0xE2, *b"cd."]
    waits = Segmenter(Bytes(), OFFICIAL_SERVER)
    assert [(s.text_raw, s.start, s.stop) for s in waits.run(broken)] == [("ab", 0, 6)]
    goes_on = Segmenter(Bytes(), SegmenterConfig())
    assert [(s.text_raw, s.text) for s in goes_on.run(broken)] == [("ab\ufffdcd.", "abcd.")]
    end = Segmenter(Bytes(), SegmenterConfig())
    assert [s.text_raw for s in end.run([*b"ab", 0xE2])] == ["ab\ufffd"]


@pytest.mark.parametrize("seed", range(4))
def test_detokenizer_equals_decoding_everything(seed):
    rng = random.Random(seed)
    text = "".join(rng.choice("ab €😀中.\n") for _ in range(150))
    ids = list(text.encode())
    for _ in range(seed * 5):  # damage
        ids[rng.randrange(len(ids))] = rng.randrange(256)
    whole = Bytes().decode(ids)
    tokenizer = Bytes()
    ours = Detokenizer(tokenizer.decode)
    assert "".join(map(ours.push, ids)) + ours.flush() == whole
    assert max(tokenizer.calls) <= 2 * Detokenizer.LIMIT  # never the whole answer again

    emits, shown = Detokenizer(Bytes().decode, "emit"), ""
    for count, token in enumerate(ids, 1):
        new = Bytes().decode(ids[:count])[len(shown) :]
        assert emits.push(token) == new
        shown += new


def test_a_cleaner_may_be_given():
    words = Words("It", " is", " 8", ".")
    segmenter = Segmenter(words, SegmenterConfig(), clean=lambda text: text.replace("8", "eight"))
    assert [s.text for s in segmenter.run(words.ids)] == ["It is eight."]


SENTENCE = ["The", " capital", " of", " France", " is", " the", " city", " of", " Paris", "."]


def chunks(pieces: list[str], **changes) -> list[tuple[str, str, bool, bool]]:
    words = Words(*pieces)
    cfg = replace(SegmenterConfig(chunk=2), **changes)
    found = Segmenter(words, cfg).run(words.ids)
    assert "".join(s.text_raw for s in found) == "".join(pieces)
    assert [s.start for s in found[1:]] == [s.stop for s in found[:-1]]
    return [(s.text, s.ahead, s.joined, s.more) for s in found]


def test_a_piece_by_chunks_that_grow():
    assert chunks(SENTENCE) == [
        ("The capital", " of", False, True),
        (" of France is the", " city", True, True),
        (" city of Paris.", "", True, False),
    ]
    assert chunks(SENTENCE, chunk_ahead=2)[0] == ("The capital", " of France", False, True)
    assert len(chunks(SENTENCE, chunk_growth=1.0)) == 5


def test_chunks_go_on_growing_in_the_next_piece():
    found = chunks(["Yes", ",", " it", " is", ".", *SENTENCE], chunk=2)
    assert found[:2] == [("Yes,", " it", False, True), (" it is.", "", True, False)]
    assert found[2] == ("The capital of France is the city of", " Paris", False, True)


def test_a_comma_ends_a_chunk_and_no_piece():
    found = chunks(["Well", ",", " yes", " ,", " sure", "."], min_tokens=1, chunk=2)
    assert [more for *_, more in found] == [True, False]


def test_chunks_keep_numbers_and_markup_whole():
    assert [
        c[0] for c in chunks(["In", " 19", "69", " men", " *", "walked", " there", "*", "."])
    ] == ["In 1969 men walked there."]


def test_a_cut_piece_closes_its_chunks():
    words = Words("The", " capital", " of")
    segmenter = Segmenter(words, SegmenterConfig(chunk=2))
    found = [s for token in words.ids for s in segmenter.push(token)] + segmenter.finish()
    assert [(s.text, s.more) for s in found] == [("The capital", True), (" of.", False)]
    assert found[0].extended(found[1]).text == "The capital of."


def test_impossible_chunks():
    with pytest.raises(ConfigError, match="chunk_ahead"):
        SegmenterConfig(chunk=2, chunk_ahead=0)
