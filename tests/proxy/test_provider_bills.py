"""Bills that providers write into their replies, over real HTTP: they settle budgets, prices stay beside them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.support.server import Answer, Served, run_proxy
from tests.support.upstream import CHAT_ANSWER, Upstream, upstream

HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
TOKENS: dict[str, Any] = dict(CHAT_ANSWER["usage"])  # type: ignore[call-overload]
LISTED = Decimal("0.00000255")
"""9 input tokens at 0.15 and 2 output tokens at 0.60 dollars per million."""


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with upstream() as app:
        yield app


@pytest.fixture(scope="module")
def served(provider: Upstream) -> Iterator[Served]:
    with run_proxy(provider.base_url, ["sk-upstream-0"]) as (served, _):
        yield served


def asked(served: Served, provider: Upstream, model: str = "gpt-4o-mini", **bill: Any) -> tuple[Any, Answer]:
    """The decision on a request whose reply has these members in its usage, and that reply."""
    provider.forget()
    provider.answers("/v1/chat/completions", CHAT_ANSWER | {"usage": TOKENS | bill})
    answer = served.post("/v1/chat/completions", HELLO | {"model": model})
    assert answer.status == 200
    return served.get(f"/api/v1/decisions/{answer.headers['x-akr-decision']}").json, answer


def money(decision: Any) -> tuple[Decimal | None, ...]:
    """(charged, billed, usage x price) in US dollars."""
    amounts = [decision[name] for name in ("cost_usd", "billed_usd", "list_price_usd")]
    return tuple(None if one is None else Decimal(one) for one in amounts)


@pytest.mark.parametrize(
    ("bill", "billed"),
    [
        ({"cost": 0.0042}, "0.0042"),
        ({"cost": 0}, "0"),
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}, "0.021"),
        ({"cost": 0.001, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.001}}, "0.001"),
        ({"cost_in_usd_ticks": 37_756_001}, "0.003775601"),
        ({"cost": {"input_tokens_cost": 0.001, "request_cost": 0.005, "total_cost": 0.006}}, "0.006"),
    ],
)
def test_the_providers_bill_settles_and_prices_stay_beside_it(
    served: Served, provider: Upstream, bill: dict[str, Any], billed: str
) -> None:
    decision, answer = asked(served, provider, **bill)
    assert decision["cost_source"] == "provider's bill"
    assert money(decision) == (Decimal(billed), Decimal(billed), LISTED)
    assert Decimal(answer.headers["x-akr-cost"]) == Decimal(billed)


@pytest.mark.parametrize("bill", [{}, {"cost": -1}, {"cost": None}, {"cost": "much"}, {"cost_in_usd_ticks": -5}])
def test_without_a_bill_that_could_be_one_prices_settle(
    served: Served, provider: Upstream, bill: dict[str, Any]
) -> None:
    decision, _ = asked(served, provider, **bill)
    assert decision["cost_source"] == "prices"
    assert money(decision) == (LISTED, None, LISTED)


def test_a_bill_beyond_all_reason_is_told_and_does_not_settle(served: Served, provider: Upstream) -> None:
    decision, _ = asked(served, provider, cost=4200.0)
    assert decision["cost_source"] == "prices"
    assert money(decision) == (LISTED, Decimal(4200), LISTED)
    assert "the provider's bill of $4200 is not believed" in decision["attempts"][0]["detail"]


def test_a_model_without_a_price_costs_what_its_bill_says(served: Served, provider: Upstream) -> None:
    decision, answer = asked(served, provider, model="nobody-knows-this-model", cost=0.25)
    assert money(decision) == (Decimal("0.25"), Decimal("0.25"), None)
    assert answer.headers["x-akr-cost"] == "0.250000000"


def test_budgets_are_settled_with_the_bill(served: Served, provider: Upstream) -> None:
    made = served.post("/api/v1/budgets", {"limit": "1", "period": "daily"})
    assert made.status == 201, made.json
    asked(served, provider, cost=0.125)
    found = served.get(f"/api/v1/budgets/{made.json['id']}").json
    assert Decimal(found["current_spend"]) == Decimal("0.125")
