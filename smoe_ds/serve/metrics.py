"""What Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SENTENCES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The figures of a service, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()
        registry = CollectorRegistry()
        self._registry = registry
        self.requests = Counter(
            "smoe_requests", "Requests by path and HTTP status; 499: the client has gone", ["path", "status"],
            registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "smoe_translate_seconds", "From a text to its answer", buckets=_SECONDS, registry=registry
        )
        self.sentences = Counter("smoe_sentences", "Sentences translated", registry=registry)
        self.characters = Counter("smoe_characters", "Characters of texts translated", registry=registry)
        self.batch_sentences = Histogram(
            "smoe_batch_sentences", "Sentences of a batch", buckets=_SENTENCES, registry=registry
        )
        self.in_flight = Gauge(
            "smoe_requests_in_flight", "Requests that wait for a worker or have one", registry=registry
        )
        self.worker_deaths = Counter("smoe_worker_deaths", "Workers that ended and were replaced", registry=registry)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Adds a figure that is asked for when it is read."""
        Gauge(name, text, registry=self._registry).set_function(value)

    def as_text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)
