"""Prometheus metrics.

Main entries: `Metrics`, the observer that counts, and `Metrics.exposition`, the text of a scrape. Counting a request is
two dictionary look-ups and a few additions on plain objects, all on the event loop's thread: about a third of what
prometheus-client's own counters cost, which lock. Gauges are read when somebody scrapes.
Laws: names begin with `apikeyrouter_` and use base units; labels are bounded: a model that the first names did not make
room for is "other"; keys appear by label and id, never by material.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from apikeyrouter import __version__
from apikeyrouter.domain.cost.budgets import BudgetThresholdReached
from apikeyrouter.domain.models.events import KeyMoved, QuotaChanged, RequestEnded
from apikeyrouter.muxer.guard import RouteAlert
from apikeyrouter_proxy.health_alerts import BreakerGauge
from apikeyrouter_proxy.metrics_board import MetricsBoard
from apikeyrouter_proxy.metrics_model_routing import RoutingGauge, routing_families
from apikeyrouter_proxy.metrics_quota import QuotaGauge, quota_families

__all__ = ["CONTENT_TYPE", "BudgetGauge", "Gauges", "KeyGauge", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
_MODELS_MAX, _MODELS_OF_FAILURES_MAX = 200, 50
"""Callers choose model names. Only served ones may take the last 150 places, so that typing errors cannot fill them."""

_OUTCOMES_MAX = 60
"""Outcomes may be a provider's own error codes."""

_BUDGETS_MAX = 200
"""Series per gauge; of more budgets, the hard ones and then the fullest are shown."""

_REFUSED = "budget_exceeded"
_LABEL_LENGTH_MAX = 128
_DURATION_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TTFT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_REQUEST = ["provider", "model", "operation", "outcome"]
_SERVED = ["provider", "model"]

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily


@dataclass(slots=True)
class _Histogram:
    """Counts per bucket, not cumulated; the last one is above every bound."""

    bounds: Sequence[float]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulated, as the format wants them."""
        rows, sum_ = [], 0
        for bound, count in zip([*map(str, map(float, self.bounds)), "+Inf"], self.counts, strict=True):
            sum_ += count
            rows.append((bound, float(sum_)))
        return rows


@dataclass(slots=True)
class _Served:
    """Per provider and model."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano_usd: int = 0
    ttft: _Histogram = field(default_factory=lambda: _Histogram(_TTFT_BUCKETS_S))


@dataclass(slots=True)
class _Requests:
    """Per provider, model, operation and outcome."""

    labels: tuple[str, str, str, str]
    served: _Served
    duration: _Histogram = field(default_factory=lambda: _Histogram(_DURATION_BUCKETS_S))


@dataclass(frozen=True, slots=True)
class KeyGauge:
    """A key at the time of a scrape."""

    key_id: str
    label: str
    provider_id: str
    state: str
    in_flight: int


@dataclass(frozen=True, slots=True)
class BudgetGauge:
    """A budget at the time of a scrape. Amounts are US dollars. `covers`: name of what it covers, "" for everything."""

    budget_id: str
    name: str
    scope: str
    covers: str
    mode: str
    limit: float
    spent: float
    held: float


@dataclass(frozen=True, slots=True)
class Gauges:
    """What a scrape reads from the running parts. `connections`: (origin, "idle" | "active" | "waiting") -> count.

    `tasks`: of the event loop, the proxy's own ones included; at rest it does not grow."""

    keys: Sequence[KeyGauge] = ()
    keys_usable: int = 0
    budgets: Sequence[BudgetGauge] = ()
    quota: Sequence[QuotaGauge] = ()
    quota_pools: int = 0
    holds_open: int = 0
    in_flight: int = 0
    tasks: int = 0
    connections: Sequence[tuple[str, str, int]] = ()
    breakers: Sequence[BreakerGauge] = ()
    model_routing: Sequence[RoutingGauge] = ()
    store_up: bool = True
    decisions_dropped: int = 0


