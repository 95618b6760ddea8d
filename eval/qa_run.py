"""Spoken question answering of a model folder, with a judge by its name."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.probe import ModelProbe
from eval.qa import Judge, Progress, evaluate, questions
from fo_core.data.manifest import Item


def open_judge(name: str = "faster-whisper") -> Judge:
    """Open a recogniser by its name.

    Raises:
        EngineError: There is none of this name, or it cannot work here.
    """
    from fo_core.engines.asr import ASR

    return ASR.load(name).Engine()


def fingerprint(folder: str | Path) -> str:
    """SHA-256 over the files that make a model folder what it is."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        if path.suffix in (".json", ".safetensors"):
            digest.update(path.name.encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"sha256:{digest.hexdigest()}"


def evaluate_folder(
    folder: str | Path,
    user: Sequence[Item],
    assistant: Sequence[Item],
    out_dir: str | Path,
    judge: str = "faster-whisper",
    workers: int = 1,
    progress: Progress = lambda what, done, of: None,
) -> dict[str, Any]:
    """Measure a model folder on a held-out set; see :func:`eval.qa.evaluate`.

    Args:
        folder: The model.
        user: The set's spoken items, with answers, right answers and states where they have some.
        assistant: The answer voice speaking the answers.
        out_dir: Gets the results.
        judge: Name of the recogniser.
        workers: Processes side by side.
        progress: Called with ("questions", done, all).
    """
    return evaluate(
        questions(user, assistant),
        functools.partial(ModelProbe, folder),
        functools.partial(open_judge, judge),
        out_dir,
        f"{fingerprint(folder)} {judge}",
        workers,
        progress,
    )
