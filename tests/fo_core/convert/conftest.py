"""Golden variants: checkpoints rebuilt from their description, and the tensors to compare with.

A variant describes every tensor of its binary files by name, shape and a value rule, so that the
(large) random weights need not be stored. The rule is a counter-based hash and hence the same on
every machine: the first 8 bytes of SHA-256 of "seed:name" are a key; element ``i`` mixes
``key + (i + 1) * golden_ratio_64`` with the splitmix64 finaliser; the sum of the four 16-bit words
of the result, centred and scaled, is close to a unit normal ``n``. The element is ``base + scale *
n`` ("n"), ``base + scale * |n|`` ("abs") or ``base`` ("c"); then some rows are scaled (`rows`) or
overwritten (`set`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import save_file
from safetensors.torch import load_file

MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
STEP = np.uint64(0x9E3779B97F4A7C15)
STD = 65536.0 / np.sqrt(3.0)


def unit_normal(seed: int, name: str, count: int) -> np.ndarray:
    """``[count]`` float64, nearly normal, a function of (seed, name, index) alone."""
    key = hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8]
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * STEP
        z += np.uint64(int.from_bytes(key, "little"))
        z = (z ^ (z >> np.uint64(30))) * MIX[0]
        z = (z ^ (z >> np.uint64(27))) * MIX[1]
        z ^= z >> np.uint64(31)
    words = sum(((z >> np.uint64(s)) & np.uint64(0xFFFF)).astype(np.int64) for s in (0, 16, 32, 48))
    return (words - 131070).astype(np.float64) / STD


def tensor_values(seed: int, entry: dict[str, Any]) -> np.ndarray:
    """One tensor from its entry in spec.json."""
    shape, base = entry["shape"], entry.get("base", 0.0)
    if entry.get("dtype") == "int64":
        return np.full(shape, int(base), dtype=np.int64)
    count = int(np.prod(shape)) if shape else 1
    if entry["rule"] == "c":
        values = np.full(count, base, dtype=np.float64)
    else:
        n = unit_normal(seed, entry["name"], count)
        values = base + entry.get("scale", 0.0) * (np.abs(n) if entry["rule"] == "abs" else n)
    out = values.astype(np.float32).reshape(shape)
    for row, factor in entry.get("rows", {}).items():
        out[int(row)] *= np.float32(factor)
    for row, value in entry.get("set", {}).items():
        out[int(row)] = np.float32(value)
    return out


def digest(arrays: dict[str, np.ndarray]) -> str:
    """The digest that spec.json records for a file's tensors."""
    h = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        h.update(f"{name}|{array.dtype}|{list(array.shape)}|".encode())
        h.update(array.tobytes())
    return h.hexdigest()


def write_binary(target: Path, spec: dict[str, Any]) -> None:
    """One binary file of a checkpoint, in the container that the variant names."""
    arrays = {e["name"]: tensor_values(spec["seed"], e) for e in spec["tensors"]}
    if digest(arrays) != spec["sha256"]:
        raise ValueError(f"{target.name}: tensors differ from the recorded digest")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".safetensors":
        save_file(arrays, target, metadata={"format": "pt"})
        return
    tensors: dict[str, Any] = {k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}
    if spec["container"] == "model":
        tensors = {"model": tensors, "epoch": 3}
    elif spec["container"] != "flat":  # groups, such as generator+quantizer+encoder
        nested: dict[str, Any] = {group: {} for group in spec["container"].split("+")}
        for name, value in tensors.items():
            group, rest = name.split(".", 1)
            nested[group][rest] = value
        tensors = nested
    torch.save(tensors, target)


def materialise(variant: Path, out: Path) -> Path:
    """Write ``out/checkpoints/...`` and ``out/llm/...`` in the published layout."""
    shutil.copytree(variant / "ckpt", out, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for folder in (out, *(p for p in out.rglob("*") if p.is_dir())):
        folder.chmod(0o755)
    for name, spec in json.loads((variant / "spec.json").read_text())["files"].items():
        write_binary(out / name, spec)
    return out


class Run:
    """One recorded run: ``run["enc_out"]`` is a tensor, ``run.json`` the rest."""

    def __init__(self, root: Path, name: str) -> None:
        self.json: dict[str, Any] = json.loads((root / f"{name}.json").read_text())
        self.tensors: dict[str, torch.Tensor] = load_file(root / f"{name}.safetensors")

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]


