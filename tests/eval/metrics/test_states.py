import pytest

from eval.metrics.states import add, confusion, macro_f1, scores

#        truth:  0  0  0  0  1  1  2  2  2  ignored
TRUTH = [0, 0, 0, 0, 1, 1, 2, 2, 2, -1]
GUESS = [0, 0, 0, 1, 1, 0, 2, 2, 1, 2]


def test_confusion_leaves_out_ignored_chunks():
    assert confusion(TRUTH, GUESS) == [[3, 1, 0], [1, 1, 0], [0, 1, 2]]


def test_scores_by_hand():
    zero, one, two = scores(confusion(TRUTH, GUESS))
    assert (zero.precision, zero.recall, zero.f1, zero.support) == (0.75, 0.75, 0.75, 4)
    assert (one.precision, one.recall, one.support) == (1 / 3, 0.5, 2)
    assert one.f1 == pytest.approx(0.4)
    assert (two.precision, two.f1) == (1.0, pytest.approx(0.8))
    assert macro_f1(confusion(TRUTH, GUESS)) == pytest.approx((0.75 + 0.4 + 0.8) / 3)


def test_macro_is_over_states_that_occur():
    counts = confusion([0, 0, 1], [0, 0, 1])
    assert macro_f1(counts) == 1.0
    assert scores(counts)[2].f1 == 0.0
    assert macro_f1([[0] * 3] * 3) == 0.0


def test_a_head_that_always_says_keep_listening_does_not_pass_for_good():
    truth = [0] * 90 + [1] * 5 + [2] * 5
    assert macro_f1(confusion(truth, [0] * 100)) < 0.35


def test_counts_add_up():
    assert add([[1, 2], [3, 4]], [[1, 0], [0, 1]]) == [[2, 2], [3, 5]]


def test_faults():
    with pytest.raises(ValueError, match="2 labels, 1 predictions"):
        confusion([0, 1], [0])
    with pytest.raises(ValueError, match="state 3"):
        confusion([3], [0])
