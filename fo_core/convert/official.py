"""Published Freeze-Omni checkpoints to model folders and back, tensor by tensor, bit by bit.

Importing checks everything before it writes anything: the text files field by field
(:mod:`settings`), every tensor by name and shape (:mod:`keymap`). Files are memory-mapped and
written one tensor at a time. What no module of ours uses (and is no copy of the LLM) is kept in the
folder's ``official/`` with the original text files, so that exporting gives back the same tensors.
"""

from __future__ import annotations

import shutil
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from fo_core.config import to_dict
from fo_core.convert import keymap
from fo_core.convert.aliases import check_aliases
from fo_core.convert.reader import SafetensorsWriter, read_cmvn, read_pt, tensors_of
from fo_core.convert.settings import check_llm, model_config, read_settings
from fo_core.dialogue.settings import official_server, write_dialogue
from fo_core.errors import CheckpointError
from fo_core.io.checkpoint import load_tensors, read_json
from fo_core.io.files import new_folder, write_json, write_text
from fo_core.models.freeze_omni import FreezeOmni, FreezeOmniConfig

TEXTS = (
    "audiollm/train.yaml",
    "audiollm/global_cmvn",
    "decoder/model.json",
    "codec/model.json",
    "server.json",
)
GROUPS = ("generator", "quantizer", "encoder")  # of codec/final.pt
MODULES = ("speech_encoder", "adapter", "prompt", "state_head", "speech_decoder", "codec")
KEPT = "official"  # folder inside a model folder with what only exporting needs
CMVN = ("cmvn.mean", "cmvn.istd")


@dataclass
class ImportReport:
    """What an import did."""

    folder: Path
    tensors: dict[str, int] = field(default_factory=dict)  # module → tensors
    unused: dict[str, str] = field(default_factory=dict)  # published tensor → why it is not used


@dataclass
class Plan:
    """Where every tensor goes."""

    modules: dict[str, dict[str, Tensor]]  # module → our name → tensor
    made: set[str]  # "module/our name" of tensors that are in no published file
    kept: dict[str, Tensor]  # "file/name" → tensor that only exporting needs
    unused: dict[str, str]  # "file/name" of a tensor or "file: key" of a setting → reason


def import_official(checkpoints: str | Path, llm: str | Path, out: str | Path) -> ImportReport:
    """Convert a published checkpoint to a model folder.

    Args:
        checkpoints: Folder with ``audiollm/``, ``decoder/``, ``codec/`` and ``server.json``.
        llm: Folder of the frozen LLM; it is referred to, not copied.
        out: Model folder to make; it must not exist, or be empty.

    Raises:
        CheckpointError: A file is missing or damaged, a field or tensor is missing, unknown or
            misshapen, or the LLM is another one. Nothing is written then.
    """
    checkpoints, out = Path(checkpoints), Path(out)
    settings = read_settings(checkpoints)
    check_llm(settings, llm)
    config = model_config(settings, llm)
    tensors, record = read_tensors(checkpoints)
    statistics = dict(zip(CMVN, read_cmvn(checkpoints / "audiollm/global_cmvn"), strict=True))
    aliases = check_aliases(tensors["audiollm"], Path(llm), checkpoints / "audiollm/final.pt")
    expected = expected_tensors(config, settings.model["llm_embed_dim"])
    plan = make_plan(tensors, expected, statistics, checkpoints)
    for name in aliases:
        plan.unused[f"audiollm/{name}"] = "copy of the frozen LLM, which has its own folder"
    record["cmvn_in_file"] = any(n.startswith("encoder.global_cmvn") for n in tensors["audiollm"])
    record["unused"] = plan.unused
    with new_folder(out) as folder:
        for module, parts in plan.modules.items():
            mapped = {name for name in parts if f"{module}/{name}" not in plan.made}
            _write(folder / f"{module}.safetensors", parts, {"part": module}, mapped)
        _write(folder / KEPT / "unused.safetensors", plan.kept, None, plan.kept)
        write_json(folder / KEPT / "record.json", record)
        for name in TEXTS:
            target = folder / KEPT / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkpoints / name, target)
        write_json(folder / "config.json", to_dict(config))
        write_dialogue(folder, official_server(settings.server))
        write_text(folder / "README.md", _readme(checkpoints, Path(llm), plan))
    counts = {module: len(parts) for module, parts in plan.modules.items()}
    ignored = {
        f"audiollm/train.yaml: {key}": "only training reads it" for key in settings.of_training
    }
    return ImportReport(out, counts, plan.unused | ignored)


