"""Own recordings of what is said beside questions: back-channels, asides, noises, other voices.

Synthetic voices say "mm hmm" as no person does, so a few hundred real ones are worth having. Each
kind is a manifest (``fo prepare-data import`` makes one of a folder of sounds).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.held_out import split_of
from data_prep.runner.cuts import cuts_of
from data_prep.runner.run import Row
from fo_core.data import manifest
from fo_core.data.manifest import Item
from fo_core.errors import DataError
from fo_core.registry import did_you_mean

KINDS = ("backchannel", "aside", "noise", "background")


@dataclass(frozen=True)
class OwnRecordings:
    """Recordings by kind and split; :func:`read` makes it.

    Attributes:
        held: (kind, split) -> recordings; split "" is used with every split.
    """

    held: Mapping[tuple[str, str], tuple[Item, ...]]

    def pick(self, kind: str, turn: Item, split: str, draw: np.random.Generator) -> Item | None:
        """A recording to go with a turn of a split, as :func:`fitting`; None if there is none."""
        found = [*self.held.get((kind, ""), ())]
        found += self.held.get((kind, split), ()) if split else ()
        found = fitting(kind, turn.speaker, found)
        return found[int(draw.integers(len(found)))] if found else None


def fitting(kind: str, speaker: str, items: Sequence[Item]) -> list[Item]:
    """Those of a kind's recordings that go with what a speaker says.

    The speaker's own where there are any; of a voice in the background always somebody else's.
    """
    same = [item for item in items if item.speaker and item.speaker == speaker]
    if kind == "background":
        return [item for item in items if not speaker or item.speaker != speaker]
    return same or list(items)


def read(recorded: Mapping[str, Sequence[str]]) -> OwnRecordings:
    """The recordings of kind -> manifests.

    Raises:
        DataError: An unknown kind, or a manifest is missing, broken or empty.
    """
    held: dict[tuple[str, str], list[Item]] = {}
    for kind, paths in recorded.items():
        if kind not in KINDS:
            raise DataError(f"label_states.recorded has no kind {kind!r}",
                            possible=did_you_mean(kind, list(KINDS)))  # fmt: skip
        for path in paths:
            if not Path(path).exists():
                raise DataError(f"label_states.recorded.{kind}: there is no {path}",
                                do="fo prepare-data import folder DIR --out DIR")  # fmt: skip
            before = sum(map(len, held.values()))
            for row in cuts_of(path):
                if isinstance(row, str):
                    raise DataError(f"{path}: {row}")
                held.setdefault((kind, split_of(row)), []).append(manifest.from_cut(row))
            if sum(map(len, held.values())) == before:
                raise DataError(f"label_states.recorded.{kind}: {path} is empty")
    return OwnRecordings({key: tuple(items) for key, items in held.items()})


def exchanges(rows: Iterator[Row | str], most: int = 256) -> dict[str, list[tuple[str, str]]]:
    """Questions with their answers, of each split: what others said before.

    Args:
        rows: Cuts of users.
        most: Of a split.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        custom = row.get("custom") if isinstance(row, dict) else None
        answer = custom.get("answer") if isinstance(custom, dict) else None
        if not isinstance(row, dict) or not isinstance(answer, str) or not answer:
            continue
        text = " ".join(str(s.get("text") or "") for s in row.get("supervisions") or ())
        pairs = found.setdefault(split_of(row), [])
        if text.strip() and len(pairs) < most:
            pairs.append((text, answer))
    return found
