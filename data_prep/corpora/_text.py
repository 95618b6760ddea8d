"""Text files of corpora, line by line, whatever is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_prep.sources.containers import bounded_lines


def text_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """(number, line, "") of every line that is not blank; (number, "", why) of what is no text."""
    try:
        with path.open("rb") as file:
            for number, (data, fault) in enumerate(bounded_lines(file), 1):
                try:
                    line = data.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError as error:
                    yield number, "", f"not UTF-8 text: {error.reason} at byte {error.start}"
                    continue
                if fault or line:
                    yield number, line, fault
    except OSError as error:
        yield 0, "", f"{path} cannot be read: {error.strerror or error}"


def json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    """(line, row, "") of a file with a JSON object a line; (line, {}, why) of what is none."""
    for number, line, fault in text_lines(path):
        row: Any = {}
        if not fault:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                fault = f"not JSON: {error}"
        if not fault and not isinstance(row, dict):
            fault = "not a JSON object"
        yield number, row if not fault else {}, fault
