"""What the server logs: one event a line, as text or as JSON, with ids that belong together.

Nothing that is said, typed or heard, no key and no address of a client is ever logged.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from fo_core.server.messages import new_id

LOG = logging.getLogger("fo.server")
Format = Literal["text", "json"]
GIVEN = re.compile(r"[\w.:-]{1,64}")


def request_id(given: str | None) -> str:
    """The id of a request: the client's or proxy's own (``X-Request-ID``), or else a new one."""
    return given if given and GIVEN.fullmatch(given) else new_id("req")


def say(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event with its fields."""
    LOG.log(level, event, extra={"fields": fields})


class _Line(logging.Formatter):
    def __init__(self, kind: Format) -> None:
        super().__init__()
        self._json = kind == "json"

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = getattr(record, "fields", {})
        if record.exc_info:
            fields = fields | {"error": self.formatException(record.exc_info)}
        if self._json:
            first = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
            return json.dumps(first | {"logger": record.name} | fields, default=str)
        told = " ".join(f"{name}={value}" for name, value in fields.items())
        return f"{time} {record.levelname:7} {record.getMessage()} {told}".rstrip()


def setup(kind: Format, level: str, stream: TextIO | None = None) -> None:
    """Send what the server and its web server log to a stream (stderr), one event a line."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Line(kind))
    for name, least in (("fo", level), ("uvicorn", "warning"), ("fo_core", "warning")):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(least.upper())
