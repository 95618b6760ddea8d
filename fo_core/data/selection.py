"""Which items of a manifest a task trains on."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from fo_core.data.collate import find_task
from fo_core.data.manifest import Item
from fo_core.errors import DataError

log = logging.getLogger(__name__)
STEPS = {"states": "label-states", "speech_tokens": "encode", "answer": "regenerate"}
WHOLE = 4  # one recording in so many keeps all of its silence: what must not be heard in it


@dataclass(frozen=True)
class Selection:
    """Which items a task can use, and how much of their sound."""

    task: str
    max_seconds: float = 30.0  # longer items are skipped
    tail: float | None = None  # s of sound kept behind the end of speech; None: all

    def __call__(self, items: Sequence[Item]) -> list[Item]:
        """The items that can be used; says how many cannot."""
        task = find_task(self.task)
        needs = task.needs
        if self.tail is not None:
            items = [
                i.trimmed(self.tail) if zlib.crc32(i.id.encode()) % WHOLE else i for i in items
            ]
        usable = [item for item in items if item.duration <= self.max_seconds and task.fits(item)]
        if 0 < len(usable) < len(items):
            long = sum(item.duration > self.max_seconds for item in items)
            lacking = f"{len(items) - len(usable) - long:,} lack {' or '.join(needs) or 'nothing'}"
            what = f"{lacking}, {long:,} are longer than {self.max_seconds:g} s"
            log.warning("%s: %d of %d items are used: %s", self.task, len(usable), len(items), what)
        return usable

    def nothing(self, count: int) -> DataError:
        """That none of so many items can be used."""
        needs = find_task(self.task).needs
        lacking = " and ".join(needs) or "a sound"
        return DataError(
            f"no item of {count} can be used for {self.task!r}: each needs {lacking}"
            f" and at most {self.max_seconds:g} s",
            do=f"run fo prepare-data {' and '.join(STEPS[n] for n in needs if n in STEPS)}"
            if any(n in STEPS for n in needs)
            else "check the manifest",
        )
