"""APIs that sell calls instead of tokens, behind the proxy: their reads hold quota and budgets, row prices apply."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter_proxy.provider_settings import read_providers_file
from tests.support.server import Served, run_proxy
from tests.support.upstream import Upstream, upstream


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with upstream() as app:
        yield app


@contextmanager
def searching(provider: Upstream, folder: Path, row: str, metadata: dict[str, Any] | None = None) -> Iterator[Served]:
    """A proxy with the search API of this row, and one key of it."""
    file = folder / "providers.toml"
    file.write_text(f'[providers.search]\nkind = "http"\nbase_url = "{provider.base_url}"\n{row}\n')
    provider.forget()
    provider.answers("/v1/find", {"found": ["a cat"], "meta": {"credits": 3, "charged": "0.02"}})
    with run_proxy(provider.base_url, providers=tuple(read_providers_file(str(file), {}))) as (served, _):
        key = {"provider_id": "search", "key_material": "search-" + "key-1", "metadata": metadata or {}}
        assert served.post("/api/v1/keys", key).status == 201
        yield served


def budget(served: Served, limit: str) -> Any:
    made = served.post("/api/v1/budgets", {"limit": limit, "period": "daily"})
    assert made.status == 201
    return made.json


def spent(served: Served, made: Any) -> Decimal:
    return Decimal(served.get(f"/api/v1/budgets/{made['id']}").json["current_spend"])


def test_each_read_of_a_search_api_is_paid_from_budgets(provider: Upstream, tmp_path: Path) -> None:
    with searching(provider, tmp_path, 'usd_per_request = "0.005"') as served:
        made = budget(served, "0.012")
        answers = [served.get("/search/find?q=cats") for _ in range(3)]
        assert [one.status for one in answers] == [200, 200, 402]
        assert answers[0].headers["x-akr-cost"] == "0.005000000"
        assert answers[2].code == "budget_exceeded"
        assert len(provider.seen) == 2
        assert spent(served, made) == Decimal("0.010")


def test_units_are_held_at_their_most_and_settled_as_told(provider: Upstream, tmp_path: Path) -> None:
    row = 'usd_per_request = "0.001"\nunits = "meta.credits"\nunits_max = 5\nusd_per_unit = "0.002"'
    with searching(provider, tmp_path, row) as served:
        made = budget(served, "0.017")  # one costs 0.007; the most that one costs, 0.011, does not fit twice
        assert [served.get("/search/find").status for _ in range(2)] == [200, 402]
        assert spent(served, made) == Decimal("0.007")


def test_a_call_that_may_cost_anything_is_refused_under_a_hard_budget(provider: Upstream, tmp_path: Path) -> None:
    with searching(provider, tmp_path, 'units = "meta.credits"\nusd_per_unit = "0.002"') as served:
        budget(served, "10")
        answer = served.get("/search/find")
        assert (answer.status, answer.code) == (402, "unbounded_cost")
        assert "units_max" in answer.json["error"]["message"]
        assert not provider.seen


def test_the_bill_of_a_keyed_api_settles(provider: Upstream, tmp_path: Path) -> None:
    with searching(provider, tmp_path, 'usd_per_request = "0.005"\nbilled = "meta.charged"') as served:
        answer = served.get("/search/find")
        decision = served.get(f"/api/v1/decisions/{answer.headers['x-akr-decision']}").json
        assert decision["cost_source"] == "provider's bill"
        assert Decimal(decision["cost_usd"]) == Decimal("0.02")
        assert Decimal(decision["list_price_usd"]) == Decimal("0.005")


def test_reads_hold_the_requests_of_a_keys_quota(provider: Upstream, tmp_path: Path) -> None:
    with searching(provider, tmp_path, "", {"rpm": 2}) as served:
        headers = {"x-akr-timeout": "0.5"}
        statuses = [served.get("/search/find", headers).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert len(provider.seen) == 2


def test_the_operators_price_goes_before_the_rows(provider: Upstream, tmp_path: Path) -> None:
    with searching(provider, tmp_path, 'usd_per_request = "0.005"') as served:
        price = {"per_request": "0.004"}
        assert served.ask("PUT", "/api/v1/prices/search/*", price).status in (200, 201)
        assert served.get("/search/find").headers["x-akr-cost"] == "0.004000000"


def test_a_raw_body_is_never_given_a_cap_but_refused_by_name(provider: Upstream) -> None:
    with run_proxy(provider.base_url, ["sk-upstream-0"]) as (served, _):
        price = {"unit": "per_1m", "input": 1, "output": 1}
        assert served.ask("PUT", "/api/v1/prices/openai/own-ears", price).status < 300
        budget(served, "10")
        provider.forget()
        answer = served.post("/openai/v1/own/things", {"a": 1}, {"x-akr-model": "own-ears"})
        assert (answer.status, answer.code) == (402, "unbounded_cost")
        assert not provider.seen
        assert Decimal(served.get("/api/v1/budgets").json["data"][0]["held"]) == 0
