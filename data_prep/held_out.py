"""What is held out: groups of rows (a dialogue, a text, a speaker) that stay on one side."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from data_prep.runner.run import Row, rows_of
from fo_core.io.files import replacing

RESERVED = ("manifest", "rejects", "journal")  # files of a step's folder


def dialogue_of(row: Row) -> str:
    """The dialogue of a cut; its text, where it has none: no text is to be on both sides."""
    custom = row.get("custom")
    dialogue = custom.get("dialogue") if isinstance(custom, dict) else ""
    return str(dialogue) if dialogue else f"text {text_of(row)}"


def text_of(row: Row) -> str:
    """Letters and digits of what a cut says, in lower case."""
    said = "".join(str(each.get("text") or "") for each in _supervisions(row))
    return "".join(char for char in said.casefold() if char.isalnum())


def speaker_of(row: Row) -> str:
    """Who speaks in a cut; "" if it does not say."""
    names = [str(each.get("speaker") or "") for each in _supervisions(row)]
    return names[0] if names else ""


def _supervisions(row: Row) -> list[Row]:
    said = row.get("supervisions")
    return [each for each in said if isinstance(each, dict)] if isinstance(said, list) else []


def split_of(row: Row) -> str:
    """The split that a cut names, as a file can be named; "" if it names none."""
    custom = row.get("custom")
    named = str(custom.get("split") or "") if isinstance(custom, dict) else ""
    name = re.sub(r"[^\w.-]+", "_", named).strip("._")
    return f"{name}_" if name in RESERVED else name


def ordered(groups: Iterable[str], seed: int) -> list[str]:
    """Groups in an order that depends on their names and the seed only."""
    return sorted(groups, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())


def held_out(rows: Iterable[Row], share: float, seed: int) -> set[str]:
    """Dialogues for validation: at least one of three, if any share is wanted.

    Rows that name a split themselves are left as they are.
    """
    groups = {dialogue_of(row) for row in rows if not split_of(row)}
    wanted = max(round(share * len(groups)), 1) if share > 0 and len(groups) > 2 else 0
    return set(ordered(groups, seed)[:wanted])


def write_splits(
    folder: Path, held: set[str], keep: Callable[[Row], bool] = lambda row: True
) -> dict[str, int]:
    """Write train.jsonl, val.jsonl and other splits that rows name, beside a manifest.

    Args:
        folder: Where manifest.jsonl is.
        held: Dialogues of val (:func:`held_out`).
        keep: Which rows.

    Returns:
        Split -> its rows.
    """
    counts: Counter[str] = Counter(train=0, val=0)
    files: dict[str, IO[str]] = {}
    with ExitStack() as stack:

        def opened(name: str) -> IO[str]:
            path = stack.enter_context(replacing(folder / f"{name}.jsonl"))
            return stack.enter_context(path.open("w", encoding="utf-8"))

        for name in counts:
            files[name] = opened(name)
        for row in rows_of(folder / "manifest.jsonl"):
            if not isinstance(row, dict) or not keep(row):
                continue
            name = split_of(row) or ("val" if dialogue_of(row) in held else "train")
            if name not in files:
                files[name] = opened(name)
            files[name].write(json.dumps(row, ensure_ascii=False) + "\n")
            counts[name] += 1
    return dict(counts)
