"""Metrics of model routing, and what all workers of this machine have counted together.

Main entries: `routing_gauges`, what a scrape reads of a worker, `routing_families`, and `counted`, which reads the sums
back for the management API. Laws: only counters are added up over workers; savings are the difference of two of them,
since they may be below zero; groups are the operator's own, so their series are bounded by the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from apikeyrouter.muxer.guard import RouteBook

__all__ = ["Counted", "RoutingGauge", "counted", "routing_families", "routing_gauges"]

_REQUESTS, _EXPECTED = "apikeyrouter_model_routing_requests", "apikeyrouter_model_routing_expected_usd"


@dataclass(frozen=True, slots=True)
class RoutingGauge:
    """A group at the time of a scrape, as one worker saw it. `chosen_usd`, `reference_usd`: expected for what was
    chosen, and for the reference model."""

    group: str
    weak: int
    strong: int
    chosen_usd: float
    reference_usd: float
    drift: float


@dataclass(slots=True)
class Counted:
    """A group over all workers."""

    weak: int = 0
    strong: int = 0
    chosen_usd: float = 0.0
    reference_usd: float = 0.0


def routing_gauges(books: Mapping[str, RouteBook]) -> list[RoutingGauge]:
    """What each group's book says; `books`: by group."""
    return [
        RoutingGauge(
            book.group,
            book.routed - book.strong_calls,
            book.strong_calls,
            book.chosen_usd,
            book.reference_usd,
            book.drift,
        )
        for book in books.values()
    ]


def routing_families(
    groups: Sequence[RoutingGauge], alerts: Mapping[tuple[str, str], int]
) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
    """`alerts`: by group and kind."""
    requests = CounterMetricFamily(
        _REQUESTS, "Requests that left their model to a group, by what answered.", labels=["group", "role"]
    )
    expected = CounterMetricFamily(
        _EXPECTED, "US dollars expected: for what was chosen, and for the reference model.", labels=["group", "of"]
    )
    drift = GaugeMetricFamily(
        "apikeyrouter_model_routing_drift",
        "How much a group's prompts have changed; above 0.25: others.",
        labels=["group"],
    )
    for one in groups:
        requests.add_metric([one.group, "weak"], one.weak)
        requests.add_metric([one.group, "strong"], one.strong)
        expected.add_metric([one.group, "chosen"], one.chosen_usd)
        expected.add_metric([one.group, "reference"], one.reference_usd)
        drift.add_metric([one.group], one.drift)
    yield requests
    yield expected
    yield drift
    told = CounterMetricFamily(
        "apikeyrouter_model_routing_alerts", "Alerts of drift and of lost quality that began.", labels=["group", "kind"]
    )
    for key, count in alerts.items():
        told.add_metric(key, count)
    yield told


def counted(families: Iterable[Metric]) -> dict[str, Counted]:
    """The sums over workers, by group."""
    found: dict[str, Counted] = {}
    for family in families:
        if family.name not in (_REQUESTS, _EXPECTED):
            continue
        for sample in family.samples:
            row = found.setdefault(sample.labels["group"], Counted())
            match sample.labels.get("role") or sample.labels.get("of"):
                case "weak":
                    row.weak += int(sample.value)
                case "strong":
                    row.strong += int(sample.value)
                case "chosen":
                    row.chosen_usd += sample.value
                case "reference":
                    row.reference_usd += sample.value
    return found
