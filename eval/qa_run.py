"""Spoken question answering of a model folder, with a judge by its name."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.judges import JudgeSpec
from eval.qa import Progress, evaluate, questions
from eval.report.provenance import fingerprint
from eval.systems.probe import ModelProbe
from fo_core.data.manifest import Item


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
    spec = JudgeSpec(judge)
    return evaluate(
        questions(user, assistant),
        functools.partial(ModelProbe, folder),
        spec.open,
        out_dir,
        f"{fingerprint(folder)} {json.dumps(spec.key(), sort_keys=True)}",
        workers,
        progress,
    )
