"""Progress of long steps on stderr: bars with rate and time to go, or a plain line now and then."""

from __future__ import annotations

import sys
import time
from typing import Any

from fo_cli import render

EVERY = 15.0  # seconds between two plain lines of a step


class Bars:
    """Call it with (step, done, total); use it as a context, so that the terminal is put back."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._said: dict[str, float] = {}
        self._begun: dict[str, tuple[float, int]] = {}  # step -> when, and what was done then

    def __enter__(self) -> Bars:
        if render.is_terminal():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            columns = (
                "[bold]{task.description}",
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self._bars = Progress(*columns, console=Console(file=sys.stderr))
            self._bars.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, step: str, done: int, total: int) -> None:
        if self._bars is not None:
            if step not in self._tasks:
                self._tasks[step] = self._bars.add_task(step, total=total, rate="")
            rate = f"{self._rate(step, done):.3g}/s"
            self._bars.update(self._tasks[step], completed=done, total=total, rate=rate)
            return
        now = time.monotonic()
        if done >= total or now - self._said.get(step, 0.0) >= EVERY:
            self._said[step] = now
            render.note(f"{step} {done:,}/{total:,}{self._to_go(step, done, total)}")

    def _rate(self, step: str, done: int) -> float:
        """Items a second since the step was first heard of; 0 = not known yet."""
        now = time.monotonic()
        begun, before = self._begun.setdefault(step, (now, done))
        return (done - before) / (now - begun) if done > before and now > begun else 0.0

    def _to_go(self, step: str, done: int, total: int) -> str:
        rate = self._rate(step, done)
        if not rate:
            return ""
        left = f", {(total - done) / rate:,.0f} s to go" if done < total else ""
        return f", {rate:.3g}/s{left}"