class Metrics:
    """Counts what happens. An observer; see `domain.models.events`. `board`: where several workers' metrics meet."""

    def __init__(self, board: MetricsBoard | None = None) -> None:
        self._board = board
        self._requests: dict[tuple[str, str, str, str], _Requests] = {}
        self._served: dict[tuple[str, str], _Served] = {}
        self._attempts: dict[tuple[str, str], int] = {}
        self._moves: dict[tuple[str, str, str], int] = {}
        self._alerts: dict[tuple[str, str], int] = {}
        self._quota_alerts: dict[tuple[str, str], int] = {}
        self._routing_alerts: dict[tuple[str, str], int] = {}
        self._models: set[str] = set()
        self._outcomes: set[str] = {"ok"}
        self._registry = CollectorRegistry(auto_describe=False)
        self._gauges = Gauges()
        self._registry.register(_Exporter(self))

    def request_ended(self, event: RequestEnded) -> None:
        """Once per request."""
        key = (event.provider_id, event.model, event.operation, event.outcome)
        series = self._requests.get(key)
        if series is None:
            series = self._series(event)
        series.duration.observe(event.duration_s)
        served = series.served
        if event.ttft_s is not None:
            served.ttft.observe(event.ttft_s)
        served.input_tokens += event.input_tokens
        served.output_tokens += event.output_tokens
        served.cost_nano_usd += event.cost_nano_usd
        attempts = self._attempts
        for attempt in event.attempts:
            attempts[attempt] = attempts.get(attempt, 0) + 1

    def key_moved(self, event: KeyMoved) -> None:
        """Once per state change."""
        key = (event.provider_id, event.label, event.to_state)
        self._moves[key] = self._moves.get(key, 0) + 1

    def budget_alert(self, event: BudgetThresholdReached) -> None:
        """Once per budget, period and percentage, over all processes."""
        key = (event.mode, str(event.percent))
        self._alerts[key] = self._alerts.get(key, 0) + 1

    def quota_changed(self, event: QuotaChanged) -> None:
        """Once per change of a limit's state; alerts are counted, by this process."""
        if event.alert is not None:
            key = (event.pool_id.partition("/")[0], event.alert)
            self._quota_alerts[key] = self._quota_alerts.get(key, 0) + 1

    def model_routing_alert(self, event: RouteAlert) -> None:
        """Once when it begins."""
        if not event.over:
            key = (event.group, event.kind)
            self._routing_alerts[key] = self._routing_alerts.get(key, 0) + 1

    def exposition(self, gauges: Gauges) -> bytes:
        """The text of a scrape."""
        self._gauges = gauges
        return generate_latest(self._registry)

    def share(self, gauges: Gauges) -> None:
        """Leaves what this worker counted, and its own gauges, for whichever worker is scraped."""
        if self._board is not None:
            self._gauges = gauges
            self._board.post(self.families())

    def collected(self) -> Iterable[Metric]:
        """Everything, over all workers."""
        return self.families() if self._board is None else self._board.add_up(self.families())

    def together(self, gauges: Gauges) -> Iterable[Metric]:
        """`collected`, with this worker's gauges as they are now."""
        self._gauges = gauges
        return self.collected()

    def _series(self, event: RequestEnded) -> _Requests:
        """The series of a request's labels. A model without a place of its own shares that of "other"."""
        model = self._model_label(event.model, served=event.outcome == "ok")
        key = (event.provider_id, model, event.operation, self._outcome_label(event.outcome))
        series = self._requests.get(key)
        if series is None:
            served = self._served.setdefault((event.provider_id, model), _Served())
            series = self._requests[key] = _Requests(key, served)
        return series

    def _model_label(self, model: str, *, served: bool) -> str:
        if model in self._models:
            return model
        places = _MODELS_MAX if served else _MODELS_OF_FAILURES_MAX
        if len(self._models) >= places or len(model) > _LABEL_LENGTH_MAX:
            return OTHER
        self._models.add(model)
        return model

    def _outcome_label(self, outcome: str) -> str:
        if outcome not in self._outcomes:
            if len(self._outcomes) >= _OUTCOMES_MAX or len(outcome) > _LABEL_LENGTH_MAX:
                return OTHER
            self._outcomes.add(outcome)
        return outcome

    def families(self) -> Iterable[Family]:
        """Everything, for the registry."""
        yield from self._request_families()
        yield from self._served_families()
        attempts = CounterMetricFamily(
            "apikeyrouter_attempts", "Sends to providers, by key label and outcome.", labels=["key", "outcome"]
        )
        for labels, count in self._attempts.items():
            attempts.add_metric(labels, count)
        yield attempts
        moves = CounterMetricFamily(
            "apikeyrouter_key_transitions", "Changes of key state.", labels=["provider", "key", "to_state"]
        )
        for move, count in self._moves.items():
            moves.add_metric(move, count)
        yield moves
        yield from self._budget_families()
        yield from quota_families(self._gauges.quota, self._gauges.quota_pools, self._quota_alerts)
        yield from routing_families(self._gauges.model_routing, self._routing_alerts)
        yield from _gauge_families(self._gauges)

    def _budget_families(self) -> Iterable[Family]:
        refusals = CounterMetricFamily(
            "apikeyrouter_budget_refusals", "Requests refused for want of budget.", labels=["model"]
        )
        refused: dict[str, int] = {}
        for (_, model, _, outcome), series in self._requests.items():
            if outcome == _REFUSED:
                refused[model] = refused.get(model, 0) + sum(series.duration.counts)
        for model, count in refused.items():
            refusals.add_metric([model], count)
        yield refusals
        alerts = CounterMetricFamily(
            "apikeyrouter_budget_alerts", "Budgets of which so many percent were spent.", labels=["mode", "percent"]
        )
        for labels, count in self._alerts.items():
            alerts.add_metric(labels, count)
        yield alerts

    def _request_families(self) -> Iterable[Family]:
        total = CounterMetricFamily("apikeyrouter_requests", "Finished requests.", labels=_REQUEST)
        duration = HistogramMetricFamily(
            "apikeyrouter_request_duration_seconds", "From first byte in to last byte out.", labels=_REQUEST
        )
        for series in self._requests.values():
            total.add_metric(series.labels, sum(series.duration.counts))
            duration.add_metric(series.labels, series.duration.buckets(), series.duration.total)
        yield total
        yield duration

    def _served_families(self) -> Iterable[Family]:
        ttft = HistogramMetricFamily(
            "apikeyrouter_time_to_first_byte_seconds", "Until the provider's first byte.", labels=_SERVED
        )
        tokens = CounterMetricFamily("apikeyrouter_tokens", "Tokens used.", labels=[*_SERVED, "direction"])
        cost = CounterMetricFamily("apikeyrouter_cost_usd", "US dollars settled.", labels=_SERVED)
        for labels, served in self._served.items():
            ttft.add_metric(labels, served.ttft.buckets(), served.ttft.total)
            tokens.add_metric([*labels, "input"], served.input_tokens)
            tokens.add_metric([*labels, "output"], served.output_tokens)
            cost.add_metric(labels, served.cost_nano_usd / 1e9)
        yield ttft
        yield tokens
        yield cost


