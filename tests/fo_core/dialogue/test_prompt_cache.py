"""A system text that is read from disk is what the LLM would have made of it."""

import pytest
import torch

from fo_core.dialogue import prompt_cache
from fo_core.models.llm import tiny
from fo_core.models.llm.frozen_llm import FrozenLLM

IDS = [token % 250 for token in range(40)]


@pytest.fixture
def llm(tmp_path, monkeypatch):
    monkeypatch.setenv("FO_CACHE", str(tmp_path))
    tiny.tiny_folder()
    return FrozenLLM.load("tiny").pack("fp16")


def read(llm, ids=IDS):
    state = llm.init_state(1, 64)
    with torch.inference_mode():
        llm.step(llm.embed(ids), state)
    return state


def files(tmp_path):
    return list((tmp_path / "prompts").glob("*.safetensors"))


def test_what_was_kept_comes_back_bit_for_bit(llm, tmp_path):
    state, back = read(llm), llm.init_state(1, 64)
    assert not prompt_cache.restore(llm, IDS, back, 64)
    prompt_cache.keep(llm, IDS, state, 64)
    assert prompt_cache.restore(llm, IDS, back, 64) and back.length == state.length == 40
    used = slice(0, 40)
    assert torch.equal(back.cache.keys[:, :, :, used], state.cache.keys[:, :, :, used])
    assert torch.equal(back.cache.values[:, :, :, used], state.cache.values[:, :, :, used])
    assert not prompt_cache.restore(llm, [*IDS, 1], llm.init_state(1, 64), 64)
    other = FrozenLLM.load("tiny").pack("int8")  # other kernels leave other numbers
    if other.backbone.kernels != llm.backbone.kernels:
        assert not prompt_cache.restore(other, IDS, other.init_state(1, 64), 64)


def test_damage_is_noted_and_read_anew(llm, tmp_path, caplog):
    prompt_cache.keep(llm, IDS, read(llm), 64)
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    state = llm.init_state(1, 64)
    assert not prompt_cache.restore(llm, IDS, state, 64) and state.length == 0
    assert "damaged" in caplog.text and not path.exists()
    prompt_cache.keep(llm, IDS, read(llm), 64)
    (path,) = files(tmp_path)
    path.write_bytes(b"short")
    assert not prompt_cache.restore(llm, IDS, state, 64)


def test_no_more_than_the_newest_are_kept(llm, tmp_path):
    for first in range(prompt_cache.NEWEST + 3):
        ids = [first, *IDS]
        prompt_cache.keep(llm, ids, read(llm, ids), 64)
    assert len(files(tmp_path)) == prompt_cache.NEWEST


def test_a_cache_that_cannot_be_written_is_no_error(llm, tmp_path):
    (tmp_path / "prompts").write_text("a file where the folder would be")
    prompt_cache.keep(llm, IDS, read(llm), 64)
    assert not prompt_cache.restore(llm, IDS, llm.init_state(1, 64), 64)


def test_weights_that_are_not_known_are_not_kept(llm, tmp_path):
    llm.loaded = ""
    prompt_cache.keep(llm, IDS, read(llm), 64)
    assert not files(tmp_path)
