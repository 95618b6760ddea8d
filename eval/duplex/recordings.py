"""Full-Duplex-Bench folders, `TASK/ID/input.wav` with annotations, and manifests of states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.harness import Row
from fo_core.data.manifest import Item
from fo_core.errors import AudioError, DataError
from fo_core.io import audio
from fo_core.io.files import read_json

ANNOTATIONS = {  # what a task's folder holds beside the sound; None: nothing is needed
    "pause_handling": None,
    "backchannel": None,
    "smooth_turn_taking": "turn_taking.json",
    "user_interruption": "interrupt.json",
}
ALIASES = {"turn_taking": "smooth_turn_taking", "interruption": "user_interruption"}
TALK, STATES = "talk", "states"  # kinds of rows


def task_of(name: str) -> str | None:
    """The task that a folder's name says: the bench's folders also name a corpus before it."""
    plain = name.lower().replace("-", "_")
    for task in [*ANNOTATIONS, *ALIASES]:
        if task in plain:
            return ALIASES.get(task, task)
    return None


def read_bench(folder: Path) -> tuple[list[Row], dict[str, str]]:
    """Rows to talk through, and why others are skipped.

    Args:
        folder: Holds folders of tasks, or is one itself.

    Raises:
        DataError: There is no task in it.
    """
    tasks = [folder] if task_of(folder.name) else sorted(p for p in folder.iterdir() if p.is_dir())
    rows: list[Row] = []
    left: dict[str, str] = {}
    known = [(path, task) for path in tasks if (task := task_of(path.name))]
    if not known:
        raise DataError(
            f"{folder} holds no task of Full-Duplex-Bench",
            possible=f"folders named {', '.join(ANNOTATIONS)}, each with ID/input.wav",
        )
    for path, task in known:
        for one in sorted(p for p in path.iterdir() if p.is_dir()):
            name = f"{path.name}/{one.name}"
            try:
                rows.append(_row(name, task, one))
            except (DataError, AudioError) as error:
                left[name] = str(error)
    return rows, left


def _row(name: str, task: str, folder: Path) -> Row:
    sound = folder / "input.wav"
    if not sound.is_file():
        raise DataError(f"no {sound}")
    samples, rate, _ = audio.info(sound)
    row: Row = {"id": name, "kind": TALK, "task": task, "input_audio": str(sound)}
    row["seconds"] = round(samples / rate, 3)
    if (folder / "output.wav").is_file():
        row["given_wav"] = str((folder / "output.wav").absolute())
    annotation = ANNOTATIONS[task]
    if annotation is not None:
        start, end = _span(folder / annotation)
        row |= {"start": start, "end": end}
    return row


def _span(path: Path) -> tuple[float, float]:
    """The first time span of an annotation, s."""
    if not path.is_file():
        raise DataError(f"no {path}")
    data = read_json(path)
    try:
        start, end = (float(value) for value in data[0]["timestamp"])
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f'{path} is no list of {{"timestamp": [start, end]}}') from error
    if not 0 <= start <= end:
        raise DataError(f"{path}: the span {start} to {end} s is none")
    return start, end


def read_states(items: Sequence[Item]) -> tuple[list[Row], dict[str, str]]:
    """Rows whose chunks have state labels."""
    rows: list[Row] = []
    left: dict[str, str] = {}
    for item in items:
        if not any(state >= 0 for state in item.states):
            left[item.id] = "no state labels"
            continue
        row: dict[str, Any] = {"id": item.id, "kind": STATES, "audio": item.audio}
        row |= {"start": item.start, "seconds": item.duration, "channel": item.channel}
        row["labels"] = list(item.states)
        if 1 in item.states and item.speech_end:
            row["speech_end"] = item.speech_end
        rows.append(row)
    return rows, left
