"""What is counted and measured: one table, and one seam between those who tell it and whoever collects it.

`count` and `observe` take about a microsecond, and nothing at all until `configure` is called: a program that
uses us as a library collects nothing. No label has as many values as there are owners or transcriptions.
Prometheus text: https://prometheus.io/docs/instrumenting/exposition_formats/ · on a Lambda, which nobody can
scrape, CloudWatch's embedded metric format on standard output:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

NAMESPACE: Final = "Bucketscribe"
"""In CloudWatch."""

PREFIX: Final = "bucketscribe_"
"""Of every name in Prometheus."""


class Kind(StrEnum):
    """How a metric is collected."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `unit` is CloudWatch's name of it; `buckets` are a histogram's upper bounds.

    One that is not told `on_lambda` would cost more there than it says.
    """

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: Literal["Count", "Seconds", "None"] = "Count"
    buckets: tuple[float, ...] = ()
    on_lambda: bool = True


METRICS: Final = {
    "uploads_begun": Metric(Kind.COUNTER, "Uploads that were begun, forms included."),
    "uploads_completed": Metric(Kind.COUNTER, "Uploads whose recording was accepted."),
    "uploads_expired": Metric(Kind.COUNTER, "Uploads that were idle for too long."),
    "uploads_refused": Metric(
        Kind.COUNTER, "Uploads that were refused, before or after the bytes.", ("code",)
    ),
    "transcriptions": Metric(Kind.COUNTER, "Transcriptions that came into a state.", ("state",)),
    "jobs_ended": Metric(
        Kind.COUNTER, "Runs that a worker held, by the state they went on to; `queued` is back.", ("outcome",)
    ),
    "dead_letters": Metric(
        Kind.COUNTER,
        "Job messages nobody could take: their runs `failed`, did not wait any more, or were unreadable.",
        ("outcome",),
    ),
    "webhooks": Metric(
        Kind.COUNTER,
        "Tries to tell a webhook: `delivered`, `failed` (to be tried again) or `given_up`.",
        ("outcome",),
    ),
    "request_seconds": Metric(
        Kind.HISTOGRAM,
        "Requests to the API, from their first byte to the answer's last; not those that carry a recording, "
        "wait for its transcript or are event streams.",
        ("route", "method", "status"),
        "Seconds",
        (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        # The gateway measures requests, and CloudWatch is paid for each route with each status.
        on_lambda=False,
    ),
    "stage_seconds": Metric(
        Kind.HISTOGRAM,
        "Stages of finished runs.",
        ("stage",),
        "Seconds",
        (0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 14400),
    ),
    "real_time_factor": Metric(
        Kind.HISTOGRAM,
        "Seconds of the recording transcribed in each second of work.",
        ("engine", "model"),
        "None",
        (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200),
    ),
    "queue_messages": Metric(Kind.GAUGE, "Job messages, waiting and in flight."),
    "open_markers": Metric(Kind.GAUGE, "Markers of what is not finished.", ("kind",)),
    "up": Metric(Kind.GAUGE, "Whether a part of the service answers the API: 1 or 0.", ("part",)),
}
"""Every metric. The API reads the gauges when it is asked for them; the others are told as things happen."""


class Reading(NamedTuple):
    """A gauge's value now."""

    name: str
    value: float
    labels: dict[str, str]


class Exposition(NamedTuple):
    """Metrics as a scraper takes them."""

    body: bytes
    content_type: str


class Backend(Protocol):
    """Whoever collects. Called from any thread."""

    def add(self, name: str, value: float, labels: dict[str, str]) -> None:
        """One more value of a counter or a histogram."""

    def flush(self) -> None:
        """Give away what was collected, where it is not asked for."""

    def exposition(self, gauges: Iterable[Reading]) -> Exposition | None:
        """All metrics; None where they cannot be asked for."""


class _Nobody:
    def add(self, name: str, value: float, labels: dict[str, str]) -> None:
        pass

    def flush(self) -> None:
        pass

    def exposition(self, gauges: Iterable[Reading]) -> Exposition | None:
        return None


