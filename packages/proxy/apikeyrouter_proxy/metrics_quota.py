"""Metrics of quota pools: what is left of each limit, its state, how hard it is pressed, and the alerts that went out.

Main entries: `quota_gauges`, what a scrape reads, and `quota_families`. Law: series are bounded: of many limits the
most urgent `SERIES_MAX` are shown, and only limits that are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from apikeyrouter.domain.models.quota_state import PoolState

__all__ = ["POOLS_READ", "SERIES_MAX", "QuotaGauge", "quota_families", "quota_gauges"]

POOLS_READ = 100
"""Pools that a scrape looks at, the most urgent ones."""

SERIES_MAX = 200
_LABEL_LENGTH_MAX = 128
_LABELS = ["provider", "pool", "models", "limit"]


@dataclass(frozen=True, slots=True)
class QuotaGauge:
    """One limit at the time of a scrape. `left_ratio`: 0..1 of it. `pressure`: 1 when the demand takes exactly what
    there is; None while nothing is foreseen."""

    provider_id: str
    pool: str
    models: str
    limit_name: str
    left_ratio: float
    state: str
    pressure: float | None


def quota_gauges(pools: Iterable[PoolState]) -> list[QuotaGauge]:
    """The limits of these pools, in their order, up to `SERIES_MAX`."""
    found = [
        QuotaGauge(
            pool.provider_id,
            pool.pool_id.partition("/")[2][:_LABEL_LENGTH_MAX],
            one.models[:_LABEL_LENGTH_MAX],
            one.name,
            (one.remaining or 0) / one.limit,
            one.state.value,
            None if one.prediction is None else one.prediction.pressure,
        )
        for pool in pools
        for one in pool.limits
        if one.limit
    ]
    return found[:SERIES_MAX]


def quota_families(
    limits: Sequence[QuotaGauge], pools: int, alerts: Mapping[tuple[str, str], int]
) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
    """`pools`: how many there are, those without series included. `alerts`: by provider and alert."""
    left = GaugeMetricFamily("apikeyrouter_quota_remaining_ratio", "Share of a limit that is left.", labels=_LABELS)
    state = GaugeMetricFamily(
        "apikeyrouter_quota_state", "1 for the state that a limit is in.", labels=[*_LABELS, "state"]
    )
    pressure = GaugeMetricFamily(
        "apikeyrouter_quota_pressure",
        "0: plenty; 1: the demand foreseen takes exactly what there is; more: it will not last.",
        labels=_LABELS,
    )
    for one in limits:
        labels = [one.provider_id, one.pool, one.models, one.limit_name]
        left.add_metric(labels, one.left_ratio)
        state.add_metric([*labels, one.state], 1)
        if one.pressure is not None:
            pressure.add_metric(labels, one.pressure)
    yield left
    yield state
    yield pressure
    yield GaugeMetricFamily("apikeyrouter_quota_pools", "Quota pools, those without series included.", value=pools)
    told = CounterMetricFamily(
        "apikeyrouter_quota_alerts",
        "Alerts of quota that runs dry, is dry, or is fine again.",
        labels=["provider", "alert"],
    )
    for key, count in alerts.items():
        told.add_metric(key, count)
    yield told
