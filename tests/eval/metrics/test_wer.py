"""Counts worked out by hand."""

import jiwer
import pytest

from eval.metrics.wer import (
    WordErrors,
    char_errors,
    normalise,
    short_language,
    total,
    word_errors,
)


def test_normalise_folds_case_punctuation_numbers_and_contractions():
    assert normalise("It's  EIGHT legs, isn't it?") == normalise("it is 8 legs is not it")


def test_counts_of_each_kind():
    assert word_errors("the cat sat down", "the dog sat") == WordErrors(4, 1, 1, 0)
    assert word_errors("the cat", "the big cat") == WordErrors(2, 0, 0, 1)
    assert word_errors("a spider has eight legs", "A spider has 8 legs.").errors == 0


def test_corpus_rate_weighs_by_words_not_by_utterance():
    # 1 error in 1 word and 0 in 3: (1 + 0) / 4, not the mean of the rates (0.5)
    both = [word_errors("blue", "black"), word_errors("red green white", "red green white")]
    assert total(both).rate == 0.25


def test_rate_can_pass_one_and_empty_references_count_insertions():
    assert word_errors("yes", "no no no").rate == 3.0
    assert word_errors("", "hello there") == WordErrors(0, 0, 0, 2)
    assert word_errors("", "").rate == 0.0
    assert total([word_errors("", "hello"), word_errors("good day", "good day")]).rate == 0.5


def test_nothing_heard_is_all_deletions():
    assert word_errors("good day", "") == WordErrors(2, 0, 2, 0)


REFERENCES = [
    "He hoped there would be stew for dinner, turnips and carrots!",
    "It's twenty-three kilometres to Mr. O'Neill's colour shop.",
    "Yes.",
    "The quick brown fox",
]
HEARD = [
    "he hoped there would be stew for dinner turnips in carrots",
    "it is 23 kilometers to mister o'neill's color chop today",
    "",
    "quick quick brown dog jumps",
]


def test_rates_equal_jiwers_on_fixed_cases():
    said, heard = [normalise(t) for t in REFERENCES], [normalise(t) for t in HEARD]
    words = total([word_errors(r, h) for r, h in zip(REFERENCES, HEARD, strict=True)])
    assert words.rate == pytest.approx(jiwer.wer(said, heard), abs=1e-12)
    plain = [[t.replace(" ", "") for t in side] for side in (said, heard)]
    chars = total([char_errors(r, h) for r, h in zip(REFERENCES, HEARD, strict=True)])
    assert chars.rate == pytest.approx(jiwer.cer(*plain), abs=1e-12)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Mr. Smith's colour", "mister smith's color"),
        ("two hundred and five", "205"),
        ("$20", "20 dollars"),
        ("won't", "will not"),
        ("um, hello [noise] there", "hello there"),
        ("Café", "cafe"),
    ],
)
def test_english_table(text, same):
    assert normalise(text) == normalise(same)


def test_other_languages_keep_their_letters():
    assert normalise("Größe, schön!", "de") == "größe schön"
    assert normalise("こんにちは、世界", "ja").split() == list("こんにちは世界")
    assert short_language("zh_CN") == short_language("Chinese") == "zh"