class _Prometheus:
    def __init__(self) -> None:
        import prometheus_client

        # When each series began is told in a series more, which nobody asked for.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._client = prometheus_client
        self._registry = prometheus_client.CollectorRegistry()
        self._told: dict[str, Any] = {}
        for name, metric in METRICS.items():
            arguments = (PREFIX + name, metric.help, metric.labels)
            if metric.kind is Kind.COUNTER:
                self._told[name] = prometheus_client.Counter(*arguments, registry=self._registry)
            elif metric.kind is Kind.HISTOGRAM:
                self._told[name] = prometheus_client.Histogram(
                    *arguments, registry=self._registry, buckets=metric.buckets
                )
        self._adders: dict[tuple[str, ...], Any] = {}

    def add(self, name: str, value: float, labels: dict[str, str]) -> None:
        series = (name, *labels.values())
        adder = self._adders.get(series)
        if adder is None:
            told = self._told[name].labels(**labels) if labels else self._told[name]
            adder = told.inc if METRICS[name].kind is Kind.COUNTER else told.observe
            self._adders[series] = adder
        adder(value)

    def flush(self) -> None:
        pass

    def exposition(self, gauges: Iterable[Reading]) -> Exposition:
        body = self._client.generate_latest(_Collected(self._registry.collect(), gauges))
        return Exposition(body, self._client.CONTENT_TYPE_PLAIN_0_0_4)


class _Collected:
    """What was told and what was read, as one collector."""

    def __init__(self, told: "Iterable[Family]", gauges: Iterable[Reading]) -> None:
        self._told = told
        self._gauges = gauges

    def collect(self) -> "Iterator[Family]":
        from prometheus_client.core import GaugeMetricFamily

        yield from self._told
        families: dict[str, GaugeMetricFamily] = {}
        for name, value, labels in self._gauges:
            metric = METRICS[name]
            family = families.setdefault(
                name, GaugeMetricFamily(PREFIX + name, metric.help, labels=metric.labels)
            )
            family.add_metric([labels[label] for label in metric.labels], value)
        yield from families.values()


class _EmbeddedMetricFormat:
    def __init__(self) -> None:
        from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import (
            AmazonCloudWatchEMFProvider,
        )

        self._lock = threading.Lock()
        self._make = AmazonCloudWatchEMFProvider
        # One document holds one set of dimensions.
        self._documents: dict[tuple[str, ...], AmazonCloudWatchEMFProvider] = {}

    def add(self, name: str, value: float, labels: dict[str, str]) -> None:
        if not METRICS[name].on_lambda:
            return
        dimensions = tuple(f"{label}={text}" for label, text in labels.items())
        with self._lock:
            document = self._documents.get(dimensions)
            if document is None:
                document = self._make(namespace=NAMESPACE, dimension_set=dict(labels))
                self._documents[dimensions] = document
            document.add_metric(name, METRICS[name].unit, value)

    def flush(self) -> None:
        with self._lock:
            documents, self._documents = self._documents, {}
            for document in documents.values():
                # A document that was full has been written already.
                if document.metric_set:
                    document.flush_metrics()

    def exposition(self, gauges: Iterable[Reading]) -> Exposition | None:
        return None


_backend: Backend = _Nobody()


def configure() -> None:
    """Begin to collect: for CloudWatch on a Lambda, else for Prometheus if that is installed."""
    global _backend
    try:
        _backend = _EmbeddedMetricFormat() if "AWS_LAMBDA_FUNCTION_NAME" in os.environ else _Prometheus()
    except ImportError:
        _backend = _Nobody()


def count(name: str, **labels: str) -> None:
    """One more of a counter of `METRICS`; every label must be given, in the table's order."""
    _backend.add(name, 1, labels)


def observe(name: str, value: float, **labels: str) -> None:
    """One more value of a histogram of `METRICS`; every label must be given, in the table's order."""
    _backend.add(name, value, labels)


def flush() -> None:
    """At the end of a request or of a sweep: on a Lambda, what was collected is written out now."""
    _backend.flush()


def exposition(gauges: Iterable[Reading] = ()) -> Exposition | None:
    """Everything collected by this process, and these gauges; None where nobody can ask for it."""
    return _backend.exposition(gauges)
