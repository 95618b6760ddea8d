"""Instructions that a rule can check."""

import pytest

from eval.metrics.ifeval import follows
from eval.metrics.rules import of_row

CASES = [
    ("keywords:existence", {"keywords": ["sea", "sky"]}, "The sky meets the sea.", "The sky."),
    ("keywords:forbidden_words", {"forbidden_words": ["no"]}, "I know.", "No, never."),
    ("keywords:frequency", {"keyword": "a", "relation": "at least", "frequency": 2}, "a b a", "a"),
    ("keywords:letter_frequency", {"letter": "z", "let_relation": "less than", "let_frequency": 2},
     "zoo", "Zz"),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 3}, "two words",
     "these are three"),
    ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 2},
     "One. Two!", "Only one."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a *** b", "a b"),
    ("length_constraints:nth_paragraph_first_word",
     {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"}, "a\n\nThen b", "a\n\nb"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "a\nP.S. b", "a PS"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", "* a"),
    ("detectable_format:constrained_response", {}, "My answer is yes.", "Yes."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2},
     "*a* and **b**", "*a*"),
    ("detectable_format:multiple_sections", {"section_spliter": "Part", "num_sections": 2},
     "Part 1 a\nPart 2 b", "Part 1"),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a}"),
    ("detectable_format:title", {}, "<<A title>> text", "A title"),
    ("combination:two_responses", {}, "a ****** b", "a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it"}, "say it: it", "it"),
    ("startend:end_checker", {"end_phrase": "The end."}, "So. The end.", "The end. So"),
    ("startend:quotation", {}, '"quoted"', "plain"),
    ("change_case:capital_word_frequency", {"capital_relation": "at least",
                                            "capital_frequency": 2}, "A BIG day", "A day"),
    ("change_case:english_capital", {}, "ALL OF IT", "All of it"),
    ("change_case:english_lowercase", {}, "all of it", "All of it"),
    ("punctuation:no_comma", {}, "no pause", "a, pause"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "how", "good", "bad"), CASES, ids=lambda v: str(v)[:30])
def test_each_instruction(name, how, good, bad):
    assert follows(good, [name], [how]) is True and follows(bad, [name], [how]) is False


def test_all_must_be_followed_and_what_cannot_be_checked_has_no_score():
    both = ["punctuation:no_comma", "change_case:english_lowercase"]
    assert follows("fine as it is", both, [{"n": None}, {}]) and not follows("a, b", both, [])
    assert follows("etwas", ["language:response_language"], [{"language": "de"}]) is None
    assert follows("x", ["keywords:existence"], [{}]) is None  # its words were not published
    assert follows("", ["punctuation:no_comma"], []) is False
    row = {"rule": "ifeval", "answers": [],
           "published": {"instruction_id_list": both, "kwargs": [{}, {}]}}  # fmt: skip
    assert of_row("so be it", row) is True and of_row("A, b", row) is False
