"""Full-Duplex-Bench v1 and v1.5: recordings that a live model listens to, with what happens when.

Folders ``TASK/ID/input.wav`` (a corpus's name may stand before the task, and a folder of a version
around it). v1 annotates in ``turn_taking.json`` or ``interrupt.json``, a list of
``{"timestamp": [start, end]}``; v1.5 in ``metadata.json``, ``{"context_text",
"current_turn_text", "timestamps": [start, end]}``, with ``clean_input.wav``, the same talk without
what comes in between, beside it. Times are s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fo_core.errors import AudioError, DataError
from fo_core.io.files import read_json

Row = dict[str, Any]

KIND = "duplex"
TITLE = "Full-Duplex-Bench"
LANGUAGE = "en"
PATTERNS = ("input.wav",)
METADATA = "metadata.json"  # of v1.5
ANNOTATIONS = {  # task -> the file of v1 that is needed beside the sound; None: nothing is needed
    "pause_handling": None,
    "user_backchannel": METADATA,
    "backchannel": None,
    "smooth_turn_taking": "turn_taking.json",
    "user_interruption": "interrupt.json",
    "talking_to_other": METADATA,
    "background_speech": METADATA,
}
ALIASES = {"turn_taking": "smooth_turn_taking", "interruption": "user_interruption"}


def task_of(name: str) -> str | None:
    """The task that a folder's name says: the bench's folders also name a corpus before it."""
    plain = name.lower().replace("-", "_")
    for task in [*ANNOTATIONS, *ALIASES]:
        if task in plain:
            return ALIASES.get(task, task)
    return None


def read(folder: Path) -> tuple[list[Row], dict[str, str]]:
    """Rows to talk through, and why others are left out.

    Args:
        folder: Holds folders of tasks (or of versions with these), or is one itself.

    Raises:
        DataError: There is no task in it.
    """
    rows: list[Row] = []
    left: dict[str, str] = {}
    known = _tasks(folder)
    if not known:
        raise DataError(
            f"{folder} holds no task of Full-Duplex-Bench",
            possible=f"folders named {', '.join(ANNOTATIONS)}, each with ID/input.wav",
        )
    for path, task in known:
        for one in sorted(p for p in path.iterdir() if p.is_dir()):
            name = f"{path.name}/{one.name}"
            if name in left or any(row["id"] == name for row in rows):
                name = f"{path.parent.name}/{name}"  # both versions have user_interruption
            try:
                rows.append(_row(name, task, one))
            except (DataError, AudioError) as error:
                left[name] = str(error)
    return rows, left


def _tasks(folder: Path) -> list[tuple[Path, str]]:
    own = task_of(folder.name)
    if own:
        return [(folder, own)]
    found: list[tuple[Path, str]] = []
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        task = task_of(path.name)
        if task:
            found.append((path, task))
        elif not (path / "input.wav").is_file():
            found += [
                (p, t) for p in sorted(path.iterdir()) if p.is_dir() and (t := task_of(p.name))
            ]
    return found


def _row(name: str, task: str, folder: Path) -> Row:
    from eval.duplex.recordings import TALK
    from fo_core.io import audio

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
        if not (folder / annotation).is_file() and (folder / METADATA).is_file():
            annotation = METADATA
        start, end = _span(folder / annotation)
        row |= {"start": start, "end": end}
    return row


def _span(path: Path) -> tuple[float, float]:
    """The first time span of an annotation, s."""
    if not path.is_file():
        raise DataError(f"no {path}")
    data: Any = read_json(path)
    v15 = path.name == METADATA
    try:
        start, end = (float(v) for v in (data["timestamps"] if v15 else data[0]["timestamp"]))
    except (LookupError, TypeError, ValueError) as error:
        form = '{"timestamps": [start, end]}' if v15 else 'a list of {"timestamp": [start, end]}'
        raise DataError(f"{path} is not {form}") from error
    if not 0 <= start <= end:
        raise DataError(f"{path}: the span {start} to {end} s is none")
    return start, end
