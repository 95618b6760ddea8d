import pytest

from fo_core.data.manifest import Item
from fo_core.errors import DataError
from fo_core.training.initial_model import common_voice, ctc_tokens


class Letters:
    """A tokenizer whose tokens are letters."""

    def __call__(self, text, add_special_tokens):
        return {"input_ids": [ord(letter) for letter in text]}


def item(*voice):
    return Item(id="x", audio="x.wav", rate=24000, num_samples=1, global_tokens=voice)


def test_ctc_tokens_are_those_of_the_transcripts():
    assert ctc_tokens(Letters(), ["ba", "", "ca"]) == tuple(map(ord, "abc"))
    with pytest.raises(DataError):
        ctc_tokens(Letters(), ["", ""])


def test_the_voice_is_what_most_items_have_place_by_place():
    assert common_voice([item(1, 5), item(1, 6), item(2, 6), item()]) == (1, 6)
    assert common_voice([item()]) == ()
    with pytest.raises(DataError):
        common_voice([item(1), item(1, 2)])
