"""What is checked when an LLM is loaded, and what it then says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fo_core.errors import CheckpointError, FoError
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.tiny import write_tiny

Random = Callable[[str], Path]


def renamed(folder: Path, to: Path, change: Callable[[str], str | None]) -> Path:
    """A copy of an LLM's folder whose tensors have other names; None leaves one out."""
    to.mkdir()
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            (to / path.name).write_bytes(path.read_bytes())
    tensors = {change(key): value for key, value in load_file(folder / "model.safetensors").items()}
    kept = {key: value for key, value in tensors.items() if key is not None}
    save_file(kept, to / "model.safetensors", metadata={"format": "pt"})
    return to


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])  # our own layers, and transformers'
def test_tensors_of_other_names_are_an_error_on_every_path(
    random_llm: Random, tmp_path: Path, kind: str
) -> None:
    """L5: a checkpoint with `_orig_mod.` before its names loaded with random weights."""
    folder = random_llm(kind)
    cases = {
        "prefix": lambda key: f"_orig_mod.{key}",
        "missing": lambda key: None if "layers.1" in key and "dense_h" in key else key,
        "lacks": lambda key: None if "layers.1.mlp" in key else key,
        "extra": lambda key: key,
    }
    words = {"prefix": "'_orig_mod.'", "missing": "layers.1", "lacks": "layers.1.mlp",
             "extra": "layers.1.lora_A"}  # fmt: skip
    if kind == "llama":
        del cases["missing"]
    for name, change in cases.items():
        broken = renamed(folder, tmp_path / f"{kind}-{name}", change)
        if name == "extra":
            tensors = load_file(broken / "model.safetensors")
            tensors["model.layers.1.lora_A.weight"] = torch.zeros(2, 2)
            save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=words[name]) as caught:
            FrozenLLM.load(str(broken))
        assert "\n" not in str(caught.value)


def test_tensors_of_another_shape_are_named_on_the_transformers_path(
    random_llm: Random, tmp_path: Path
) -> None:
    folder = renamed(random_llm("gpt_neox"), tmp_path / "m", lambda key: key)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 96}))
    with pytest.raises(FoError, match="gpt_neox|shape|cannot be read") as caught:
        FrozenLLM.load(str(folder))
    assert "\n" not in str(caught.value)


def test_a_tied_head_in_the_file_is_used_as_it_is(tmp_path: Path) -> None:
    """Beside an embedding it may be a copy, or another one; alone it is the embedding."""
    folder = write_tiny(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    table = tensors["model.embed_tokens.weight"]
    plain = FrozenLLM.load(str(folder))

    def load(**more: torch.Tensor) -> FrozenLLM:
        changed = {**tensors, **more}
        save_file({k: v for k, v in changed.items() if len(v)}, folder / "model.safetensors")
        return FrozenLLM.load(str(folder))

    same = load(**{"lm_head.weight": table.clone()})
    moved = load(**{"lm_head.weight": table.clone(), "model.embed_tokens.weight": torch.empty(0)})
    other = load(**{"lm_head.weight": table.flip(0)})
    hidden = torch.randn(1, 64)
    assert same.fingerprint() == moved.fingerprint() == plain.fingerprint()
    torch.testing.assert_close(other.logits(hidden), plain.logits(hidden).flip(-1))


def test_an_adapter_folder_says_what_it_is(tmp_path: Path) -> None:
    """L5: LoRA weights alone are no model; the error names the base model."""
    data = {"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen2-7B"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="LORA weights for Qwen/Qwen2-7B.*do: merge"):
        FrozenLLM.load(str(tmp_path))


def test_a_generation_config_that_is_no_object_is_refused(tmp_path: Path) -> None:
    """It was taken for an empty one: an LLM without its end tokens."""
    folder = write_tiny(tmp_path / "m")
    (folder / "generation_config.json").write_text("[65, 66]")
    with pytest.raises(CheckpointError, match="generation_config.json is not a JSON object"):
        FrozenLLM.load(str(folder))


def test_all_end_tokens_count(tmp_path: Path) -> None:
    """L1: the template's, the tokenizer's and every one of the generation config's."""
    folder = write_tiny(tmp_path / "m")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [65, 66, 9999]}))
    llm = FrozenLLM.load(str(folder))
    assert llm.end_ids == {65, 66, llm.end_id} and llm.end_id == llm.tokenizer.eos_token_id
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 67}))
    assert FrozenLLM.load(str(folder)).end_ids == {67, llm.end_id}
    (folder / "generation_config.json").write_text("{broken")
    with pytest.raises(CheckpointError, match="generation_config.json"):
        FrozenLLM.load(str(folder))


def test_what_is_beyond_the_llms_context_is_refused(tmp_path: Path, random_llm: Random) -> None:
    """L7: it was an index error in the middle of a talk, or gibberish."""
    folder = write_tiny(tmp_path / "m", max_position_embeddings=20)
    for llm in (FrozenLLM.load(str(folder)), FrozenLLM.load(str(folder), lean=False)):
        assert llm.facts.context == 20
        state = llm.init_state(1, 4)
        llm.step(torch.zeros(1, 19, llm.width), state)
        for call in (
            lambda llm=llm, state=state: llm.step(torch.zeros(1, 2, llm.width), state),
            lambda llm=llm: llm(torch.zeros(1, 21, llm.width)),
        ):
            with pytest.raises(CheckpointError, match="takes 21 positions .* which has 20"):
                call()
    llm = FrozenLLM.load(str(write_tiny(tmp_path / "n", max_position_embeddings=200)))
    assert llm.chat_parts("Be brief.")
    with pytest.raises(CheckpointError, match="the system text takes .* which has 100"):
        llm.chat_parts("Be brief. " * 20)
    assert FrozenLLM.load(str(random_llm("phi4"))).facts.context == 400  # where LongRoPE is short


def test_a_tokenizer_with_ids_beyond_the_embedding_is_one_line(tmp_path: Path) -> None:
    """L8: it was a traceback."""
    from transformers import AutoTokenizer

    folder = write_tiny(tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"1 ids beyond the \d+ rows.*'<extra>'") as caught:
        FrozenLLM.load(str(folder))
    assert "\n" not in str(caught.value)


def test_a_stand_in_for_pictures_may_lie_beyond_the_embedding(tmp_path: Path) -> None:
    """Gemma 3 1B: no text becomes one, and a text that spells it is refused."""
    from transformers import AutoTokenizer

    folder = write_tiny(tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<image_soft_token>"]})
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "image_token": "<image_soft_token>"}))
    llm = FrozenLLM.load(str(folder))
    with pytest.raises(CheckpointError, match="no embedding for the token '<image_soft_token>'"):
        llm.embed(llm.tokenizer("<image_soft_token>", add_special_tokens=False)["input_ids"])
