"""Models on the Hugging Face hub: ``user/repo[@revision]`` beside folders, pull and push.

A model there is a model folder: config, parts as safetensors, its card. Its LLM stays a reference.
What is pulled lies in the hub's own cache (``HF_HOME``) and is used from there without a network.
No message of this file ever holds a token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from fo_core.errors import CheckpointError, FoError, first_line
from fo_core.io.files import read_object

CARD = "README.md"
SETTINGS = ("config.json", "dialogue.json", "stages.json")  # of a model folder, beside its parts
NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
BASES = {  # LLMs by a name of ours -> where their weights come from
    "embedded": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "qwen": "Qwen/Qwen2.5-Coder-1.5B-Instruct",
    "qwen-0.5b": "Qwen/Qwen2.5-Coder-0.5B-Instruct",
}
METRICS = ("wer", "accuracy")  # what a card of ours is about, in the hub's words
DO = "fo models push FOLDER user/repo"


@dataclass(frozen=True)
class Push:
    """What a push sends, or would send."""

    repo: str  # user/repo
    private: bool  # the repository, if the push makes it
    files: dict[str, int]  # name -> bytes
    left_out: tuple[str, ...]  # names in the folder that are no part of a model
    card: str  # README.md as it is sent
    url: str | None = None  # of the commit; None: nothing was sent


def is_hub_name(name: str | PurePath) -> bool:
    """Whether this has the form ``user/repo`` or ``user/repo@revision`` and is no path here."""
    text = name.as_posix() if isinstance(name, PurePath) else name
    found = NAME.fullmatch(text) is not None and not text.startswith((".", "-"))
    return found and not text.endswith((".yaml", ".yml", ".gguf")) and not Path(text).exists()


def split_name(name: str | PurePath) -> tuple[str, str | None]:
    """``user/repo@revision`` -> the repository and the revision (None: its newest).

    Raises:
        CheckpointError: It has another form.
    """
    text = name.as_posix() if isinstance(name, PurePath) else name
    if NAME.fullmatch(text) is None:
        raise CheckpointError(f"{text!r} is no model of the hub", possible="user/repo[@revision]")
    repo, _, revision = text.partition("@")
    return repo, revision or None


def pull(
    name: str | PurePath,
    *,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    cache_dir: str | Path | None = None,
) -> Path:
    """The folder of a model of the hub; fetched where the cache lacks it.

    Args:
        name: ``user/repo``, or ``user/repo@`` and a branch, tag or commit.
        token: Of the hub; None: the one of ``hf auth login`` or ``HF_TOKEN``.
        local_files_only: Never ask the hub (``HF_HUB_OFFLINE=1`` does the same).
        force_download: Fetch even what the cache has.
        cache_dir: Another cache than the hub's own.

    Raises:
        CheckpointError: There is no such model or revision, it may not be read, or it is neither in
            the cache nor to be reached; or it is no model of this kind.
    """
    repo, revision = split_name(name)
    from huggingface_hub import snapshot_download

    fetch = partial(
        snapshot_download,
        repo,
        token=token,
        local_files_only=local_files_only,
        force_download=force_download,
        cache_dir=cache_dir,
    )
    with _in_one_line(repo, revision, token):
        folder = Path(fetch(revision=revision, allow_patterns=["config.json"]))
        config = read_object(folder / "config.json")
        if "speech_encoder" not in config:  # said before its weights are fetched
            raise CheckpointError(
                f"{repo} is no Freeze-Omni model (config.json without speech_encoder)",
                possible="a model that `fo models push` made",
                do="an LLM is named with --llm, or put under a model by fo attach",
            )
        wanted = ["*.json", "*.safetensors", CARD]
        fetch(revision=folder.name, allow_patterns=wanted, ignore_patterns=["*/*"])
    return folder


def push(
    folder: str | Path,
    name: str,
    *,
    private: bool = True,
    dry_run: bool = False,
    token: str | bool | None = None,
    branch: str | None = None,
    licence: str | None = None,
    datasets: Iterable[str] = (),
    llm: str | None = None,
    message: str = "Push a Freeze-Omni model",
) -> Push:
    """Put a model folder on the hub as one commit; the LLM stays a reference.

    Parts that the repository has and the folder lacks are deleted there, so that what is pulled is
    the folder. Other files of the folder stay here.

    Args:
        folder: Model folder.
        name: ``user/repo``; made where it is not there.
        private: Whether a repository that is made is private.
        dry_run: Say what would be sent; the hub is not asked.
        token: Of the hub; None: the one of ``hf auth login`` or ``HF_TOKEN``.
        branch: Of the repository; None: its main one.
        licence: Of the weights, as the hub writes it (``apache-2.0``); None: the card's.
        datasets: What they learned from, as the hub names it; the card's are kept.
        llm: Written as the LLM of the model, for others to load it by (``owner/name``).
        message: Of the commit.

    Raises:
        CheckpointError: The folder is no model, its LLM is a folder of this machine, or the hub
            refuses.
    """
    folder, (repo, revision) = Path(folder), split_name(name)
    if revision:
        raise CheckpointError(f"{name}: a push goes to a branch", do="give --branch instead of @")
    config = read_object(folder / "config.json")
    if "speech_encoder" not in config:
        raise CheckpointError(f"{folder} is no model folder", do="fo models list shows those here")
    config["llm"] = _public_llm(config.get("llm") or {}, llm)
    text = card(folder, config, licence, datasets)
    sent: dict[str, Path | bytes] = {path.name: path for path in files_of(folder)}
    sent["config.json"] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
    sent[CARD] = text.encode()
    sizes = {n: len(d) if isinstance(d, bytes) else d.stat().st_size for n, d in sent.items()}
    left_out = tuple(sorted(path.name for path in folder.iterdir() if path.name not in sent))
    plan = Push(repo, private, dict(sorted(sizes.items())), left_out, text)
    if dry_run:
        return plan
    return replace(plan, url=_send(repo, sent, private, token, branch, message))


def files_of(folder: Path) -> list[Path]:
    """Files of a folder that make a model: its parts, its settings and its card."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and (path.suffix == ".safetensors" or path.name in (*SETTINGS, CARD))
    ]


