"""Results of evaluations as lines of a model's card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.report.provenance import fingerprint
from fo_core.errors import DataError
from fo_core.io.files import read_json


def measured(model: Path, results: Sequence[Path]) -> list[str]:
    """A Markdown section with every score of these results folders.

    Args:
        model: The model folder they are of.
        results: Folders that ``fo eval`` wrote.

    Raises:
        DataError: A folder holds no results, or those of another model.
    """
    own = fingerprint(model)
    lines = ["## Measured", "", "By `fo eval`; with 95 % intervals of a bootstrap over the items."]
    for folder in results:
        path = folder / "overview.json"
        if not path.is_file():
            raise DataError(f"{folder} holds no results", do="run fo eval with --out there")
        found = read_json(path)
        about = found.get("about", {})
        if about.get("model", {}).get("fingerprint") != own:
            raise DataError(
                f"{folder} holds results of another model than {model}",
                do="evaluate this one: fo eval ... --model",
            )
        lines += ["", *_table(found, about)]
    return lines


def _table(found: dict[str, Any], about: dict[str, Any]) -> list[str]:
    judge = about.get("judge")
    heard = f", judge {judge['judge']} {judge['model']}" if judge else ""
    part = "" if found["complete"] else f" of {found['asked']}"
    return [
        f"| {found['evaluation']}, {found['items']}{part} items{heard} | value | 95 % | items |",
        "|---|---:|---:|---:|",
        *(
            f"| {name} | {_number(row['value'])} | {_number(row['low'])} to {_number(row['high'])}"
            f" | {row['items']:,} |"
            for name, row in found["metrics"].items()
        ),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
