"""Tokens of letters from an engine's phonemes."""

from __future__ import annotations

from data_prep.steps.letter_alignment import LetterAligner, letter_counts, split_words

WORDS = [
    ("cat", "kˈæt"), ("tack", "tˈæk"), ("hat", "hˈæt"), ("night", "nˈIt"), ("tight", "tˈIt"),
    ("the", "ðə"), ("that", "ðˈæt"), ("tin", "tˈɪn"), ("can", "kˈæn"), ("an", "æn"), ("it", "ɪt"),
    ("box", "bɑks"), ("ox", "ɑks"), ("in", "ɪn"), ("mine", "mˈIn"), ("hi", "hˈI"), ("fox", "fɑks"),
    ("kite", "kˈIt"), ("time", "tˈIm"), ("hot", "hɑt"), ("not", "nɑt"), ("tax", "tˈæks"),
    ("dog", "dɑɡ"), ("log", "lɑɡ"), ("lot", "lɑt"), ("pot", "pɑt"), ("got", "ɡɑt"), ("cot", "kɑt"),
    ("hop", "hɑp"), ("top", "tɑp"), ("pop", "pɑp"), ("mop", "mɑp"), ("fog", "fɑɡ"), ("on", "ɑn"),
    ("hide", "hˈId"), ("mind", "mˈInd"), ("find", "fˈInd"), ("kind", "kˈInd"), ("ride", "ɹˈId"),
]  # fmt: skip


def aligner() -> LetterAligner:
    pairs = [(w, split_words(p, [1] * len(p))[0][0]) for w, p in WORDS]
    return LetterAligner.fit(pairs)


def test_stress_marks_belong_to_their_phoneme_and_pauses_join() -> None:
    words = split_words("_ðə kˈæt.__tˈIt_", [9, 1, 2, 3, 4, 1, 5, 6, 7, 1, 8, 2, 1, 6, 3, 4])
    assert words == [
        ([], [9]),
        (["ð", "ə"], [1, 2]),
        ([], [3]),
        (["k", "ˈæ", "t", "."], [4, 6, 6, 7]),
        ([], [9]),
        (["t", "ˈI", "t"], [2, 7, 3]),
        ([], [4]),
    ]


def test_silent_letters_get_nothing() -> None:
    found = aligner()
    assert found.align("night", ["n", "ˈI", "t"]) == [[0], [1], [], [], [2]]
    assert found.align("hide", ["h", "ˈI", "d"]) == [[0], [1], [2], []]


def test_every_token_belongs_to_a_letter() -> None:
    symbols = "_ðə hˈɑt, tˈIt._"
    counts = [5, 1, 2, 3, 1, 1, 4, 2, 3, 2, 2, 1, 3, 2, 6, 1]
    letters = letter_counts(aligner(), "The hot, tight.", symbols, counts)
    assert letters is not None and letters.text == "the hot, tight."
    assert sum(letters.counts) == sum(counts) and len(letters.counts) == len(letters.text) + 2
    assert letters.counts[0] == 5 and letters.counts[5 : 5 + 4] == (1, 5, 2, 3)  # "hot,"
    assert "".join(letters.sounds) == "ðəhˈɑt,tˈIt."


def test_other_words_than_written_are_none() -> None:
    assert letter_counts(aligner(), "No. 5", "_nˈʌmbəɹ fˈIv it_", [1] * 17) is None
