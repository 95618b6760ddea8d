"""Where a result comes from: model, versions, machine."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil  # comes with accelerate

from fo_core.dialogue.settings import FILE as DIALOGUE
from fo_core.io.checkpoint import read_json
from fo_core.shipped import INDEX

PACKAGES = ("torch", "transformers", "lhotse", "accelerate", "faster-whisper", "numpy")
METRICS = ("jiwer", "whisper-normalizer", "speechmos")


def fingerprint(folder: str | Path, without: str = "") -> str:
    """SHA-256 over the files that make a model folder what it is; its card is not among them, nor
    the index of a shipped folder, which changes with the card, nor the file ``without``."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        if path.suffix in (".json", ".safetensors") and path.name not in (INDEX, without):
            digest.update(path.name.encode())
            with path.open("rb") as file:  # parts may be larger than what memory is free
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def describe_model(folder: str | Path) -> dict[str, Any]:
    """A model folder: its name, fingerprint, frozen LLM, types of its parts, how it talks.

    Raises:
        CheckpointError: There is no config.json, or it is not JSON.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    llm = config.get("llm", {})
    types = {k: v["type"] for k, v in config.items() if isinstance(v, dict) and "type" in v}
    dialogue = read_json(folder / DIALOGUE) if (folder / DIALOGUE).is_file() else {}
    dialogue.pop("calibration", None)  # how it was found does not change how it talks
    return {
        "folder": str(folder),
        "fingerprint": fingerprint(folder),
        "llm": llm.get("spec"),
        "llm_fingerprint": llm.get("fingerprint"),
        "parts": types,
        "dialogue": dialogue,
    }


def machine(device: str = "cpu") -> dict[str, Any]:
    """CPU, cores, memory and system, and the accelerator where one was used."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    found = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    if device != "cpu":
        import torch

        name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
        found["accelerator"] = name
    return found


def versions(packages: tuple[str, ...] = PACKAGES + METRICS) -> dict[str, str]:
    """Ours and those of the packages that results depend on."""
    return {name: package_version(name) for name in ("freeze-omni", *packages)}


def package_version(name: str) -> str:
    """A package's version, or "not installed"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
