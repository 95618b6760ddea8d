"""What commands say: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import typer


def result(text: str) -> None:
    """One result for the user or the next program."""
    typer.echo(text)


def as_json(data: Any) -> None:
    """One JSON document for machines; paths become text, NaN is refused."""
    plain = not (sys.stdout.encoding or "").lower().startswith("utf")
    typer.echo(json.dumps(data, indent=2, ensure_ascii=plain, allow_nan=False, default=str))


def note(text: str) -> None:
    """Progress and remarks."""
    typer.echo(text, err=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A result as a plain aligned table; nothing is cut, whatever the terminal's width."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (str(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def is_terminal() -> bool:
    """Whether someone watches stderr."""
    return sys.stderr.isatty()
