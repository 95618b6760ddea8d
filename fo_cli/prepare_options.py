"""What the commands of ``fo prepare-data`` have in common."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

Limit = Annotated[int, typer.Option("--limit", help="Only the first so many; 0 = all.", min=0)]


class Engine(StrEnum):
    """Where the work runs."""

    local = "local"
    ray = "ray"


def as_yaml(value: Any) -> str:
    """A value as it stands in ``a.b=value``."""
    return json.dumps(value, ensure_ascii=False, default=str)
