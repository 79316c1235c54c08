"""Metrics: what a scrape tells, read by Prometheus' own parser; labels stay bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from apikeyrouter import __version__
from apikeyrouter.domain.cost.budgets import BudgetThresholdReached
from apikeyrouter.domain.models.events import KeyMoved, RequestEnded
from apikeyrouter_proxy.metrics import BudgetGauge, Gauges, KeyGauge, Metrics
from tests.support.server import Served, run_proxy
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}


def ended(**changes: Any) -> RequestEnded:
    fields: dict[str, Any] = {
        "request_id": "req_1", "operation": "chat/completions", "model": "gpt-4o-mini", "provider_id": "openai",
        "key_label": "openai-1", "outcome": "ok", "status": 200, "stream": False, "duration_s": 0.2, "ttft_s": 0.04,
        "input_tokens": 10, "output_tokens": 3, "cost_nano_usd": 1500, "attempts": (("openai-1", "ok"),),
    }  # fmt: skip
    return RequestEnded(**{**fields, **changes})


class Scrape:
    """Samples by name and labels."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, /, **labels: str) -> float | None:
        return self.samples.get((name, frozenset(labels.items())))

    def labels(self, name: str, label: str) -> set[str]:
        return {dict(labels)[label] for sample, labels in self.samples if sample == name}


def scrape(metrics: Metrics, gauges: Gauges | None = None) -> Scrape:
    return Scrape(metrics.exposition(gauges or Gauges()).decode())


def test_a_request_is_counted_with_its_tokens_cost_times_and_attempts() -> None:
    metrics = Metrics()
    metrics.request_ended(ended())
    metrics.request_ended(ended(duration_s=400.0, attempts=(("openai-2", "rate_limited"), ("openai-1", "ok"))))
    seen = scrape(metrics)
    request = {"provider": "openai", "model": "gpt-4o-mini", "operation": "chat/completions", "outcome": "ok"}
    served = {"provider": "openai", "model": "gpt-4o-mini"}
    assert seen.value("apikeyrouter_requests_total", **request) == 2
    assert seen.value("apikeyrouter_request_duration_seconds_bucket", le="0.1", **request) == 0
    assert seen.value("apikeyrouter_request_duration_seconds_bucket", le="0.25", **request) == 1
    assert seen.value("apikeyrouter_request_duration_seconds_bucket", le="300.0", **request) == 1
    assert seen.value("apikeyrouter_request_duration_seconds_bucket", le="+Inf", **request) == 2
    assert seen.value("apikeyrouter_request_duration_seconds_sum", **request) == pytest.approx(400.2)
    assert seen.value("apikeyrouter_time_to_first_byte_seconds_count", **served) == 2
    assert seen.value("apikeyrouter_tokens_total", direction="input", **served) == 20
    assert seen.value("apikeyrouter_tokens_total", direction="output", **served) == 6
    assert seen.value("apikeyrouter_cost_usd_total", **served) == pytest.approx(3e-6)
    assert seen.value("apikeyrouter_attempts_total", key="openai-1", outcome="ok") == 2
    assert seen.value("apikeyrouter_attempts_total", key="openai-2", outcome="rate_limited") == 1


def test_a_value_on_a_bound_belongs_to_that_bucket() -> None:
    metrics = Metrics()
    metrics.request_ended(ended(duration_s=0.25, ttft_s=None))
    request = {"provider": "openai", "model": "gpt-4o-mini", "operation": "chat/completions", "outcome": "ok"}
    assert scrape(metrics).value("apikeyrouter_request_duration_seconds_bucket", le="0.25", **request) == 1
    assert (
        scrape(metrics).value("apikeyrouter_time_to_first_byte_seconds_count", provider="openai", model="gpt-4o-mini")
        == 0
    )


def test_model_labels_are_bounded_and_typing_errors_leave_room_for_real_models() -> None:
    metrics = Metrics()
    for number in range(500):
        metrics.request_ended(ended(model=f"typo-{number}", outcome="model_not_found"))
    for number in range(500):
        metrics.request_ended(ended(model=f"real-{number}"))
    metrics.request_ended(ended(model="m" * 5000))
    seen = scrape(metrics)
    models = seen.labels("apikeyrouter_requests_total", "model")
    assert len(models) == 201
    assert sum(model.startswith("typo-") for model in models) == 50
    assert sum(model.startswith("real-") for model in models) == 150
    total = sum(value for (name, _), value in seen.samples.items() if name == "apikeyrouter_requests_total")
    assert total == 1001


def test_outcomes_are_bounded_though_providers_choose_their_codes() -> None:
    metrics = Metrics()
    for number in range(500):
        metrics.request_ended(ended(outcome=f"code-{number}"))
    assert len(scrape(metrics).labels("apikeyrouter_requests_total", "outcome")) <= 61