class _Exporter(Collector):
    """Lets prometheus-client read `Metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Everything."""
        return self._metrics.collected()


def _gauge_families(gauges: Gauges) -> Iterable[Family]:
    state = GaugeMetricFamily(
        "apikeyrouter_key_state", "1 for the state that a key is in.", labels=["provider", "key", "key_id", "state"]
    )
    busy = GaugeMetricFamily(
        "apikeyrouter_key_in_flight", "Requests under way with a key.", labels=["provider", "key", "key_id"]
    )
    for key in gauges.keys:
        state.add_metric([key.provider_id, key.label, key.key_id, key.state], 1)
        busy.add_metric([key.provider_id, key.label, key.key_id], key.in_flight)
    yield state
    yield busy
    yield from _budget_gauges(gauges.budgets)
    connections = GaugeMetricFamily(
        "apikeyrouter_upstream_connections", "Connections to providers.", labels=["origin", "state"]
    )
    for origin, what, count in gauges.connections:
        connections.add_metric([origin, what], count)
    yield connections
    breakers = GaugeMetricFamily(
        "apikeyrouter_breaker_open", "Processes whose breaker holds requests back.", labels=["provider", "model"]
    )
    for one in gauges.breakers:
        breakers.add_metric([one.provider_id, one.model], int(one.is_open))
    yield breakers
    yield GaugeMetricFamily("apikeyrouter_keys_usable", "Keys that may serve now.", value=gauges.keys_usable)
    yield GaugeMetricFamily("apikeyrouter_holds_open", "Ledger holds not yet closed.", value=gauges.holds_open)
    yield GaugeMetricFamily("apikeyrouter_in_flight", "Requests on the token path.", value=gauges.in_flight)
    yield GaugeMetricFamily("apikeyrouter_tasks", "Tasks of the event loop.", value=gauges.tasks)
    yield GaugeMetricFamily("apikeyrouter_store_up", "1 while the store answers.", value=int(gauges.store_up))
    yield GaugeMetricFamily("apikeyrouter_workers", "Processes that serve together.", value=1)
    yield CounterMetricFamily(
        "apikeyrouter_decisions_dropped", "Decisions that could not be queued.", value=gauges.decisions_dropped
    )
    yield InfoMetricFamily("apikeyrouter_build", "Which version this is.", value={"version": __version__})


def _budget_gauges(budgets: Sequence[BudgetGauge]) -> Iterable[Family]:
    labels = ["budget", "name", "scope", "covers", "mode"]
    limit = GaugeMetricFamily("apikeyrouter_budget_limit_usd", "US dollars per period.", labels=labels)
    spent = GaugeMetricFamily("apikeyrouter_budget_spent_usd", "Charged in the running period.", labels=labels)
    held = GaugeMetricFamily("apikeyrouter_budget_held_usd", "Set aside in the running period.", labels=labels)
    for one in sorted(budgets, key=_urgency)[:_BUDGETS_MAX]:
        values = [one.budget_id, *(text[:_LABEL_LENGTH_MAX] for text in (one.name, one.scope, one.covers, one.mode))]
        limit.add_metric(values, one.limit)
        spent.add_metric(values, one.spent)
        held.add_metric(values, one.held)
    yield limit
    yield spent
    yield held
    yield GaugeMetricFamily("apikeyrouter_budgets", "Budgets, those without series included.", value=len(budgets))


def _urgency(budget: BudgetGauge) -> tuple[bool, float, str]:
    return budget.mode != "hard", -(budget.spent + budget.held) / budget.limit, budget.budget_id
