"""A dict of bounded size."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(dict[K, V]):
    """Keeps the entries that were added last.

    Args:
        limit: Entries at most; to set one that is there already does not make it newer.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        for old in list(self)[: -self.limit]:
            self.pop(old, None)  # another thread may have been quicker
