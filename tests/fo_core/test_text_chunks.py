"""Where a sentence may be cut while it is written; a cut changes nothing of how it reads."""

from __future__ import annotations

import pytest

from fo_core.models.decoder.duration_decoder import DurationDecoder, DurationDecoderConfig
from fo_core.text import speakable
from fo_core.text_chunks import TextChunk, chunked, cuts, may_cut, open_text

SENTENCES = [
    "The capital of France is Paris.",
    "Well, I don't know, but Mary's old-fashioned friend does!",
    "In 1969, Neil Armstrong walked on the moon for about 2.5 hours.",
    "Henry VIII had six wives, and Dr. Smith paid $5 million for it.",
    'He said "stop", then *really* left; nobody (not even I) saw him again.',
    "It is at 10:30 a.m. in Room 5 of the U.S. embassy.",
]


@pytest.mark.parametrize(
    ("before", "after", "may"),
    [
        ("The capital", " of", True),
        ("Well,", " yes", True),
        ("The cap", "ital", False),  # inside of a word
        ("In", " 1969", False),
        ("In 1969", " the", False),
        ("Henry", " VIII", False),
        ("Dr.", " Smith", False),
        ("costs $5 million", " for", False),
        ("a *bold", " word", False),
        ("don't", " know", True),
        ("", " know", False),
        ("天空", "是", True),
        ("天空，", "是", True),
        ("有3", "个", False),
    ],
)
def test_chunks_end_between_plain_words(before: str, after: str, may: bool) -> None:
    assert may_cut(before, after) is may


def test_no_mark_closes_what_goes_on() -> None:
    assert open_text(" of France,", speakable) == "of France,"
    assert open_text("The capital", speakable) == "The capital"
    assert open_text(" Paris.", speakable) == "Paris."
    assert open_text(" **", speakable) == ""


@pytest.mark.parametrize("text", SENTENCES)
@pytest.mark.parametrize("size", [1, 2])
def test_chunks_are_spelled_as_their_sentence(text: str, size: int) -> None:
    decoder = DurationDecoder(DurationDecoderConfig(dim=8, heads=2, ffn=8, layers=1))
    chunks = chunked(text, lambda number: size, lambda left: 4)
    assert "".join(chunk.text for chunk in chunks) == text
    units, _, _ = decoder.chunked_input(None, [chunks])
    assert len(units.chunks[0]) == len(chunks) > 1 or not cuts(text)
    assert all(end < seen <= int(units.lens) for end, seen in units.chunks[0][:-1])


def test_a_sentence_in_chunks() -> None:
    found = chunked("The capital of France is Paris.", lambda n: n + 1, lambda left: 3)
    assert found == [
        TextChunk("The", " ca", False, True),
        TextChunk(" capital of", " Fr", True, True),
        TextChunk(" France is Paris.", "", True, False),
    ]
