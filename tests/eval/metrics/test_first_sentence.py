"""What the strict column looks at."""

import pytest

from eval.metrics.first_sentence import first_heard, first_sentence


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("It is Paris. It lies on the Seine.", "It is Paris."),
        ("Dr. Who met J. R. Smith in the U.S. in 1963. Then he left.",
         "Dr. Who met J. R. Smith in the U.S. in 1963."),
        ("It costs 3.50 dollars! Really.", "It costs 3.50 dollars!"),
        ('He said "no." Then he left.', 'He said "no."'),
        ("no mark at all", "no mark at all"),
        ("巴黎。在法国。", "巴黎。"),
        ("First line\nsecond line", "First line"),
        ("", ""),
    ],
)  # fmt: skip
def test_where_a_sentence_ends(text, first):
    assert first_sentence(text) == first


def test_a_transcript_without_punctuation_is_cut_by_the_written_answer():
    written = "It is Paris. It lies on the Seine."
    assert first_heard("it is paris it lies on the sane", written) == "it is paris"
    assert first_heard("It is Paris. It lies.", written) == "It is Paris."
    assert first_heard("It is Paris it lies on the Seine.", written).endswith("Seine.")
    assert first_heard("", written) == ""
