"""A prepared LLM is the LLM, bit for bit; what is damaged, changed or read-only does no harm."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest
import torch

from fo_core.errors import EngineError
from fo_core.io import files
from fo_core.models.llm import chat, prepared, source, tiny
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.tokenizer import StandaloneTokenizer, TokenizerFacts, describe, difference


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A cache of its own with a tiny LLM in it; the LLM's folder."""
    monkeypatch.setenv("FO_CACHE", str(tmp_path))
    return tiny.tiny_folder()


def states(llm):
    ids = torch.arange(40)[None] * 5 % llm.vocab_size
    return llm.step(llm.embed(ids), llm.init_state())[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_second_load_is_prepared_and_the_same(cached, dtype):
    first, second = FrozenLLM.load("tiny", dtype), FrozenLLM.load("tiny", dtype)
    assert not isinstance(first.tokenizer, StandaloneTokenizer)
    assert isinstance(second.tokenizer, StandaloneTokenizer)
    assert second.loaded == second.fingerprint() == first.fingerprint()
    assert torch.equal(states(first), states(second))
    assert torch.equal(states(first.pack("fp16")), states(second.pack("fp16")))
    assert second.facts == first.facts and second.end_ids == first.end_ids
    shots = (("one?", "two."),)
    assert second.chat_parts("You listen.", shots) == first.chat_parts("You listen.", shots)


def test_a_prepared_llm_is_copied_and_pickled(cached):
    """A copy for every device, a tokenizer for every worker process."""
    FrozenLLM.load("tiny")
    llm = FrozenLLM.load("tiny")
    parts = llm.chat_parts("You listen.")
    assert copy.deepcopy(llm).chat_parts("You listen.") == parts
    sent = pickle.loads(pickle.dumps(llm.tokenizer))
    assert chat.parts_from_tokenizer(sent, "You listen.") == parts


def test_every_shape_is_kept(own_llm, tmp_path, monkeypatch):
    """Biases, norms, windows, scaled rotary positions, heads of their own: of every family."""
    monkeypatch.setenv("FO_CACHE", str(tmp_path))
    place = str(shutil.copytree(own_llm, tmp_path / "llm" / "some"))
    first, second = FrozenLLM.load(place), FrozenLLM.load(place)
    assert isinstance(second.tokenizer, StandaloneTokenizer)
    assert torch.equal(states(first), states(second))
    assert torch.equal(first.logits(states(first)), second.logits(states(second)))
    assert second.fingerprint() == second.loaded == first.fingerprint()


def test_large_weights_are_read_where_they_are(cached, monkeypatch):
    monkeypatch.setattr(prepared, "LARGEST", 1000)
    first, second = FrozenLLM.load("tiny"), FrozenLLM.load("tiny")
    assert isinstance(second.tokenizer, StandaloneTokenizer)
    assert not (cached / "prepared-float32" / prepared.WEIGHTS).exists()
    assert torch.equal(states(first), states(second)) and second.loaded == second.fingerprint()


def flip(path):
    """One bit in the middle; size and modification time as they were."""
    data, times = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("name", [prepared.FACTS, prepared.TOKENIZER, prepared.WEIGHTS])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_what_is_damaged_is_made_anew_with_a_note(cached, caplog, name, damage):
    expected = states(FrozenLLM.load("tiny"))
    path = cached / "prepared-float32" / name
    if damage == "flipped":
        flip(path)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
    anew = FrozenLLM.load("tiny")
    assert not isinstance(anew.tokenizer, StandaloneTokenizer) and torch.equal(
        states(anew), expected
    )
    if (name, damage) != (prepared.FACTS, "gone"):  # as if it had never been prepared
        assert "damaged" in caplog.text and "made anew" in caplog.text
    assert isinstance(FrozenLLM.load("tiny").tokenizer, StandaloneTokenizer)


def test_only_untouched_weights_are_taken_unhashed(cached, monkeypatch):
    """Size and times stand for the hash; a copy (other times) is hashed once, then known."""
    FrozenLLM.load("tiny")
    hashed, whole = [], prepared.sha256_of
    monkeypatch.setattr(prepared, "sha256_of", lambda p: hashed.append(p.name) or whole(p))
    weights = cached / "prepared-float32" / prepared.WEIGHTS
    FrozenLLM.load("tiny")
    assert hashed == [prepared.TOKENIZER]
    os.utime(weights)
    FrozenLLM.load("tiny")
    FrozenLLM.load("tiny")
    assert hashed.count(prepared.WEIGHTS) == 1


def test_other_weights_in_the_folder_are_another_llm(cached, tmp_path):
    before = FrozenLLM.load("tiny").fingerprint()
    other = tiny.write_tiny(tmp_path / "other", seed=1)
    shutil.copy(other / "model.safetensors", cached / "model.safetensors")
    after = FrozenLLM.load("tiny")
    assert after.loaded == after.fingerprint() != before


def test_a_cache_that_cannot_be_written_is_no_error(cached, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files.tempfile, "mkdtemp", refuse)
    llm = FrozenLLM.load("tiny")
    assert llm.loaded == llm.fingerprint() and not list(cached.glob("prepared-*"))


def test_folders_outside_of_the_cache_are_left_alone(cached, tmp_path):
    folder = tiny.write_tiny(tmp_path / "own")
    FrozenLLM.load(str(folder))
    assert not list(folder.glob("*prepared*"))


def test_the_mapped_file_is_never_written(cached):
    FrozenLLM.load("tiny")
    llm = FrozenLLM.load("tiny")
    with torch.no_grad():
        llm.backbone.embed_tokens.weight.add_(1)
        llm.backbone.stack.layers[0].self_attn.k_proj.weight.add_(1)
    assert llm.fingerprint() != llm.loaded
    again = FrozenLLM.load("tiny")
    assert again.fingerprint() == llm.loaded


def test_embedded_tokenizer_and_prompts_are_those_of_transformers():
    try:
        folder = source.resolve("embedded")
    except EngineError:
        pytest.skip("the embedded LLM is not installed")
    whole = source.read_tokenizer(folder)
    lean = StandaloneTokenizer(*describe(whole))
    assert difference(lean, whole) == ""
    for system in (None, "", "You are kind."):
        shots = (("What is it?", "It's a “test”."), ("Ça va?", "Ja."))
        assert chat.parts_from_tokenizer(lean, system, shots) == chat.parts_from_tokenizer(
            whole, system, shots
        )


def test_a_difference_is_found(cached):
    whole = source.read_tokenizer(cached)
    text, facts = describe(whole)
    assert difference(StandaloneTokenizer(text, facts), whole) == ""
    changed = {
        "template": TokenizerFacts(facts.template + " ", facts.specials, facts.names),
        "specials": TokenizerFacts(facts.template, facts.specials[1:], facts.names),
        "end": TokenizerFacts(facts.template, facts.specials, {**facts.names, "eos_token": "a"}),
    }
    for name, other in changed.items():
        assert difference(StandaloneTokenizer(text, other), whole), name
    data = json.loads(text)
    data["model"]["vocab"]["a"], data["model"]["vocab"]["b"] = (
        data["model"]["vocab"]["b"],
        data["model"]["vocab"]["a"],
    )
    assert difference(StandaloneTokenizer(json.dumps(data), facts), whole)


def test_t4_no_transformers_on_the_way_to_a_prepared_llm(cached):
    FrozenLLM.load("tiny")
    code = (
        "import sys; from fo_core.models.llm.frozen_llm import FrozenLLM;"
        "FrozenLLM.load('tiny').chat_parts('You are kind.');"
        "print([m for m in ('transformers', 'torch._dynamo', 'accelerate', 'scipy', 'lhotse')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
