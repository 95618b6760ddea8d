"""Options that several commands share, and checks of paths before any long work begins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fo_cli import render
from fo_core.api.network import TALKING, load_network
from fo_core.errors import FoError
from fo_core.shipped import DEFAULT
from fo_core.shipped import model_folder as model_folder

if TYPE_CHECKING:
    from fo_core.dialogue.settings import DialogueConfig
    from fo_core.models.freeze_omni import FreezeOmni

MODEL_HELP = (
    "Model folder; fo-smol ships with the package; latest: the newest in runs/; "
    "user/repo[@revision]: of the hub."
)
DEFAULT_MODEL = Path(DEFAULT)
SMALL = 300_000_000  # parameters of an LLM up to which one thread is enough
Model = Annotated[
    Path,
    typer.Option(
        "--model",
        help=MODEL_HELP,
        metavar="DIR|NAME",
    ),
]


def _renamed(old: str, new: str) -> Any:
    """A hidden option of before, which is refused with its name now."""

    def refuse(value: str | bool | None) -> None:
        if value:
            given = "" if value is True else f" {value}"
            what = f"{old}{given}: this option is {new} now"
            raise FoError(what, do=f"write {new}{given}")

    return typer.Option(old, hidden=True, callback=refuse)


OldSize = Annotated[str | None, _renamed("--size", "--recipe")]  # of `fo train`, `fo profile ..`
OldAnyway = Annotated[bool, _renamed("--anyway", "--force")]  # of `fo models calibrate`
RandomSize = Annotated[
    Literal["tiny", "smol", "small", "paper"] | None,
    typer.Option("--size", help="A whole model of this shape, with --random (paper: 7 B LLM)."),
]
Random = Annotated[bool, typer.Option("--random", help="Random weights, of the shape in --size.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a config value; may be repeated.", metavar="A.B=C"),
]

Channel = Annotated[
    int | None,
    typer.Option(
        "--channel",
        help="Channel to use of recordings with several, from 0 (two speakers of a call are "
        "often on one each). Default: their mean.",
        min=0,
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", help="cpu, cuda, cuda:N or mps; auto: cuda if there is one."),
]
Weights = Annotated[
    Literal["auto", "same", "fp16", "bf16", "int8"],
    typer.Option(
        "--weights",
        help="Precision of the weights on a CPU; auto: the quickest for the LLM and for the speech "
        "decoder, measured on this machine once (the rest: fp16), or same for a published "
        "checkpoint that is to answer exactly as it was published.",
    ),
]

Voice = Annotated[
    str | None,
    typer.Option("--voice", help="One of the model's voices (fo models voices).", metavar="NAME"),
]


def random_size(size: str | None, random: bool, model: object = None) -> str | None:
    """The shape of a model with random weights (of eval.latency.models), if one is asked for.

    Raises:
        FoError: Half of what is needed is there, or a model is named as well.
    """
    if size is None and random:
        raise FoError("--random has no shape", "--size tiny, smol, small, paper", "add --size")
    if size is not None and not random:
        raise FoError(f"--size {size} is a shape without weights", do="add --random")
    if size is not None and model:
        raise FoError("--size and --model exclude each other", do="leave one out")
    return "paper-7b" if size == "paper" else size  # its LLM included


def voice_of(folder: Path, voice: str | None) -> str | None:
    """A voice that the model has, asked before its weights are read.

    Raises:
        ConfigError: It has no such voice.
    """
    from fo_core.models.model_config import read_config
    from fo_core.models.voices import find

    find(read_config(folder), voice)
    return voice


def ready_model(
    folder: Path,
    dialogue: DialogueConfig,
    weights: str = "auto",
    device: str = "auto",
    parts: tuple[str, ...] = TALKING,
) -> FreezeOmni:
    """A model that is ready to talk.

    A small LLM on a CPU then runs on one thread, unless ``OMP_NUM_THREADS`` says otherwise: its
    products are too short to be shared (fo-smol: first audio after 174 ms on one thread of an AMD
    EPYC, 294 ms on two).

    Raises:
        FoError: There is no such device.
        CheckpointError: The folder holds no model, or lacks one of ``parts``.
    """
    import torch

    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # before the precisions are timed
    model = load_network(folder, dialogue, weights, device, parts, render.note)
    if model.llm.device.type != "cpu" or sum(p.numel() for p in model.llm.parameters()) > SMALL:
        torch.set_num_threads(threads)
    return model


def existing_folder(path: Path, what: str) -> Path:
    """A folder that is there.

    Raises:
        FoError: There is nothing there, or it is no folder.
    """
    if not path.is_dir():
        fault = "is not a folder" if path.exists() else "does not exist"
        raise FoError(f"{what} {path} {fault}", do="check the path")
    return path


def existing_file(path: Path, what: str) -> Path:
    """A file that is there and can be read.

    Raises:
        FoError: There is nothing there, it is a folder, or it cannot be read.
    """
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "does not exist"
        raise FoError(f"{what} {path} {fault}", do="check the path")
    if not os.access(path, os.R_OK):
        raise FoError(f"{what} {path} cannot be read", do="check its permissions")
    return path


def say_channels(path: Path, channel: int | None) -> None:
    """Say that several channels of a recording were averaged; after it was answered."""
    from fo_cli import render
    from fo_core.io import audio

    channels = audio.info(path).channels
    if channels > 1 and channel is None:
        render.note(f"{path} has {channels} channels: their mean was heard; --channel N takes one")


def existing_data(path: Path, what: str) -> Path:
    """A manifest that is there, or a set of shards: a folder, its shards.json, or a URL.

    Raises:
        FoError: There is nothing there, it cannot be read, or a folder holds no shards.
    """
    from fo_core.data.shards import is_shards

    return path if is_shards(path) else existing_file(path, what)


def writable(path: Path, what: str, *kinds: str, read: Sequence[Path] = ()) -> Path:
    """A place that can be written: the nearest folder above it that exists must be writable.

    Args:
        path: The place.
        what: What is to lie there.
        kinds: Suffixes that a file may have, such as ".png"; none: any.
        read: What the command reads, which stays as it is.

    Raises:
        FoError: A part of the path is a file, the folder is read-only, or the suffix is another;
            a file is asked for where a folder is; or it is read.
    """
    if path.exists() and any(each.exists() and path.samefile(each) for each in read):
        raise FoError(f"{what} {path}: that is what is read", do="name another place")
    if kinds and path.is_dir():
        raise FoError(f"{what} {path}: there is a folder", do="name another place")
    if kinds and path.suffix.lower() not in kinds:
        raise FoError(f"{what} {path}: it is of another kind", possible=", ".join(kinds))
    for folder in path.absolute().parents:
        if folder.exists():
            break
    if not folder.is_dir():
        raise FoError(f"{what} {path}: {folder} is not a folder", do="name another place")
    if not os.access(folder, os.W_OK):
        raise FoError(f"{what} {path}: {folder} is read-only", do="name a writable place")
    return path
