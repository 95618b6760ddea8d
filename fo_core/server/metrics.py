"""What the pool does, in Prometheus' text format."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def measure(stats: Any) -> tuple[bytes, str]:
    """A scrape of the pool's statistics.

    Args:
        stats: Numbers, or numbers by label, as the fields of a dataclass.

    Returns:
        The body and its media type.
    """
    from prometheus_client import CollectorRegistry, Gauge, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    registry = CollectorRegistry()
    for field in fields(stats):
        value = getattr(stats, field.name)
        about = field.metadata.get("about", field.name.replace("_", " "))
        name = f"fo_{field.name}"
        if isinstance(value, dict):
            gauge = Gauge(name, about, ["kind"], registry=registry)
            for kind, number in value.items():
                gauge.labels(kind).set(number)
        elif isinstance(value, (int, float)):
            Gauge(name, about, registry=registry).set(value)
    return generate_latest(registry), CONTENT_TYPE_LATEST
