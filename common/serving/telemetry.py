"""What the server counts about itself, in Prometheus' words, in a registry of its own.

Labels take few values: routes as templates, methods and statuses of HTTP, models by the
names that the server opened. No key, session, trace id or digest is ever a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

__all__ = ["MEDIA_TYPE", "CacheCounts", "Telemetry"]

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class CacheCounts(Protocol):
    """A cache that says how often it had the answer."""

    @property
    def hits(self) -> int:
        """Lookups that found a result."""
        ...

    @property
    def misses(self) -> int:
        """Lookups that found none."""
        ...


class Telemetry:
    """Counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._requests = Counter(
            "tandem_requests",
            "Requests answered, HTTP and gRPC.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "tandem_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._answers = Counter(
            "tandem_model_answers",
            "Answers by model, and whether they came from the cache.",
            ("model", "cached"),
            registry=self.registry,
        )
        self._gauge("tandem_up", "1 while the server runs.").set(1)
        ProcessCollector(registry=self.registry)

    def count_request(self, method: str, route: str, status: int | str, seconds: float) -> None:
        """Counts one request.

        Args:
            method: HTTP method, or "gRPC".
            route: Template of the path ("/v1/sessions/{session_id}") or name of the gRPC
                method; "" where none matched.
            status: HTTP status, or the gRPC status code's name.
            seconds: Time that it took.
        """
        known = method if method in _METHODS or method == "gRPC" else "other"
        self._requests.labels(known, route or "none", str(status)).inc()
        self._seconds.labels(route or "none").observe(seconds)

    def count_answer(self, model: str, *, cached: bool) -> None:
        """Counts one answer of a model that the server opened."""
        self._answers.labels(model, "yes" if cached else "no").inc()

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Shows `value()` as the gauge `tandem_<name>` whenever metrics are asked for."""
        self._gauge(f"tandem_{name}", description).set_function(value)

    def watch_cache(self, cache: CacheCounts) -> None:
        """Shows the cache's hits and misses whenever metrics are asked for."""
        self.registry.register(_CacheCollector(cache))

    def exposition(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return bytes(generate_latest(self.registry))

    def _gauge(self, name: str, description: str) -> Gauge:
        return Gauge(name, description, registry=self.registry)


class _CacheCollector(Collector):
    def __init__(self, cache: CacheCounts) -> None:
        self._cache = cache

    def collect(self) -> Iterator[CounterMetricFamily]:
        looked_up = CounterMetricFamily(
            "tandem_cache_lookups", "Results looked up in the cache.", labels=("outcome",)
        )
        looked_up.add_metric(["hit"], self._cache.hits)
        looked_up.add_metric(["miss"], self._cache.misses)
        yield looked_up
