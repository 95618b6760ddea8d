"""A card's evaluation section: written, found again, and no part of what a model is."""

import json

import pytest

from eval.report import card
from eval.report.provenance import fingerprint
from eval.report.suite import collect
from fo_core.errors import DataError
from fo_core.shipped import INDEX, write_index


@pytest.fixture
def results(tmp_path):
    score = {"value": 0.5, "low": 0.25, "high": 0.75, "items": 4}
    names = ("text_accuracy", "answer_accuracy", "answer_ratio", "answer_words", "speech_wer")
    overview = {"evaluation": "web-questions", "items": 4, "asked": 4, "complete": True,
                "metrics": dict.fromkeys(names, score), "skipped": [],
                "about": {"not_measured": {"utmos": "no weights"}, "seed": 3}}  # fmt: skip
    folder = tmp_path / "web-questions"
    folder.mkdir()
    (folder / "overview.json").write_text(json.dumps(overview))
    return folder


def test_a_section_of_one_set_names_what_was_not_measured(results, tmp_path):
    text = card.section(results)
    assert "| web-questions | 4 | 50.0 % | 50.0 % | 50.0 % (25.0 to 75.0) |" in text
    assert "Not measured here: utmos." in text and "seed 3" in text
    assert "DNSMOS" not in text  # a column without a number is left out
    with pytest.raises(DataError, match="no results"):
        card.section(tmp_path)


def test_a_suite_that_begins_with_another_part_names_judge_and_cascade(results, tmp_path):
    """Of --suite paper the first part is recognition, which no judge hears."""
    overview = json.loads((results / "overview.json").read_text())
    overview["about"] |= {"judge": {"model": "tiny.en"}, "seed": 4,
                          "cascade": {"ears_model": "large", "cascade_tts": "hibari"}}  # fmt: skip
    (results / "overview.json").write_text(json.dumps(overview))
    first = tmp_path / "librispeech/overview.json"
    first.parent.mkdir()
    other = {"evaluation": "asr", "metrics": {}, "about": {"seed": 3}}
    first.write_text(json.dumps(overview | other))
    found = collect(tmp_path, "paper", ["librispeech", "web-questions"], {})
    assert found["about"]["seed"] == 3
    text = card.section(tmp_path)
    assert "judge tiny.en; cascade large + hibari" in text
    assert "Not measured here: utmos." in text


def test_it_is_put_in_place_of_the_one_before_and_changes_no_fingerprint(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "README.md").write_text("# Mine\n\nText.\n")
    write_index(model)
    before = fingerprint(model)
    for text in (f"{card.BEGIN}\none\n{card.END}", f"{card.BEGIN}\ntwo\n{card.END}"):
        card.put(model / "README.md", text)
        write_index(model)
    found = (model / "README.md").read_text()
    assert found == f"# Mine\n\nText.\n\n{card.BEGIN}\ntwo\n{card.END}\n"
    assert json.loads((model / INDEX).read_text())["README.md"] == len(found.encode())
    assert fingerprint(model) == before
