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
_SHADOWED, _SHADOW_USD = "apikeyrouter_model_routing_shadow_requests", "apikeyrouter_model_routing_shadow_usd"
_DISCARDED = "apikeyrouter_model_routing_discarded_usd"


@dataclass(frozen=True, slots=True)
class RoutingGauge:
    """A group at the time of a scrape, as one worker saw it. `chosen_usd`, `reference_usd`: expected for what was
    chosen, and for the reference model. `shadow_*`: the same of requests that were only looked at. `discarded_usd`:
    charged for answers of cascades that no caller got."""

    group: str
    weak: int
    strong: int
    chosen_usd: float
    reference_usd: float
    drift: float
    shadow_weak: int = 0
    shadow_strong: int = 0
    shadow_chosen_usd: float = 0.0
    shadow_reference_usd: float = 0.0
    discarded_usd: float = 0.0


@dataclass(slots=True)
class Counted:
    """A group over all workers; see `RoutingGauge`."""

    weak: float = 0
    strong: float = 0
    chosen_usd: float = 0.0
    reference_usd: float = 0.0
    shadow_weak: float = 0
    shadow_strong: float = 0
    shadow_chosen_usd: float = 0.0
    shadow_reference_usd: float = 0.0
    discarded_usd: float = 0.0


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
            book.shadowed - book.shadow_strong,
            book.shadow_strong,
            book.shadow_chosen_usd,
            book.shadow_reference_usd,
            book.discarded_usd,
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
    shadowed = CounterMetricFamily(
        _SHADOWED, "Requests looked at in shadow mode, by what would have answered.", labels=["group", "role"]
    )
    shadow_usd = CounterMetricFamily(
        _SHADOW_USD, "The same dollars of requests that were looked at in shadow mode.", labels=["group", "of"]
    )
    discarded = CounterMetricFamily(
        _DISCARDED, "US dollars charged for answers of cascades that no caller got.", labels=["group"]
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
        shadowed.add_metric([one.group, "weak"], one.shadow_weak)
        shadowed.add_metric([one.group, "strong"], one.shadow_strong)
        shadow_usd.add_metric([one.group, "chosen"], one.shadow_chosen_usd)
        shadow_usd.add_metric([one.group, "reference"], one.shadow_reference_usd)
        discarded.add_metric([one.group], one.discarded_usd)
        drift.add_metric([one.group], one.drift)
    yield requests
    yield expected
    yield shadowed
    yield shadow_usd
    yield discarded
    yield drift
    told = CounterMetricFamily(
        "apikeyrouter_model_routing_alerts", "Alerts of drift and of lost quality that began.", labels=["group", "kind"]
    )
    for key, count in alerts.items():
        told.add_metric(key, count)
    yield told


_FIELDS = {
    (_REQUESTS, "weak"): "weak",
    (_REQUESTS, "strong"): "strong",
    (_EXPECTED, "chosen"): "chosen_usd",
    (_EXPECTED, "reference"): "reference_usd",
    (_SHADOWED, "weak"): "shadow_weak",
    (_SHADOWED, "strong"): "shadow_strong",
    (_SHADOW_USD, "chosen"): "shadow_chosen_usd",
    (_SHADOW_USD, "reference"): "shadow_reference_usd",
    (_DISCARDED, ""): "discarded_usd",
}


def counted(families: Iterable[Metric]) -> dict[str, Counted]:
    """The sums over workers, by group."""
    found: dict[str, Counted] = {}
    for family in families:
        for sample in family.samples:
            labels = sample.labels
            name = _FIELDS.get((family.name, labels.get("role") or labels.get("of") or ""))
            if name is not None:
                row = found.setdefault(labels["group"], Counted())
                setattr(row, name, getattr(row, name) + sample.value)
    return found
