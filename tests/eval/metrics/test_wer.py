"""Counts worked out by hand."""

import pytest

from eval.metrics.wer import WordErrors, corpus_wer, normalise, total, word_errors


def test_normalise_folds_case_punctuation_numbers_and_contractions():
    assert normalise("It's  EIGHT legs, isn't it?") == normalise("it is 8 legs is not it")


def test_counts_of_each_kind():
    assert word_errors("the cat sat down", "the dog sat") == WordErrors(4, 1, 1, 0)
    assert word_errors("the cat", "the big cat") == WordErrors(2, 0, 0, 1)
    assert word_errors("a spider has eight legs", "A spider has 8 legs.").errors == 0


def test_corpus_rate_weighs_by_words_not_by_utterance():
    # 1 error in 1 word and 0 in 3: (1 + 0) / 4, not the mean of the rates (0.5)
    assert corpus_wer(["blue", "red green white"], ["black", "red green white"]) == 0.25


def test_rate_can_pass_one_and_empty_references_count_insertions():
    assert word_errors("yes", "no no no").rate == 3.0
    assert word_errors("", "hello there") == WordErrors(0, 0, 0, 2)
    assert word_errors("", "").rate == 0.0
    assert total([word_errors("", "hello"), word_errors("good day", "good day")]).rate == 0.5


def test_nothing_heard_is_all_deletions():
    assert word_errors("good day", "") == WordErrors(2, 0, 2, 0)


def test_lists_must_match():
    with pytest.raises(ValueError, match="1 references, 0 hypotheses"):
        corpus_wer(["a"], [])
    with pytest.raises(ValueError):
        corpus_wer([], [])