class GoldenVariant:
    """A checkpoint (``ckpt``: checkpoints/ and llm/) and what the original computed with it."""

    PARTS = {
        "audiollm": "checkpoints/audiollm/final.pt",
        "decoder": "checkpoints/decoder/final.pt",
        "codec": "checkpoints/codec/final.pt",
        "llm": "llm/model.safetensors",
    }

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root, self.name, self._scratch = root, root.name, scratch

    def __repr__(self) -> str:
        return self.name

    @cached_property
    def ckpt(self) -> Path:
        """The checkpoint on disk, made when first asked for. Tests copy it to change it."""
        return materialise(self.root, self._scratch / self.name)

    @cached_property
    def units(self) -> dict[str, torch.Tensor]:
        """The single-module vectors."""
        return load_file(self.root / "units.safetensors")

    @cached_property
    def units_json(self) -> dict[str, Any]:
        return json.loads((self.root / "units.json").read_text())

    @cached_property
    def _runs(self) -> dict[str, Run]:
        return {}

    def run(self, name: str) -> Run:
        """``"run_a"`` … ``"run_d"``."""
        if name not in self._runs:
            self._runs[name] = Run(self.root, name)
        return self._runs[name]

    def run_json(self, name: str) -> dict[str, Any]:
        return self.run(name).json

    def fbank(self, which: str) -> torch.Tensor:
        """``[n, 19, 80]`` features of input "a" or "b": 3 frames of context, then 16."""
        return load_file(self.root.parent / f"fbank_{which}.safetensors")["fbank"]

    @property
    def input_wave(self) -> Path:
        """The 16 kHz wav file of runs a, c and d."""
        return self.root.parent / "input_a.wav"

    def _text(self, name: str) -> str:
        return (self.root / "ckpt" / "checkpoints" / name).read_text()

    @cached_property
    def train_yaml(self) -> dict[str, Any]:
        return yaml.safe_load(self._text("audiollm/train.yaml"))

    @cached_property
    def decoder_json(self) -> dict[str, Any]:
        """The third entry of decoder/model.json: the arguments."""
        return json.loads(self._text("decoder/model.json"))[2]

    @cached_property
    def codec_json(self) -> dict[str, Any]:
        return json.loads(self._text("codec/model.json"))

    @cached_property
    def server_json(self) -> dict[str, Any]:
        return json.loads(self._text("server.json"))

    @cached_property
    def meta(self) -> dict[str, Any]:
        return json.loads((self.root / "meta.json").read_text())

    @cached_property
    def _states(self) -> dict[str, dict[str, torch.Tensor]]:
        return {}

    def state_dict(self, part: str, prefix: str = "") -> dict[str, torch.Tensor]:
        """Raw published tensors of ``audiollm``, ``decoder``, ``codec`` or ``llm``.

        Codec names carry their group ("generator.conv_pre.bias"). With ``prefix`` only the names
        that start with it, without it.
        """
        if part not in self._states:
            spec = json.loads((self.root / "spec.json").read_text())["files"][self.PARTS[part]]
            self._states[part] = {
                e["name"]: torch.from_numpy(np.array(tensor_values(spec["seed"], e)))
                for e in spec["tensors"]
            }
        return {
            k.removeprefix(prefix): v.clone()
            for k, v in self._states[part].items()
            if k.startswith(prefix)
        }


@pytest.fixture(scope="session")
def golden_variant(
    request: pytest.FixtureRequest, golden_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> GoldenVariant:
    return GoldenVariant(golden_dir / request.param, tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="session")
def imported(golden_variant: GoldenVariant, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The variant's checkpoint as a model folder. Read-only for tests."""
    from fo_core.convert.official import import_official

    out = tmp_path_factory.mktemp("imported") / golden_variant.name
    import_official(golden_variant.ckpt / "checkpoints", golden_variant.ckpt / "llm", out)
    return out


@pytest.fixture(scope="session")
def any_checkpoint(golden_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint (checkpoints/ and llm/) for tests that damage a copy of it."""
    root = min(spec.parent for spec in golden_dir.glob("*/spec.json"))
    return materialise(root, tmp_path_factory.mktemp("any") / root.name)


@pytest.fixture(scope="session")
def golden_normal():
    """The hash behind the values, for modules whose weights are described, not stored."""
    return unit_normal
