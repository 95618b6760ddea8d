"""Rows through a pure function in parallel, results in the order of the rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from data_prep.runner.backends import Backend, WorkerDied, open_backend
from data_prep.runner.run import RunConfig

Row = TypeVar("Row")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Any, Sequence[Row]], Sequence[Result]],
    work: Any,
    rows: Iterable[Row],
    how: RunConfig,
    died: Callable[[Row], Result],
    batch: int = 16,
) -> Iterator[Result]:
    """Results of all rows, one each, in order; only what is in flight is held.

    Args:
        function: Module-level; ``function(work, rows) -> results``; must not raise.
        work: Sent to every process once.
        rows: In order.
        how: Processes and engine.
        died: The result of a row that kills the process that has it.
        batch: Rows that go to a process at once.
    """
    rows = iter(rows)
    blocks = enumerate(iter(lambda: list(itertools.islice(rows, batch)), []))
    backend = open_backend(how.engine, function, work, how.workers)
    flying: dict[Any, tuple[int, list[Row]]] = {}
    done: dict[int, Sequence[Result]] = {}
    try:
        for turn in itertools.count():
            while turn not in done:
                for number, block in itertools.islice(blocks, backend.slots - len(flying)):
                    flying[backend.submit(block)] = (number, block)
                if not flying:
                    return
                for handle in backend.wait(list(flying)):
                    try:
                        done[flying[handle][0]] = backend.result(handle)
                        del flying[handle]
                    except WorkerDied:
                        done |= _one_by_one(backend, list(flying.values()), died)
                        flying.clear()
                        break
            yield from done.pop(turn)
    finally:
        backend.close()


def _one_by_one(
    backend: Backend, blocks: Sequence[tuple[int, list[Row]]], died: Callable[[Row], Result]
) -> dict[int, Sequence[Result]]:
    """A worker died: every row that was in flight alone; one that kills again is the culprit."""
    backend.renew()
    done: dict[int, Sequence[Result]] = {}
    for number, block in blocks:
        results: list[Result] = []
        for row in block:
            handle = backend.submit([row])
            try:
                results += backend.result(backend.wait([handle])[0])
            except WorkerDied:
                results.append(died(row))
                backend.renew()
        done[number] = results
    return done
