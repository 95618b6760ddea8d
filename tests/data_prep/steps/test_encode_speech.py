from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.steps.encode_speech import answered, encode_items
from fo_core.data import manifest
from fo_core.data.dataset import make_loader
from fo_core.data.manifest import Item
from fo_core.io import audio


class Codec:
    """A codec whose tokens and voice depend on every sample it is given."""

    sample_rate, hop = 24000, 600

    def encode(self, wave: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        frames = wave.reshape(len(wave), -1, 600)
        tokens = (frames.abs().sum(-1) * 10).long()[..., None]
        return tokens, (wave.mean(dim=1, keepdim=True)[..., None] * 1e4).long()


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    made = []
    for i in range(9):
        path = tmp_path / f"{i}.flac"
        wave = np.random.default_rng(i).normal(0, 0.1, 9000 + 400 * (i % 4))
        audio.write(path, wave.astype("f4"), 24000)
        made.append(manifest.describe(path, id=f"a{i}", text=f"It is {i}.", role="assistant"))
    return made


def test_tokens_do_not_depend_on_the_batch(items: list[Item]) -> None:
    coded = encode_items(items, Codec())
    for item in coded:
        assert len(item.speech_tokens) == -(-item.num_samples // 600)
        (alone,) = encode_items([item], Codec())
        assert alone == item
    assert next(iter(make_loader(coded, "tts", batch_size=4)))["token_lens"].min() > 0


def test_questions_carry_the_tokens_of_their_answers(items: list[Item]) -> None:
    coded = encode_items(items, Codec())
    asked = [Item(f"q{i}", items[0].audio, 24000, 9000, text=f"What is {i}?", kind="question",
                  answer=f"It is {i % 9}.") for i in range(24)]  # fmt: skip
    pairs = answered(asked, coded)
    assert len(pairs) == 24 and all(pair.kind == "question" for pair in pairs)
    tokens = {item.text: item.speech_tokens for item in coded}
    assert all(pair.speech_tokens == tokens[pair.answer] for pair in pairs)
    assert next(iter(make_loader(pairs, "reply", batch_size=4)))["text"][0] in tokens
    few = answered([*asked, *asked], coded, most=1)
    assert len({pair.answer for pair in few}) == len(few) == len(coded)
    assert answered(asked, coded[1:]) == [p for p in pairs if p.answer != coded[0].text]


def test_pieces_of_one_file_have_tokens_of_their_own(tmp_path: Path) -> None:
    """A corpus cut out of long files once got the tokens of each file's first piece everywhere."""
    path = tmp_path / "long.flac"
    draw = np.random.default_rng(0)
    audio.write(path, draw.normal(0, 0.1, 48000).astype("f4"), 24000)
    whole = manifest.describe(path, id="w", text="All of it.")
    pieces = [replace(whole, id=f"p{i}", start=0.5 * i, seconds=0.5) for i in range(4)]
    coded = encode_items(pieces, Codec())
    assert len({item.speech_tokens for item in coded}) == 4
    for piece, item in zip(pieces, coded, strict=True):
        assert encode_items([piece], Codec()) == [item]