def read_tensors(checkpoints: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The tensors of the three binary files, and how they were packed.

    Returns:
        File → name → memory-mapped tensor (codec names carry their group), and a record:
        the decoder's container and the plain values beside its tensors.

    Raises:
        CheckpointError: A file is missing, damaged or packed in another way.
    """
    path = checkpoints / "audiollm/final.pt"
    audiollm = tensors_of(read_pt(path), str(path))
    path = checkpoints / "decoder/final.pt"
    packed, record = read_pt(path), {"decoder_container": "flat", "decoder_rest": {}}
    if isinstance(packed.get("model"), dict):
        rest = {k: v for k, v in packed.items() if isinstance(v, int | float | str | None)}
        record = {"decoder_container": "model", "decoder_rest": rest}
        packed = packed["model"]
    decoder = tensors_of(packed, str(path))
    path = checkpoints / "codec/final.pt"
    groups = read_pt(path)
    for name in GROUPS:
        if not isinstance(groups.get(name), dict):
            raise CheckpointError(f"{path}: missing group {name}", possible=", ".join(GROUPS))
    if extra := sorted(set(groups) - set(GROUPS)):
        raise CheckpointError(f"{path}: unknown group {extra[0]}", possible=", ".join(GROUPS))
    codec = {
        f"{group}.{name}": tensor
        for group in GROUPS
        for name, tensor in tensors_of(groups[group], f"{path}: {group}").items()
    }
    return {"audiollm": audiollm, "decoder": decoder, "codec": codec}, record


def expected_tensors(config: FreezeOmniConfig, width: int) -> dict[str, dict[str, Tensor]]:
    """Module → name → tensor without content that a model around an LLM of ``width`` has."""
    with torch.device("meta"):
        table = torch.empty(2, width)
        llm: Any = SimpleNamespace(width=width, embedding_table=table, tokenizer=None)
        model = FreezeOmni(config, llm)
    return {module: getattr(model, module).state_dict() for module in MODULES}


def make_plan(
    tensors: dict[str, dict[str, Tensor]],
    expected: dict[str, dict[str, Tensor]],
    statistics: dict[str, Tensor],
    source: Path,
) -> Plan:
    """Assign every published tensor, and find one for every tensor of ours.

    Args:
        tensors: File → published name → tensor.
        expected: Module → our name → tensor of the right shape.
        statistics: Feature statistics by our name, for files that hold none themselves.
        source: The checkpoints folder, for messages.

    Raises:
        CheckpointError: A tensor is unknown, missing or misshapen; they are named (up to six).
    """
    plan = Plan({module: {} for module in expected}, set(), {}, {})
    faults: list[str] = []
    for file, named in tensors.items():
        for name, tensor in named.items():
            target, where = keymap.to_ours(file, name), f"{file}/final.pt: {name}"
            if target is None or expected[target[0]].get(target[1]) is None:
                if reason := keymap.unused(file, name):
                    plan.unused[f"{file}/{name}"] = reason
                    plan.kept[f"{file}/{name}"] = tensor
                else:
                    faults.append(f"unknown tensor in {where}")
                continue
            module, ours = target
            shape = list(expected[module][ours].shape)
            if shape[:1] == [0]:
                plan.unused[f"{file}/{name}"] = "the model does not use it (train.yaml)"
                plan.kept[f"{file}/{name}"] = tensor
            elif list(tensor.shape) != shape:
                faults.append(f"{where} has shape {list(tensor.shape)}, expected {shape}")
            else:
                plan.modules[module][ours] = tensor
    for module, names in expected.items():
        held = plan.modules[module]
        for ours, like in names.items():
            if ours in held:
                continue
            own = statistics.get(ours) if module == "speech_encoder" else _initial(ours, like, held)
            if own is not None:
                held[ours] = own
                plan.made.add(f"{module}/{ours}")
                continue
            file, name = keymap.to_published(module, ours) or ("?", ours)
            faults.append(f"missing tensor in {file}/final.pt: {name}")
    if faults:
        more = f" and {len(faults) - 6} more" if len(faults) > 6 else ""
        raise CheckpointError(f"{source}: " + ", ".join(faults[:6]) + more)
    return plan


def _initial(name: str, like: Tensor, held: dict[str, Tensor]) -> Tensor | None:
    """A tensor of ours that no published file has: empty, or how a codebook learned."""
    if like.numel() == 0:
        return torch.zeros(like.shape, dtype=like.dtype)
    if not keymap.OWN.fullmatch(name):
        return None
    if name.endswith(".sums"):
        return held.get(name.removesuffix("sums") + "weight")
    value = 0 if name.endswith(".idle") else 1
    return torch.full(like.shape, value, dtype=like.dtype)


def export_official(model: str | Path, out: str | Path) -> Path:
    """Write a model folder that was imported (and perhaps trained on) in the published layout.

    Args:
        model: Model folder with ``official/``.
        out: Folder to make: ``audiollm/``, ``decoder/``, ``codec/``, ``server.json``.

    Raises:
        CheckpointError: The folder was not imported, lacks a part, or has one of another shape than
            its ``train.yaml`` and ``model.json`` say.
    """
    model, out = Path(model), Path(out)
    kept = model / KEPT
    if not (kept / "record.json").is_file():
        raise CheckpointError(
            f"{model} was not imported from a published checkpoint ({KEPT}/record.json is missing)",
            possible="a model folder made by fo models import-official",
        )
    record = read_json(kept / "record.json")
    settings = read_settings(kept)
    statistics = dict(zip(CMVN, read_cmvn(kept / "audiollm/global_cmvn"), strict=True))
    tensors: dict[str, dict[str, Tensor]] = {"audiollm": {}, "decoder": {}, "codec": {}}
    for module in MODULES:
        path = model / f"{module}.safetensors"
        for name, tensor in load_tensors(path).items():
            found = keymap.to_published(module, name)
            if found is None and tensor.numel() and not keymap.OWN.fullmatch(name):
                raise CheckpointError(f"{path}: {name} has no place in a published checkpoint")
            same = name in CMVN and torch.equal(tensor, statistics[name])
            if found and tensor.numel() and not (same and not record["cmvn_in_file"]):
                tensors[found[0]][found[1]] = tensor
    for name, tensor in load_tensors(kept / "unused.safetensors").items():
        file, _, published = name.partition("/")
        tensors[file][published] = tensor
    expected = expected_tensors(model_config(settings, ""), settings.model["llm_embed_dim"])
    make_plan(tensors, expected, statistics, kept)
    with new_folder(out) as folder:
        for name in TEXTS:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept / name, folder / name)
        torch.save(tensors["audiollm"], folder / "audiollm/final.pt")
        decoder: dict[str, Any] = tensors["decoder"]
        if record["decoder_container"] == "model":
            decoder = {"model": decoder, **record["decoder_rest"]}
        torch.save(decoder, folder / "decoder/final.pt")
        groups: dict[str, dict[str, Tensor]] = {name: {} for name in GROUPS}
        for name, tensor in tensors["codec"].items():
            group, _, rest = name.partition(".")
            groups[group][rest] = tensor
        torch.save(groups, folder / "codec/final.pt")
    return out


def _write(path: Path, tensors: dict[str, Tensor], meta: Any, mapped: Container[str]) -> None:
    shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    SafetensorsWriter(path, shapes, meta, mapped).write(tensors.__getitem__)


def _readme(checkpoints: Path, llm: Path, plan: Plan) -> str:
    reasons = sorted({reason for reason in plan.unused.values()})
    return f"""# Imported Freeze-Omni checkpoint

Converted from `{checkpoints.name}` around the frozen LLM `{llm.name}`. The published weights carry
their own licence. `{KEPT}/` holds what only `fo models export --format official` needs.

Not used: {"; ".join(reasons) or "nothing"}.
"""