def _send(
    repo: str,
    sent: dict[str, Path | bytes],
    private: bool,
    token: str | bool | None,
    branch: str | None,
    message: str,
) -> str:
    """Make the repository where it is not there, and commit; the commit's URL."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(token=token)
    with _in_one_line(repo, branch, token):
        api.create_repo(repo, private=private, exist_ok=True)
        if branch:
            api.create_branch(repo, branch=branch, exist_ok=True)
        there = api.list_repo_files(repo, revision=branch)
        stale = [n for n in there if n not in sent and (n in SETTINGS or _is_part(n))]
        operations: list[Any] = [CommitOperationDelete(path_in_repo=name) for name in stale]
        operations += [CommitOperationAdd(name, data) for name, data in sent.items()]
        done = api.create_commit(
            repo, operations=operations, commit_message=message, revision=branch
        )
    return str(done.commit_url)


def _is_part(name: str) -> bool:
    return name.endswith(".safetensors") and "/" not in name


def _public_llm(llm: dict[str, Any], name: str | None) -> dict[str, Any]:
    """The config's LLM as others can load it.

    Raises:
        CheckpointError: It is a folder or file of this machine.
    """
    if name:
        return llm | {"spec": name}
    spec = str(llm.get("spec", ""))
    if spec in BASES or (NAME.fullmatch(spec) and not Path(spec).exists()):
        return llm
    raise CheckpointError(
        f"the LLM of this model is {spec!r}, which others can't load",
        possible="a hub id (owner/name), " + ", ".join(BASES),
        do=f"{DO} --llm owner/name (the fingerprint is checked when it is loaded)",
    )


def card(
    folder: Path,
    config: dict[str, Any],
    licence: str | None = None,
    datasets: Iterable[str] = (),
) -> str:
    """The folder's card with the YAML header that the hub reads; what the header says is kept.

    Raises:
        CheckpointError: Nobody says under which licence the weights are, or the header is damaged.
    """
    path = folder / CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# {folder.resolve().name}\n"
    header, body = split_card(text, str(path))
    if licence:
        header["license"] = licence
    if "license" not in header:
        raise CheckpointError(
            f"the card of {folder} names no licence",
            possible="a header with `license:` in README.md",
            do=f"{DO} --licence apache-2.0 (or what holds for your data and weights)",
        )
    spec = str(config["llm"].get("spec", ""))
    header["base_model"] = header.get("base_model") or BASES.get(spec, spec)
    named = header.get("datasets") or []
    known = [named] if isinstance(named, str) else list(named)
    if found := list(dict.fromkeys([*known, *datasets])):
        header["datasets"] = found
    header.setdefault("metrics", list(METRICS))
    header.setdefault("library_name", "freeze-omni")
    header.setdefault("pipeline_tag", "audio-to-audio")
    header.setdefault("tags", ["speech-to-speech", "full-duplex", "frozen-llm"])
    import yaml

    head = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{body.lstrip()}"


def split_card(text: str, where: str = CARD) -> tuple[dict[str, Any], str]:
    """A card's YAML header ({} where it has none) and the rest.

    Raises:
        CheckpointError: The header is no YAML mapping.
    """
    found = re.match(r"---\r?\n(.*?)\r?\n---\r?\n?(.*)", text, re.DOTALL)
    if found is None:
        return {}, text
    import yaml

    try:
        header = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        raise CheckpointError(f"{where}: its header is no YAML: {first_line(error)}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{where}: its header is no YAML mapping")
    return header, found[2]


@contextmanager
def _in_one_line(repo: str, revision: str | None, token: str | bool | None) -> Iterator[None]:
    """The hub client's dozen kinds of errors as ours, without the token."""
    from huggingface_hub import errors, get_token

    what = f"{repo}@{revision}" if revision else repo
    try:
        yield
        return
    except FoError:
        raise
    except errors.GatedRepoError:
        fault, do = f"the hub wants its terms accepted for {repo}", "accept them on its page"
    except errors.RepositoryNotFoundError:
        fault = f"the hub has no model {repo}, or it is private and your token may not read it"
        do = "check the name; private models: hf auth login, or HF_TOKEN"
    except errors.RevisionNotFoundError:
        fault, do = f"{repo} has no revision {revision}", "give a branch, a tag or a commit"
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        fault = f"{what} is not in the cache, and the hub cannot be reached"
        do = f"fo models fetch {what} once with a network (HF_HUB_OFFLINE must not be set)"
    except Exception as error:  # the rest: refused, too large, broken off, a name the hub forbids
        secret = token if isinstance(token, str) else get_token()
        said = getattr(error, "server_message", None)
        reason = said.splitlines()[0][:160] if said else first_line(error)
        for hidden in (secret or "", *re.findall(r"hf_\w+", reason)):
            reason = reason.replace(hidden, "***") if hidden else reason
        fault, do = f"{what}: {type(error).__name__}: {reason}", "try again"
    raise CheckpointError(
        fault, possible="a model folder, user/repo, user/repo@revision", do=do
    ) from None
