"""What a manifest of dialogue states holds, for the report of ``label-states``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from data_prep.runner.run import Row, rows_of


def state_shares(path: Path, asked: Mapping[str, float]) -> Row:
    """What the manifest holds, for the report; how each class was built stands beside it."""
    kinds: Counter[str] = Counter()
    states: Counter[int] = Counter()
    inner: Counter[str] = Counter()
    for row in rows_of(path):
        assert isinstance(row, dict)
        custom = row["custom"]
        kinds[custom["kind"]] += 1
        states.update(custom["states"])
        inner["pauses"] += bool(custom.get("pauses"))
        inner["hesitations"] += "hesitation" in custom
        inner["own_recordings"] += "recorded" in custom
        inner["voice_behind"] += "behind" in custom
    total = max(1, sum(states.values()))
    return {
        "recordings": dict(kinds.most_common()),
        "with": dict(inner),
        "chunks": total,
        "state_share": {str(s): round(states[s] / total, 4) for s in sorted(states)},
        "asked_for_a_turn": dict(asked),
        "built": {
            "0": "before and while the user speaks; inner pauses at dips of the energy; "
            "hesitations with a spoken filler; turns cut off at a dip, to the end",
            "1": "behind the end of a whole turn",
            "2": "behind back-channels, asides and noises; while a voice in the background speaks",
        },
    }
