"""Management API over real HTTP: budgets of every scope, their ledgers, dry runs, spend reports, alerts by webhook."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from apikeyrouter_proxy.bootstrap import Proxy
from apikeyrouter_proxy.webhook_target import read_target
from tests.support.receiver import new_secret, receiver
from tests.support.server import Answer, Served, run_proxy
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}


@pytest.fixture
def running(sim: Sim) -> Iterator[tuple[Served, Proxy]]:
    with run_proxy(sim.base_url, sim.keys) as found:
        yield found


@pytest.fixture
def served(running: tuple[Served, Proxy]) -> Served:
    return running[0]


@pytest.fixture(scope="module")
def shared(sim_server: Sim) -> Iterator[Served]:
    """For requests that change nothing."""
    with run_proxy(sim_server.base_url, sim_server.keys) as (served, _):
        yield served


def create(served: Served, **body: Any) -> dict[str, Any]:
    made = served.post("/api/v1/budgets", {"limit": "10", **body})
    assert made.status == 201, made.json
    found: dict[str, Any] = made.json
    return found


def message(answer: Answer) -> str:
    assert answer.status in (400, 404), answer.json
    return str(answer.json["error"]["message"])


# -- budgets --------------------------------------------------------------------------------------------------------


def test_words_for_limit_period_and_zone_are_understood_and_answered_exactly(served: Served) -> None:
    budget = create(served, limit="$1,234.50", period="month", time_zone="europe/berlin", name=" All of us ")
    assert (budget["limit_amount"], budget["remaining"], budget["current_spend"]) == ("1234.5", "1234.5", "0")
    assert (budget["period"], budget["time_zone"], budget["name"]) == ("monthly", "Europe/Berlin", "All of us")
    rolling = create(served, limit="0.000000001", period="d", rolling=True, enforcement_mode="soft")
    assert (rolling["limit_amount"], rolling["rolling"], rolling["period"]) == ("0.000000001", True, "daily")
    path = f"/api/v1/budgets/{budget['id']}"
    changed = served.ask("PATCH", path, {"limit": "20 USD", "name": "ours", "enforcement_mode": "soft"}).json
    assert (changed["limit_amount"], changed["name"], changed["enforcement_mode"]) == ("20", "ours", "soft")
    (event,) = served.get("/api/v1/events?kind=admin.budget.changed").json["data"]
    assert (event["entity_id"], event["document"]["limit"]) == (budget["id"], "20")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"limit": "-5"}, "above zero"),
        ({"limit": "10 EUR"}, "not in US dollars"),
        ({"limit": "1,5"}, "two ways"),
        ({"limit": "0.0000000001"}, "billionths"),
        ({"period": "dayly"}, "did you mean daily"),
        ({"period": "m"}, "a month or a minute"),
        ({"time_zone": "Berlin"}, "did you mean Europe/Berlin"),
        ({"time_zone": "Mars/Phobos"}, "IANA"),
        ({"scope": "per_key", "scope_id": "nobody"}, "No key has this id or label. There are: openai-1 (key_"),
        ({"scope": "per_virtual_key", "scope_id": "nobody"}, "There is no virtual key at all"),
        ({"scope": "per_provider", "scope_id": "opnai"}, "Did you mean openai?"),
        ({"scope": "per_provider"}, "needs scope_id"),
        ({"scope": "per_tag", "scope_id": "search"}, "name=value"),
        ({"scope": "global", "scope_id": "x"}, "leave scope_id out"),
        ({"scope": "galactic"}, "scope"),
        ({"name": "x" * 200}, "name"),
        ({"rolling": True, "period": "total"}, ""),
    ],
)
def test_what_people_get_wrong_gets_an_answer_that_helps(shared: Served, body: dict[str, Any], told: str) -> None:
    refused = shared.post("/api/v1/budgets", {"limit": "10", **body})
    assert told in message(refused)
    assert "Decimal" not in refused.body.decode()
    assert shared.get("/api/v1/budgets").json["total"] == 0


def test_every_scope_is_created_by_the_name_that_people_use(served: Served) -> None:
    virtual = served.post("/api/v1/virtual-keys", {"name": "billing", "role": "admin"}).json
    admin = {"Authorization": f"Bearer {virtual['key']}"}
    (key, *_) = served.get("/api/v1/keys", admin).json["data"]
    given = {
        "per_key": (key["label"], key["id"], key["label"]),
        "per_virtual_key": ("billing", virtual["id"], "billing"),
        "per_provider": ("openai", "openai", "openai"),
        "per_route": ("openai/gpt-4o-mini", "gpt-4o-mini", "gpt-4o-mini"),
        "per_team": ("search", "search", "search"),
        "per_tag": ("feature = chat", "feature=chat", "feature=chat"),
    }
    for scope, (name, scope_id, shown) in given.items():
        made = served.post("/api/v1/budgets", {"limit": 1, "scope": scope, "scope_id": name}, admin)
        assert (made.status, made.json["scope_id"], made.json["scope_name"]) == (201, scope_id, shown)
        listed = served.get(f"/api/v1/budgets?scope={scope}&scope_id={name.replace(' ', '%20')}", admin).json
        assert [one["id"] for one in listed["data"]] == [made.json["id"]]


def test_a_virtual_keys_budget_limits_it_and_nobody_else(served: Served) -> None:
    first = bearer(served.post("/api/v1/virtual-keys", {"name": "first", "role": "admin"}))
    second = bearer(served.post("/api/v1/virtual-keys", {"name": "second"}, first))
    body = {"limit": "0.00000001", "scope": "per_virtual_key", "scope_id": "second"}
    assert served.post("/api/v1/budgets", body, first).status == 201
    refused = served.post("/v1/chat/completions", CHAT, second)
    assert (refused.status, refused.code) == (402, "budget_exceeded")
    assert served.post("/v1/chat/completions", CHAT, first).status == 200
    mine = served.get("/api/v1/spend?by=virtual-key&virtual_key=first", first).json["data"]
    assert [(row["virtual_key_name"], row["requests"]) for row in mine] == [("first", 1)]


def bearer(issued: Answer) -> dict[str, str]:
    return {"Authorization": f"Bearer {issued.json['key']}"}


# -- what was charged -----------------------------------------------------------------------------------------------


def charged(served: Served, times: int = 1) -> Decimal:
    """Sends requests; what they cost, by their headers."""
    answers = [served.post("/v1/chat/completions", CHAT) for _ in range(times)]
    assert {answer.status for answer in answers} == {200}
    return sum((Decimal(answer.headers["x-akr-cost"]) for answer in answers), Decimal(0))


def test_the_ledgers_lines_add_up_to_what_is_spent(served: Served) -> None:
    path = f"/api/v1/budgets/{create(served)['id']}"
    assert served.get(f"{path}/entries").json["data"] == []
    cost = charged(served, 3)
    assert Decimal(served.get(path).json["current_spend"]) == cost
    lines: list[dict[str, Any]] = []
    waiting = threading.Event()
    for _ in range(100):  # a worker tells the store what it spent every quarter of a second
        lines = served.get(f"{path}/entries").json["data"]
        if sum(Decimal(line["amount"]) for line in lines) == cost:
            break
        waiting.wait(0.05)
    assert sum(Decimal(line["amount"]) for line in lines) == cost
    assert {line["kind"] for line in lines} == {"spent"}
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert {datetime.fromisoformat(line["window"]) for line in lines} == {midnight}
    assert served.get("/api/v1/budgets/budget_none/entries").code == "budget_not_found"


def report(served: Served, query: str) -> Any:
    found = served.get(f"/api/v1/spend?{query}")
    assert found.status == 200, found.json
    return found.json


def test_spend_is_reported_by_any_group_and_adds_up(served: Served) -> None:
    cost = charged(served, 4)
    whole = report(served, "by=key")
    assert whole["by"] == ["key"]
    assert sum(Decimal(row["cost"]) for row in whole["data"]) == cost
    assert sum(row["requests"] for row in whole["data"]) == whole["sum"]["requests"] == 4
    assert {row["key_label"] for row in whole["data"]} == {"openai-1", "openai-2", "openai-3"}
    assert whole["total"] == 3
    (row,) = report(served, "by=model,day&since=today")["data"]
    assert (row["model"], row["day"]) == ("gpt-4o-mini", datetime.now(UTC).date().isoformat())
    assert "key" not in row
    one = report(served, "key=openai-1&by=key")
    assert [row["key_label"] for row in one["data"]] == ["openai-1"]
    assert report(served, "model=gpt-4")["data"] == []
    assert report(served, "by=key&limit=1")["total"] == 3
    assert len(report(served, "by=key&limit=1")["data"]) == 1
    assert report(served, "since=2020-01-01&until=2020-02-01")["sum"]["requests"] == 0


def test_spend_as_csv_is_a_file_with_exact_amounts(served: Served) -> None:
    cost = charged(served, 2)
    answer = served.get("/api/v1/spend?by=key&by=model&format=csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "spend.csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert sum(Decimal(row["cost_usd"]) for row in rows) == cost
    assert {row["key_label"] for row in rows} <= {"openai-1", "openai-2", "openai-3"}
    assert "e" not in "".join(row["cost_usd"] for row in rows).lower()


@pytest.mark.parametrize(
    ("query", "told"),
    [("by=planet", "provider, key, model"), ("since=soon", "2026-11-01"), ("since=now&until=7d", "must be before"),
     ("time_zone=Berlin", "Europe/Berlin"), ("key=nobody", "No key has this id or label"), ("tag=x", "name=value"),
     ("limit=0", "limit"), ("format=xml", "format"), ("colour=red", "colour"), ("by=" + "&by=".join("abcde"), "by")],
)  # fmt: skip
def test_senseless_reports_are_refused_with_what_is_possible(shared: Served, query: str, told: str) -> None:
    assert told in message(shared.get(f"/api/v1/spend?{query}"))


def test_estimates_are_compared_with_costs(served: Served) -> None:
    assert served.get("/api/v1/costs/reconciliation").json["data"] == []
    cost = charged(served, 2)
    (found,) = served.get("/api/v1/costs/reconciliation").json["data"]
    assert (found["provider_id"], found["model"], found["requests"]) == ("openai", "gpt-4o-mini", 2)
    assert Decimal(found["actual"]) == cost
    assert found["above_bound"] == 0


# -- dry runs -------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_fits_and_holds_nothing(served: Served) -> None:
    fits = served.post("/api/v1/budgets/check", CHAT).json
    assert (fits["allowed"], fits["budgets"], fits["remaining_budget"]) == (True, [], None)
    budget = create(served, limit="0.001", name="small")
    fits = served.post("/api/v1/budgets/check", CHAT).json
    assert (fits["allowed"], fits["violated"], fits["remaining_budget"]) == (True, [], "0.001")
    assert Decimal(fits["estimate"]["amount"]) > 0
    large = {**CHAT, "max_tokens": 100_000}
    refused = served.post("/api/v1/budgets/check", large).json
    assert (refused["allowed"], refused["violated"]) == (False, [budget["id"]])
    assert refused["budgets"][0]["name"] == "small"
    assert 0 < refused["max_output_tokens"] < 100_000
    smaller = {**CHAT, "max_tokens": refused["max_output_tokens"]}
    assert served.post("/api/v1/budgets/check", smaller).json["allowed"]
    assert not served.post("/api/v1/budgets/check", {**smaller, "max_tokens": smaller["max_tokens"] + 1}).json[
        "allowed"
    ]
    stands = served.get(f"/api/v1/budgets/{budget['id']}").json
    assert (stands["held"], stands["current_spend"]) == ("0", "0")


def test_a_dry_run_is_for_a_key_and_a_caller(served: Served) -> None:
    create(served, limit="0.000000001", scope="per_key", scope_id="openai-1")
    create(served, limit="0.000000001", scope="per_team", scope_id="search")
    create(served, limit="0.000000001", scope="per_tag", scope_id="feature=chat")
    assert served.post("/api/v1/budgets/check", {**CHAT, "key_id": "openai-2"}).json["allowed"]
    for body in ({"key_id": "openai-1"}, {"tags": {"team": "search"}}, {"tags": {"feature": "chat"}}):
        assert not served.post("/api/v1/budgets/check", {**CHAT, **body, "provider_id": "openai"}).json["allowed"], body
    assert "No key" in message(served.post("/api/v1/budgets/check", {**CHAT, "key_id": "nobody"}))
    assert "virtual key" in message(served.post("/api/v1/budgets/check", {**CHAT, "tags": {"virtual_key": "nobody"}}))
    assert served.post("/api/v1/budgets/check", {"model": "gpt-4o-mini"}).status == 400


# -- alerts ---------------------------------------------------------------------------------------------------------


def test_alerts_reach_the_webhook_the_log_and_the_metrics_once_each(sim: Sim) -> None:
    with receiver() as there:
        target = read_target(there.url, new_secret(), allow_private=False, faults=[])
        with run_proxy(sim.base_url, sim.keys, webhook=target) as (served, _):
            budget = create(served, limit="0.000001", enforcement_mode="soft")
            cost = charged(served, 3)
            got = there.wait_for(4)
            metrics = served.get("/metrics").body.decode()
            logged = served.get("/api/v1/events?kind=budget.threshold").json["data"]
        assert len(there.got) == 4
    assert all(delivery.signed_with(new_secret()) for delivery in got)
    events = [delivery.json["data"] for delivery in got]
    assert {event["percent"] for event in events} == {50, 80, 95, 100}
    assert {(event["budget_id"], event["limit"], event["mode"]) for event in events} == {
        (budget["id"], "0.000001", "soft")
    }
    assert all(0 < Decimal(event["spent"]) <= cost for event in events)
    assert len(logged) == 4
    assert 'apikeyrouter_budget_alerts_total{mode="soft",percent="100"} 1.0' in metrics


def test_the_description_of_the_api_says_that_amounts_are_dollars(shared: Served) -> None:
    schemas = shared.get("/api/v1/openapi.json").json["components"]["schemas"]
    assert "US dollars" in schemas["NewBudget"]["properties"]["limit"]["description"]
    for name in ("limit_amount", "current_spend", "held", "remaining", "overrun", "presumed"):
        assert schemas["BudgetView"]["properties"][name]["description"]
    assert schemas["BudgetView"]["properties"]["limit_amount"]["type"] == "string"
    assert "US dollars" in schemas["SpendSums"]["properties"]["cost"]["description"]
