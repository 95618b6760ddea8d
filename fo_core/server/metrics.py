"""What the server does, in Prometheus' text format and by its conventions for names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from fo_core.dialogue.sessions.pool import PoolStats

FIRST_AUDIO = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)  # seconds
REPLY = (0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0)


class Metrics:
    """Counters of a server.

    Args:
        stats: Gives the pool's statistics.
        limit: Most sessions at a time.
        ready: Whether another session would be taken.
    """

    def __init__(
        self, stats: Callable[[], PoolStats], limit: int, ready: Callable[[], bool]
    ) -> None:
        self._registry = CollectorRegistry()
        self._stats, self._limit, self._ready = stats, limit, ready
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        about = "From the end of the user's turn to the first audio sent"
        self._first = Histogram(
            "fo_first_audio_seconds", about, buckets=FIRST_AUDIO, registry=self._registry
        )
        about = "From the beginning of a response to its end, as it is sent"
        self._whole = Histogram(
            "fo_response_seconds", about, buckets=REPLY, registry=self._registry
        )
        self._errors = Counter(
            "fo_errors", "Error events sent to clients", ["code"], registry=self._registry
        )
        self._refused = Counter(
            "fo_refused_connections", "Connections refused", ["code"], registry=self._registry
        )

    def refused(self, code: str) -> None:
        """A connection was refused."""
        self._refused.labels(code).inc()

    def saw(self, event: dict[str, Any], seconds: float | None) -> None:
        """An event of the protocol that is sent.

        Args:
            event: As the protocol writes it.
            seconds: Since the ``response.created`` of the same client.
        """
        if event["type"] == "error":
            self._errors.labels(str(event["error"].get("code"))).inc()
        elif event["type"] == "response.done":
            waited = (event["response"].get("metadata") or {}).get("first_audio_ms")
            if waited is not None:
                self._first.observe(float(waited) / 1000)
            if seconds is not None:
                self._whole.observe(seconds)

    def collect(self) -> Iterator[Any]:
        """What the pool says, for the registry."""
        stats = self._stats()
        yield GaugeMetricFamily("fo_ready", "Whether a session is taken", int(self._ready()))
        yield GaugeMetricFamily("fo_sessions", "Sessions that are open", stats.sessions)
        yield GaugeMetricFamily("fo_sessions_limit", "Most sessions at a time", self._limit)
        yield GaugeMetricFamily("fo_sessions_working", "Sessions with work to do", stats.working)
        yield CounterMetricFamily("fo_sessions_opened", "Sessions that were opened", stats.opened)
        about = "Pieces of audio made after all before them had been played"
        yield CounterMetricFamily("fo_underruns", about, stats.underruns)
        for name, label, about, values in (
            ("fo_sessions_closed", "reason", "Sessions that ended", stats.closed),
            ("fo_replies", "status", "Replies", stats.replies),
            ("fo_model_batches", "kind", "Runs of a model for several sessions", stats.batches),
            ("fo_model_steps", "kind", "Steps of sessions in them", stats.steps),
            ("fo_work_seconds", "kind", "Seconds that workers computed", stats.seconds),
            ("fo_speculations", "outcome", "Replies begun in pauses", stats.speculations),
            (
                "fo_speculation_seconds",
                "outcome",
                "Seconds computed for them before their turn was over",
                stats.speculation_seconds,
            ),
            (
                "fo_speculation_discarded_tokens",
                "kind",
                "Tokens made for replies that were dropped",
                stats.discarded_tokens,
            ),
        ):
            family = CounterMetricFamily(name, about, labels=[label])
            for key, value in values.items():
                family.add_metric([key], value)
            yield family
        info = GaugeMetricFamily("fo_build_info", "What runs", labels=["version"])
        info.add_metric([_version()], 1)
        yield info

    def scrape(self) -> tuple[bytes, str]:
        """The body and its media type."""
        return exposition.generate_latest(self._registry), exposition.CONTENT_TYPE_LATEST


def _version() -> str:
    try:
        return version("freeze-omni")
    except PackageNotFoundError:
        return "unknown"
