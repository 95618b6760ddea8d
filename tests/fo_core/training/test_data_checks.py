"""Mistakes in training data are said before the first step."""

import dataclasses

import pytest

from fo_core.errors import DataError
from fo_core.io.checkpoint import fingerprint
from fo_core.training.data_checks import check_data
from fo_core.training.recipes import recipe


def change(items, **fields):
    return [dataclasses.replace(items[0], **fields), *items[1:]]


def test_texts_that_ctc_cannot_learn_are_counted(model, data):
    stage = recipe("input-1", "tiny").stage.build()
    items = data[0][0]
    assert check_data(model, stage, items) == []
    (said,) = check_data(model, stage, change(items, text="xyza"))
    assert "3 of " in said and "'x'" in said and items[0].id in said
    (said,) = check_data(model, stage, change(items, text="aab" * 12))
    assert f"1 of {len(items)} transcripts are longer" in said
    assert check_data(model, recipe("input-3", "tiny").stage.build(), items) == []


def test_a_loss_on_answers_needs_answers(model, data):
    stage = recipe("input-2", "tiny", overrides=["stage.answer_kl=1.0"]).stage.build()
    items = data[0][0]
    check_data(model, stage, items)
    check_data(model, stage, change(items, answer=""))
    silent = [dataclasses.replace(item, answer="") for item in items]
    with pytest.raises(DataError, match="no training item has one"):
        check_data(model, stage, silent)


@pytest.mark.parametrize("name, changes", [("input-2", ["stage.answer_kl=1.0"]), ("input-3", [])])
def test_the_assistants_side_is_no_question(name, changes, model, data):
    stage = recipe(name, "tiny", overrides=changes).stage.build()
    spoken = dataclasses.replace(data[0][0][0], role="assistant")
    with pytest.raises(DataError, match=f"{spoken.id} is spoken by the assistant"):
        check_data(model, stage, [*data[0][0][1:], spoken])


def test_tokens_of_another_codec_are_refused(model, data):
    stage = recipe("output-2", "tiny").stage.build()
    items = data[0][1]
    check_data(model, stage, items)
    with pytest.raises(DataError, match="speech token 16, .* 0 to 15"):
        check_data(model, stage, change(items, speech_tokens=(3, 16)))
    model.trained.add("codec")
    own = fingerprint(model.codec.quantizer)
    check_data(model, stage, change(items, extra={"codec": own[:19]}))
    with pytest.raises(DataError, match="of the codec sha256:0123"):
        check_data(model, stage, change(items, extra={"codec": "sha256:0123"}))
