"""Folders of LLMs in the cache: written whole or not at all, by one process."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fo_core.errors import CheckpointError
from fo_core.io.files import draft_folder


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path | None]:
    """A temporary folder that becomes ``target``; None where another process was quicker.

    Raises:
        CheckpointError: The cache cannot be written.
    """
    from filelock import FileLock  # imports asyncio: not for those who find their LLM there

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{target}.lock")
        lock.acquire()
    except OSError as error:
        raise CheckpointError(
            f"cannot write the cache {target.parent}: {error}", do="set FO_CACHE to a writable one"
        ) from error
    try:
        if (target / "config.json").is_file():
            yield None
            return
        with draft_folder(target) as folder:
            yield folder
            folder.chmod(0o755)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(folder, target)
    finally:
        lock.release()
