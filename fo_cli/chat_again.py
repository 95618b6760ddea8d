"""More questions in one talk (``--again``): read from the standard input until it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from fo_cli import render
from fo_core.errors import FoError


def questions(first: str, again: bool) -> Iterator[str]:
    """The first question and, with ``again``, every line of stdin that is not empty."""
    yield first
    while again:
        if sys.stdin.isatty():
            sys.stderr.write("next question (Ctrl-D ends): ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def answer_all(first: str, again: bool, answer: Callable[[int, str], None]) -> None:
    """Call ``answer`` with the number and the text of each question.

    What is wrong with a question ends the command only where there are no others.
    """
    for number, question in enumerate(questions(first, again)):
        try:
            answer(number, question)
        except (FoError, OSError) as error:
            if not again:
                raise
            render.note(f"error: {' '.join(str(error).split())}")


def numbered(out: Path, number: int) -> Path:
    """Where the reply to a question goes: reply.wav, reply-2.wav, ..."""
    return out if not number else out.with_stem(f"{out.stem}-{number + 1}")
