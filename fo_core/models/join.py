"""One model folder from several whose stages ran apart: ears from one, the voice of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fo_core import config as configs
from fo_core.errors import CheckpointError
from fo_core.io.checkpoint import fingerprint, load_tensors, read_json, save_tensors
from fo_core.io.files import new_folder, write_json, write_text
from fo_core.models.encoder import piece_lm
from fo_core.models.freeze_omni import PARTS, FreezeOmniConfig, read_config

SECTIONS = {"ctc_head": "ctc"}  # part -> section of the config, where their names differ
ALSO = {"codec": ("voice",)}  # further settings that go with a part


def join(folders: Sequence[Path], out: Path, half: bool = False) -> dict[str, str]:
    """Write a model folder with the trained parts of all of them.

    Args:
        folders: Model folders around the same LLM. Where two have trained the same part, its
            weights must be equal.
        out: Model folder to make.
        half: Keep the weights in half precision (they are loaded as float32).

    Returns:
        part -> the folder that it is from.

    Raises:
        CheckpointError: The folders' LLMs differ; two have different weights of one part; a file is
            damaged; ``out`` holds something.
    """
    models = {folder: read_config(folder) for folder in folders}
    prints = {m.llm.fingerprint for m in models.values() if m.llm.fingerprint}
    if len(prints) > 1 or len({m.llm.spec for m in models.values()}) > 1:
        raise CheckpointError(
            "the folders are of different LLMs: "
            + ", ".join(f"{f} of {m.llm.spec}" for f, m in models.items()),
            possible="folders that were trained around one LLM",
        )
    chosen: dict[str, Path] = {}
    for part in PARTS:
        having = [f for f in folders if (f / f"{part}.safetensors").is_file()]
        if having:
            chosen[part] = _one_of(part, having)
    merged: dict[str, Any] = configs.to_dict(models[folders[0]])
    for part, folder in chosen.items():
        given = configs.to_dict(models[folder])
        for name in (SECTIONS.get(part, part), *ALSO.get(part, ())):
            merged[name] = given[name]
    merged["llm"]["fingerprint"] = next(iter(prints), "")
    configs.load(FreezeOmniConfig, merged)  # the parts fit together
    with new_folder(out) as made:
        _write(made, folders, chosen, merged, half)
    return {part: str(folder) for part, folder in chosen.items()}


def _write(
    out: Path, folders: Sequence[Path], chosen: Mapping[str, Path], config: Any, half: bool
) -> None:
    for part, folder in chosen.items():
        tensors = load_tensors(folder / f"{part}.safetensors")
        if half:
            tensors = {k: v.half() if v.dtype == torch.float32 else v for k, v in tensors.items()}
        save_tensors(out / f"{part}.safetensors", tensors, {"part": part})
    write_json(out / "config.json", config)
    if "ctc_head" in chosen and (chosen["ctc_head"] / piece_lm.FILE).is_file():
        tensors = load_tensors(chosen["ctc_head"] / piece_lm.FILE)
        save_tensors(out / piece_lm.FILE, tensors, {"classes": len(config["ctc"]["pieces"])})
    _records(folders, out)


def _one_of(part: str, folders: Sequence[Path]) -> Path:
    """The folder whose weights of a part are taken."""
    prints = {f: fingerprint(load_tensors(f / f"{part}.safetensors")) for f in folders}
    if len(set(prints.values())) == 1:
        return folders[0]
    raise CheckpointError(
        f"{part} has different weights in {' and '.join(map(str, folders))}",
        possible="folders of which one has trained each part, or all the same",
        do=f"move {part}.safetensors out of the folder whose {part} is not wanted",
    )


def _records(folders: Sequence[Path], out: Path) -> None:
    """How it talks from the first folder that says it; the stages of all."""
    said = [f / "dialogue.json" for f in folders if (f / "dialogue.json").is_file()]
    if said:
        write_text(out / "dialogue.json", said[0].read_text(encoding="utf-8"))
    stages: dict[str, Any] = {}
    for folder in folders:
        if (folder / "stages.json").is_file():
            stages |= {row["stage"]: row for row in read_json(folder / "stages.json")}
    if stages:
        write_json(out / "stages.json", [stages[name] for name in sorted(stages)])
