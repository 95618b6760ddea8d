"""Progress of long steps on stderr: bars with time to go, or a plain line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from fo_cli import render

EVERY = 15.0  # seconds between two plain lines of a step


class Bars:
    """Call it with (step, done, total); use it as a context, so that the terminal is put back."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._said: dict[str, float] = {}

    def __enter__(self) -> Bars:
        if render.is_terminal():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

            columns = (
                "[bold]{task.description}",
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bars = Progress(*columns, console=Console(file=sys.stderr))
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, step: str, done: int, total: int) -> None:
        if self._bars is not None:
            if step not in self._tasks:
                self._tasks[step] = self._bars.add_task(step, total=total)
            self._bars.update(self._tasks[step], completed=done, total=total)
            return
        now = time.monotonic()
        if done >= total or now - self._said.get(step, 0.0) >= EVERY:
            self._said[step] = now
            render.note(f"{step} {done:,}/{total:,}")
