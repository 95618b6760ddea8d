"""Manifests of dialogue states; the recordings to talk through are a set of ``eval/sets``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.harness import Row
    from fo_core.data.manifest import Item

TALK, STATES = "talk", "states"  # kinds of rows


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
        row |= {"said": item.kind} if item.kind else {}
        if 1 in item.states and item.speech_end:
            row["speech_end"] = item.speech_end
        rows.append(row)
    return rows, left
