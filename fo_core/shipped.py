"""Names of models: the one that ships, the newest of this workspace, one of the hub, a folder.

A recorded question ships too, for whoever has none at hand.

A workspace is the current folder: ``data/`` holds manifests, ``runs/STAGE/model`` what stages made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from fo_core import hub
from fo_core.errors import CheckpointError
from fo_core.io.files import write_json

DEFAULT = "fo-smol"  # ships with the package
LATEST = "latest"  # the newest model under runs/
RUNS = Path("runs")
EXAMPLE = "example"  # a recorded question that ships: "What is the capital of France?"
INDEX = "files.json"  # in the folder of the model that ships


def model_folder(name: str | Path, also: Iterable[str] = ()) -> Path:
    """The folder of a model.

    Args:
        name: A folder, ``fo-smol``, ``latest``, or a model of the hub: ``user/repo[@revision]``.
        also: Other names that the caller takes itself, for the error.

    Raises:
        CheckpointError: There is no such folder; the shipped model is not whole; ``runs/`` holds no
            model; the hub has no such model or cannot be reached.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if str(name) == DEFAULT:
        return _shipped()
    if str(name) == LATEST:
        return _latest()
    if hub.is_hub_name(path):
        try:
            return hub.pull(path)
        except CheckpointError as error:
            what = f"there is no folder {path}, and {error.what}"
            raise CheckpointError(what, error.possible, error.do) from None
    fault = "is not a folder" if path.exists() else "does not exist"
    raise CheckpointError(
        f"model folder {path} {fault}",
        possible=f"a model folder, {DEFAULT} (ships with the package), {LATEST} (newest in runs/), "
        + ", ".join(["user/repo[@revision] of the hub", *also]),
        do="fo models list shows those at hand",
    )


def is_shipped(folder: Path) -> bool:
    """Whether a model folder is the one that ships with the package, which stays as it is."""
    return folder.parent.name == "shipped_models" and folder.name == DEFAULT


def recording(name: str | Path) -> Path:
    """A recording: a path, or ``example`` where no file of that name is here."""
    path = Path(name)
    if str(name) == EXAMPLE and not path.exists():
        return Path(str(files("fo_core"))) / "examples" / "question.flac"
    return path


def named_folder(name: str | Path) -> str:
    """The folder of a model that is named in another way than by its path; any path as it is.

    For what also takes a YAML file, or a folder that is still to be made; the rest takes
    :func:`model_folder`.
    """
    named = str(name) in (DEFAULT, LATEST) or hub.is_hub_name(name)
    return str(model_folder(name) if named else name)


def write_index(folder: Path) -> dict[str, int]:
    """Write ``files.json``, by which a shipped model is found whole: name -> bytes of its files."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != INDEX)
    sizes = {name: (folder / name).stat().st_size for name in names}
    write_json(folder / INDEX, sizes)
    return sizes


def _shipped() -> Path:
    folder = Path(str(files("fo_core"))) / "shipped_models" / DEFAULT
    index = folder / INDEX
    try:
        sizes = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        sizes = None
    wrong = [
        name
        for name, size in (sizes or {INDEX: -1}).items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != size
    ]
    if wrong:
        raise CheckpointError(
            f"the model {DEFAULT} that ships with the package is not whole: {', '.join(wrong)}",
            possible=f"a model folder of your own (--model DIR), or a new installation ({folder})",
            do="pip install --force-reinstall freeze-omni, or check out the repository again",
        )
    return folder


def _latest() -> Path:
    found = [path.parent for path in RUNS.glob("**/model/config.json")]
    if not found:
        raise CheckpointError(
            f"there is no model under {RUNS.resolve()}",
            possible=f"{DEFAULT}, or a model folder",
            do="fo train --stage input-1 makes one",
        )
    return max(found, key=lambda folder: (folder / "config.json").stat().st_mtime)
