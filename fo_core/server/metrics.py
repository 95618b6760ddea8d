"""What the pool does, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fo_core.dialogue.pool import PoolStats


class _Scrape:
    """One look at the statistics, for the package's registry."""

    def __init__(self, stats: PoolStats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Any]:
        """The metrics."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        stats = self._stats
        yield GaugeMetricFamily("fo_sessions", "Sessions that are open", stats.sessions)
        yield GaugeMetricFamily("fo_working", "Sessions with work to do", stats.working)
        yield CounterMetricFamily("fo_opened", "Sessions that were opened", stats.opened)
        for name, label, about, values in (
            ("fo_closed", "reason", "Sessions that ended", stats.closed),
            ("fo_replies", "status", "Replies", stats.replies),
            ("fo_batches", "kind", "Model steps that ran", stats.batches),
            ("fo_steps", "kind", "Steps of users in them", stats.steps),
            ("fo_work_seconds", "kind", "Seconds of work", stats.seconds),
        ):
            family = CounterMetricFamily(name, about, labels=[label])
            for key, value in values.items():
                family.add_metric([key], value)
            yield family


def measure(stats: PoolStats) -> tuple[bytes, str]:
    """A scrape of the pool's statistics: the body and its media type."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(stats))
    return generate_latest(registry), CONTENT_TYPE_LATEST
