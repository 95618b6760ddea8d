"""Atomic files and the cache folder, without torch: light enough for worker processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fo_core.errors import CheckpointError, DataError, FoError, first_line

try:
    import fcntl
except ImportError:  # Windows: what a killed process leaves there stays
    fcntl = None  # type: ignore[assignment]


def cache_dir() -> Path:
    """``$FO_CACHE``, or ``~/.cache/freeze-omni``: what is made once and kept between runs."""
    return Path(os.environ.get("FO_CACHE") or Path.home() / ".cache" / "freeze-omni")


def mark_of(paths: Iterable[Path]) -> str:
    """A short name for the content of some files, such as the code that made what is cached."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex; it may be larger than memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def only_run(folder: str | Path) -> Iterator[None]:
    """Hold a folder for this run.

    Raises:
        FoError: Another run works in it.
        DataError: It cannot be written.
    """
    from filelock import FileLock, Timeout  # imports asyncio: for those who hold a folder only

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise FoError(
            f"another run works in {folder}", do="wait for it, or give another --out"
        ) from None
    except OSError as error:
        raise DataError(f"cannot write in {folder}: {error}", do="name a writable place") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place only when the block ends well.

    Raises:
        DataError: The folder cannot be made or written.
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(_draft(path, path.stem, path.suffix))
        except OSError as error:
            raise DataError(f"cannot write {path}: {error}", do="name a writable place") from error
        try:
            yield temporary
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error}", do="free space there") from error


@contextlib.contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, to be moved there; gone at the end, if it was not.

    Raises:
        OSError: The folder around it cannot be written.
    """
    with _draft(path, path.name) as temporary:
        yield temporary


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` only when the block ends well.

    Raises:
        CheckpointError: ``out`` holds something already, or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} is not empty", do="name a new folder")
    with contextlib.ExitStack() as stack:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(draft_folder(out))
        except OSError as error:
            what = f"cannot write {out}: {error}"
            raise CheckpointError(what, do="name a writable place") from error
        try:
            yield folder
            folder.chmod(0o755)
            if out.exists():
                out.rmdir()
            os.replace(folder, out)
        except OSError as error:
            raise CheckpointError(f"cannot write {out}: {error}", do="free space there") from error


@contextlib.contextmanager
def _draft(path: Path, stem: str, suffix: str | None = None) -> Iterator[Path]:
    """A new hidden file beside ``path``; a folder where there is no suffix.

    It is locked while this process lives, so that what a killed one left is told from what another
    process is writing: the next draft of the same path removes it.
    """
    start, end = f".{stem}.draft-", suffix or ""
    ours = re.compile(rf"{re.escape(start)}\w{{8}}{re.escape(end)}")
    for left in filter(ours.fullmatch, os.listdir(path.parent)):
        dead = _lock(path.parent / left, wait=False)
        if dead is not None:
            with contextlib.suppress(OSError):  # of another user, say
                _remove(path.parent / left)
            os.close(dead)
    while True:
        if suffix is None:
            temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=start))
        else:
            made, name = tempfile.mkstemp(dir=path.parent, prefix=start, suffix=end)
            os.close(made)
            temporary = Path(name)
        handle = _lock(temporary, wait=True)
        if temporary.exists():
            break  # no other process took it for a dead one's before it was locked
    try:
        yield temporary
    finally:
        _remove(temporary)
        if handle is not None:
            os.close(handle)


def _lock(path: Path, wait: bool) -> int | None:
    """A handle that locks a file or folder; None: another has it, or there are no locks here."""
    if fcntl is None:
        return None
    handle = None
    try:
        handle = os.open(path, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return handle
    except OSError:
        if handle is not None:
            os.close(handle)
        return None


def _remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def read_text(path: str | Path) -> str:
    """Read a text file.

    Raises:
        DataError: It cannot be read, or is not text in UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}", do="check the path") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, data: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write one JSON object a line, atomically; how many there were."""
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for count, row in enumerate(rows, 1):  # noqa: B007
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: The file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no file {path}", do="run the step that writes it") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable JSON: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a folder; {} where the file is not there.

    Raises:
        CheckpointError: The file is damaged, or holds something else.
    """
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not JSON: {first_line(error)}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return data


def read_jsonl(path: str | Path, whole: bool = True) -> list[dict[str, Any]]:
    """Read one JSON object a line.

    Args:
        path: The file.
        whole: False skips lines that are not JSON (a journal whose last line was cut by a kill).

    Raises:
        DataError: The file is missing, or a line of it is not a JSON object.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"no file {path}", do="run the step that writes it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if not whole:
                continue
            raise DataError(f"{path} line {number} is not JSON: {error}") from error
        if isinstance(row, dict):
            rows.append(row)
        elif whole:
            raise DataError(f"{path} line {number} is not a JSON object")
    return rows
