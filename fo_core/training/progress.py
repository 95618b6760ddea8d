"""The live line of a run on stderr: step, loss, metric, learning rate, speed and time to go."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class LiveLine:
    """A rich progress bar; on a stderr that is no terminal, a plain line now and then.

    Args:
        name: Stage name, shown first.
        steps: All steps of the run.
        done: Steps done before (a resumed run).
        show: False shows nothing.
    """

    every = 30.0  # seconds between two plain lines

    def __init__(self, name: str, steps: int, done: int = 0, show: bool = True) -> None:
        self.name, self.steps, self.show = name, steps, show
        self._console = Console(file=sys.stderr)
        self._started, self._first, self._printed = time.monotonic(), done, 0.0
        self._bar: Progress | None = None
        if show and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
            )
            self._task = self._bar.add_task(name, total=steps, completed=done, note="")

    def __enter__(self) -> LiveLine:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, row: dict[str, float], metrics: dict[str, float]) -> None:
        """Show a step (from 1), the newest averages and the newest held-out values."""
        if not self.show:
            return
        note = "  ".join([*_said(row), *(f"{k} {v:.4g}" for k, v in metrics.items())])
        if self._bar is not None:
            self._bar.update(self._task, completed=step, note=note)
            return
        now = time.monotonic()
        if now - self._printed >= self.every or step == self.steps:
            self._printed = now
            left = (now - self._started) / max(1, step - self._first) * (self.steps - step)
            self._console.print(
                f"{self.name} {step}/{self.steps}  {note}  ETA {_clock(left)}",
                highlight=False,
                soft_wrap=True,
            )


_FORMS = {
    "loss": "loss {:.4g}",
    "accuracy": "accuracy {:.3f}",
    "lr": "lr {:.2g}",
    "audio_s_per_s": "{:.0f} audio-s/s",
    "padding": "padding {:.1%}",
    "data_share": "data {:.0%}",
    "memory_gb": "{:.1f} GiB",
}


def _said(row: dict[str, float]) -> list[str]:
    """The averages that people look at, first of all objectives together or each by its name."""
    return [
        (f"{key.rpartition('.')[0]} " if "." in key else "") + _FORMS[key.split(".")[-1]].format(v)
        for key, v in row.items()
        if key.split(".")[-1] in _FORMS
    ]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