def test_gauges_are_those_of_the_scrape() -> None:
    metrics = Metrics()
    metrics.key_moved(KeyMoved("key_1", "same", "openai", "available", "throttled", "rate_limited", 5.0))
    gauges = Gauges(
        keys=[KeyGauge("key_1", "same", "openai", "throttled", 2), KeyGauge("key_2", "same", "openai", "available", 0)],
        keys_usable=1,
        holds_open=2,
        in_flight=3,
        tasks=8,
        connections=[("https://api.openai.com:443", "idle", 4)],
        store_up=False,
        decisions_dropped=7,
    )
    seen = scrape(metrics, gauges)
    key = {"provider": "openai", "key": "same", "key_id": "key_1"}
    assert seen.value("apikeyrouter_key_state", state="throttled", **key) == 1
    assert seen.value("apikeyrouter_key_in_flight", **key) == 2
    assert seen.value("apikeyrouter_key_transitions_total", provider="openai", key="same", to_state="throttled") == 1
    assert seen.value("apikeyrouter_keys_usable") == 1
    assert seen.value("apikeyrouter_holds_open") == 2
    assert seen.value("apikeyrouter_in_flight") == 3
    assert seen.value("apikeyrouter_tasks") == 8
    assert seen.value("apikeyrouter_upstream_connections", origin="https://api.openai.com:443", state="idle") == 4
    assert seen.value("apikeyrouter_store_up") == 0
    assert seen.value("apikeyrouter_decisions_dropped_total") == 7
    assert seen.value("apikeyrouter_build_info", version=__version__) == 1
    assert scrape(metrics).value("apikeyrouter_holds_open") == 0


def test_names_and_types_follow_the_conventions() -> None:
    metrics = Metrics()
    metrics.request_ended(ended())
    for name, family in scrape(metrics).families.items():
        assert name.startswith("apikeyrouter_")
        assert family.documentation
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)


@pytest.fixture
def served(sim: Sim) -> Iterator[Served]:
    with run_proxy(sim.base_url, sim.keys) as (served, _):
        yield served


def test_a_real_scrape_tells_what_happened_and_no_key_material(served: Served, sim: Sim) -> None:
    sim.fault(sim.keys[0], "rate_limited", retry_after_s=20)
    for _ in range(4):
        assert served.post("/v1/chat/completions", CHAT).status == 200
    assert served.post("/v1/chat/completions", {**CHAT, "temperature": 99}).status == 400
    answer = served.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    seen = Scrape(answer.body.decode())
    request = {"provider": "openai", "model": "gpt-4o-mini", "operation": "chat/completions"}
    assert seen.value("apikeyrouter_requests_total", outcome="ok", **request) == 4
    assert seen.value("apikeyrouter_tokens_total", direction="output", provider="openai", model="gpt-4o-mini") == 20
    assert seen.value("apikeyrouter_holds_open") == 0
    assert len(seen.labels("apikeyrouter_key_state", "key_id")) == 3
    assert sum(value for (name, _), value in seen.samples.items() if name == "apikeyrouter_attempts_total") == 6
    assert not any(key in answer.body.decode() for key in sim.keys)


def budget(number: int, *, mode: str = "hard", spent: float = 1.0) -> BudgetGauge:
    return BudgetGauge(f"budget_{number}", f"b{number}", "per_team", "search", mode, 10.0, spent, 0.25)


def test_a_budget_shows_its_limit_spend_and_holds() -> None:
    seen = scrape(Metrics(), Gauges(budgets=[budget(1)]))
    labels = {"budget": "budget_1", "name": "b1", "scope": "per_team", "covers": "search", "mode": "hard"}
    assert seen.value("apikeyrouter_budget_limit_usd", **labels) == 10.0
    assert seen.value("apikeyrouter_budget_spent_usd", **labels) == 1.0
    assert seen.value("apikeyrouter_budget_held_usd", **labels) == 0.25


def test_many_budgets_are_cut_to_the_hard_ones_and_the_fullest() -> None:
    soft = [budget(i, mode="soft", spent=9.0) for i in range(300)]
    hard = [budget(1000 + i, spent=i / 100) for i in range(150)]
    seen = scrape(Metrics(), Gauges(budgets=[*soft, *hard]))
    shown = seen.labels("apikeyrouter_budget_limit_usd", "budget")
    assert len(shown) == 200
    assert {one.budget_id for one in hard} <= shown
    assert seen.value("apikeyrouter_budgets") == 450


def test_refusals_and_alerts_are_counted() -> None:
    metrics = Metrics()
    for provider in ("openai", ""):
        metrics.request_ended(ended(outcome="budget_exceeded", status=402, provider_id=provider))
    metrics.request_ended(ended())
    metrics.budget_alert(BudgetThresholdReached("budget_1", "global", None, "hard", 80, 10, 8, "w"))
    seen = scrape(metrics)
    assert seen.value("apikeyrouter_budget_refusals_total", model="gpt-4o-mini") == 2
    assert seen.value("apikeyrouter_budget_alerts_total", mode="hard", percent="80") == 1
