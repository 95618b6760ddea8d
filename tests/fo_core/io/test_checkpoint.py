"""Model files: atomic writes, strict loads, fingerprints that see every bit."""

from pathlib import Path

import pytest
import torch
from torch import nn

from fo_core.errors import CheckpointError
from fo_core.io.checkpoint import fingerprint, load_into, load_tensors, read_json, save_tensors
from fo_core.io.files import replacing, write_json


def test_tensors_survive_a_round_trip_even_when_they_share_storage(tmp_path: Path) -> None:
    base = torch.randn(4, 3)
    tensors = {"a": base, "tied": base, "half": base.bfloat16(), "scalar": torch.tensor(3)}
    save_tensors(tmp_path / "x.safetensors", tensors, {"step": 3})
    loaded = load_tensors(tmp_path / "x.safetensors")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[k], tensors[k]) for k in tensors)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(RuntimeError), replacing(tmp_path / "x.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(tmp_path / "x.json") == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_cut_file_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:200])
    for bad in (path, tmp_path / "none.safetensors"):
        with pytest.raises(CheckpointError, match=bad.name):
            load_tensors(bad)


def test_a_foreign_state_dict_names_what_is_wrong() -> None:
    with pytest.raises(CheckpointError, match=r"missing bias, unknown other, weight has shape"):
        load_into(nn.Linear(2, 3), {"weight": torch.zeros(2, 2), "other": torch.zeros(1)}, "m.st")


def test_a_fingerprint_sees_one_bit_and_ignores_order() -> None:
    weights = {"a": torch.zeros(3), "b": torch.ones(2, dtype=torch.bfloat16)}
    same = {"b": weights["b"].clone(), "a": weights["a"].clone()}
    assert fingerprint(weights) == fingerprint(same)
    same["a"].view(torch.int32)[1] ^= 1
    assert fingerprint(weights) != fingerprint(same)
