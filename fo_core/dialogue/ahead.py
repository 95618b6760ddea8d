"""Run an iterator in a thread, a few items ahead of its consumer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Iterates over ``items`` in a thread of its own; the order and the items stay the same.

    The thread ends when the items do, when one of them fails (the error is raised here), or when
    :meth:`close` is called; what it was computing then is finished first.

    Args:
        items: Used by the thread alone from now on.
        limit: Items that may wait to be taken.
    """

    def __init__(self, items: Iterator[T], limit: int = 8) -> None:
        self._items = items
        self._ready: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(limit)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ahead", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            for item in self._items:
                if not self._put("item", item):
                    return
            self._put("end", None)
        except BaseException as error:  # handed to the consumer, whatever it is
            self._put("error", error)

    def _put(self, kind: str, value: T | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._ready.put((kind, value), timeout=0.05)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[T]:
        try:
            while True:
                kind, value = self._ready.get()
                if kind == "end":
                    return
                if kind == "error":
                    assert isinstance(value, BaseException)
                    raise value
                yield value  # type: ignore[misc]
        finally:
            self.close()

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._stop.set()
        self._thread.join()
