"""Progress of long work on stderr: rich's bars on a terminal, tqdm's in notebooks and logs."""

from __future__ import annotations

import sys
from typing import Any

EVERY = 15.0  # seconds between two plain lines of a step
PLAIN = "{desc} {n:,}/{total:,} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class Bars:
    """Call it with (step, done, total); use it as a context, so that the terminal is put back.

    Args:
        show: False shows nothing.
    """

    def __init__(self, show: bool = True) -> None:
        self._show = show
        self._rich: Any = None
        self._bars: dict[str, Any] = {}  # of tqdm, or ids of rich's tasks

    def __enter__(self) -> Bars:
        if self._show and sys.stderr.isatty():
            self._rich = _rich()
            self._rich.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._rich is not None:
            self._rich.stop()
            return
        for bar in self._bars.values():
            bar.close()

    def __call__(self, step: str, done: int, total: int, note: str = "") -> None:
        if self._rich is not None:
            if step not in self._bars:
                self._bars[step] = self._rich.add_task(step, total=total, completed=done, note="")
            self._rich.update(self._bars[step], completed=done, total=total, note=note)
        elif self._show:
            if step not in self._bars or (self._bars[step].disable and done < total):
                self._bars[step] = _tqdm(step, done, total)
            bar = self._bars[step]
            bar.total = total
            bar.set_postfix_str(note, refresh=False)
            bar.update(done - bar.n)
            if done >= total:
                bar.close()


def _rich() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.3g}/s" if task.speed else "")

    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(file=sys.stderr),
    )


class _Lines:
    """Where tqdm writes when nobody watches: every state of its bar is a line of the log."""

    last = ""

    def write(self, text: str) -> None:
        if (said := text.strip()) and said != self.last:
            self.last = said
            sys.stderr.write(f"{said}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def _tqdm(step: str, done: int, total: int) -> Any:
    how: dict[str, Any] = {"desc": step, "total": total, "initial": done, "smoothing": 0}
    if "ipykernel" in sys.modules:
        from tqdm.auto import tqdm

        return tqdm(**how)
    from tqdm import tqdm as plain

    plain.monitor_interval = 0  # its thread would be there when workers are forked
    how |= {"mininterval": EVERY, "miniters": 1, "bar_format": PLAIN, "position": 0}
    return plain(**how, file=_Lines())
