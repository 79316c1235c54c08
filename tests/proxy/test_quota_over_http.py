"""Quota as users see it, over real HTTP: pools, limits that headers told, outlooks, alerts, metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from apikeyrouter_proxy.bootstrap import Proxy
from apikeyrouter_proxy.webhook_target import read_target
from tests.support.receiver import Delivery, Receiver, new_secret, receiver
from tests.support.server import Served, run_proxy
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
KEYS = ("sk-quota-a", "sk-quota-b", "sk-quota-c")


@pytest.fixture
def limited(sim: Sim) -> Sim:
    """Three accounts with limits of their own, of 60, 120 and no requests a minute."""
    for key, limits in zip(KEYS, ({"rpm": 60, "tpm": 100_000}, {"rpm": 120, "tpm": None}, "none"), strict=True):
        sim.add_account(f"account of {key}", key, limits=limits)
    return sim


@pytest.fixture
def running(limited: Sim) -> Iterator[tuple[Served, Proxy]]:
    with run_proxy(limited.base_url, KEYS) as found:
        yield found


@pytest.fixture
def served(running: tuple[Served, Proxy]) -> Served:
    return running[0]


def pools(served: Served, query: str = "") -> dict[str, dict[str, Any]]:
    """Pools by the label of their first key."""
    return {pool["key_labels"][0]: pool for pool in served.get(f"/api/v1/quota{query}").json["data"]}


def limit_of(pool: dict[str, Any], name: str = "requests per minute") -> dict[str, Any]:
    """The limit of this name that is known."""
    (found,) = [one for one in pool["limits"] if one["name"] == name and one["limit"] is not None]
    return dict(found)


def until(true: Callable[[], Any], within_s: float = 15.0) -> Any:
    """What `true` returns, asked again until it is something."""
    deadline_s = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline_s
    return found


def test_before_any_request_nothing_is_known_and_said_to_be(served: Served) -> None:
    found = pools(served)
    assert list(found) == ["openai-1", "openai-2", "openai-3"]
    for pool in found.values():
        assert (pool["capacity_state"], pool["outlook"]) == ("unknown", "limit unknown")
        assert all(one["limit"] is None and one["source"] == "unknown" for one in pool["limits"])


def test_a_pool_shows_what_headers_told_and_an_outlook(served: Served) -> None:
    for _ in range(6):
        assert served.post("/v1/chat/completions", CHAT).status == 200
    found = pools(served)
    one, two, three = (found[f"openai-{i}"] for i in (1, 2, 3))
    requests = limit_of(one)
    assert (requests["limit"], requests["remaining"], requests["source"]) == (60, 58, "header")
    assert 0.0 <= requests["age_s"] < 15.0
    assert limit_of(one, "tokens per minute")["limit"] == 100_000
    assert (limit_of(two)["limit"], limit_of(two)["remaining"]) == (120, 118)
    assert requests["prediction"]["text"] == one["outlook"] == "lasts"
    assert one["capacity_state"] == "abundant"
    # a provider that tells nothing is only counted
    assert all(limit["limit"] is None for limit in three["limits"])
    assert [limit["used"] for limit in three["limits"] if limit["name"] == "requests per minute"] == [2]


def test_a_key_shows_its_pool_its_period_and_its_prediction(served: Served) -> None:
    for _ in range(3):
        served.post("/v1/chat/completions", CHAT)
    key_id = pools(served)["openai-1"]["key_ids"][0]
    state = served.get(f"/api/v1/quota/{key_id}").json
    assert (state["remaining_capacity"]["value"], state["total_capacity"], state["used_requests"]) == (59, 60, 1)
    assert state["time_window"] == "minute"
    daily = served.get(f"/api/v1/quota/{key_id}?time_window=daily").json
    assert (daily["time_window"], daily["total_capacity"]) == ("daily", None)
    told = served.get(f"/api/v1/quota/{key_id}/prediction?model=gpt-4o-mini").json
    assert told["key_id"] == key_id
    assert told["outlook"] == told["prediction"]["text"] == "lasts"
    assert 0.0 <= told["prediction"]["chance_10s"] <= told["prediction"]["chance_60s"] <= 1.0
    idle = served.get(f"/api/v1/quota/{key_id}/prediction?model=gpt-4o").json
    assert (idle["prediction"], idle["outlook"]) == (None, "limit unknown, or not in use")


def test_who_asks_for_what_is_not_there_is_told_so(served: Served) -> None:
    for path in ("/api/v1/quota/key_nope", "/api/v1/quota/key_nope/prediction", "/api/v1/quota?key_id=key_nope"):
        answer = served.get(path)
        assert (answer.status, answer.code) == (404, "key_not_found"), path
    nobody = served.get("/api/v1/quota?provider_id=nobody")
    assert (nobody.status, nobody.code) == (404, "not_found")
    assert "openai" in nobody.json["error"]["message"]
    key_id = pools(served)["openai-1"]["key_ids"][0]
    never = served.get(f"/api/v1/quota/{key_id}?time_window=total")
    assert (never.status, never.json["error"]["param"]) == (400, "time_window")
    assert "'minute'" in never.json["error"]["message"]
    assert served.get("/api/v1/quota?order=random").status == 400
    assert served.get("/api/v1/quota?limit=501").status == 400


def test_pools_come_in_pages_by_provider_key_model_and_urgency(served: Served) -> None:
    for _ in range(6):
        served.post("/v1/chat/completions", CHAT)
    whole = served.get("/api/v1/quota").json
    assert (whole["total"], whole["worker"]) == (3, None)
    page = served.get("/api/v1/quota?limit=1&offset=1").json
    assert page["total"] == 3
    assert [one["pool_id"] for one in page["data"]] == [whole["data"][1]["pool_id"]]
    assert served.get("/api/v1/quota?provider_id=openai&offset=3").json["data"] == []
    second = whole["data"][1]["key_ids"][0]
    only = served.get(f"/api/v1/quota?key_id={second}").json
    assert (only["total"], only["data"][0]["key_ids"]) == (1, [second])
    (limits,) = [
        pool["limits"] for pool in pools(served, "?model=gpt-4o").values() if pool["key_labels"] == ["openai-1"]
    ]
    assert all(limit["models"] == "*" for limit in limits)
    # what is known to be pressed comes first, what is not known last
    assert list(pools(served, "?order=urgency"))[-1] == "openai-3"


def test_keys_of_one_pool_are_one_pool_and_revoked_ones_are_gone(served: Served) -> None:
    for label in ("left", "right"):
        body = {"key_material": f"sk-quota-{label}", "provider_id": "openai", "label": label}
        served.post("/api/v1/keys", {**body, "metadata": {"quota_pool": "acme", "rpm": 40}})
    acme = pools(served)["left"]
    assert (acme["pool_id"], acme["key_labels"]) == ("openai/acme", ["left", "right"])
    assert (limit_of(acme)["limit"], limit_of(acme)["source"], acme["outlook"]) == (40, "configured", "not in use")
    served.ask("DELETE", f"/api/v1/keys/{acme['key_ids'][0]}")
    assert pools(served)["right"]["key_labels"] == ["right"]


def ask_until_an_alert(served: Served, there: Receiver) -> tuple[Delivery, int]:
    """Requests at a steady pace until an alert comes: the alert, and how many were refused before it."""
    refused = 0
    for _ in range(200):
        refused += served.post("/v1/chat/completions", CHAT).status != 200
        with suppress(AssertionError):
            return there.wait_for(1, within_s=0.05)[0], refused
    raise AssertionError("no alert came")


def test_an_alert_goes_to_the_webhook_before_the_pool_is_dry(limited: Sim) -> None:
    faults: list[str] = []
    with receiver() as there:
        target = read_target(there.url, new_secret(), allow_private=False, faults=faults)
        with run_proxy(limited.base_url, KEYS[:1], webhook=target) as (served, _):
            alert, refused = ask_until_an_alert(served, there)
            left = limit_of(pools(served)["openai-1"])["remaining"]
            assert (left > 0, refused) == (True, 0)
            told = until(lambda: served.get("/api/v1/events?kind=quota.runs_dry").json["data"])
            scraped = served.get("/metrics").body.decode()
            listed = served.get("/api/v1/webhooks").json["data"]
    assert alert.signed_with(new_secret())
    data = alert.json["data"]
    assert alert.json["type"] == "quota.runs_dry"
    assert (data["provider_id"], data["keys"], data["models"]) == ("openai", ["openai-1"], "gpt-4o-mini")
    assert (data["limit_name"], data["limit"]) == ("requests per minute", 60)
    assert 0 < data["remaining"] < 60
    assert data["runs_dry_at"] > data["at"]
    assert "dry" in data["outlook"]
    assert [(one["kind"], one["entity_id"]) for one in told] == [("quota.runs_dry", data["pool_id"])]
    assert [one["type"] for one in listed] == ["quota.runs_dry"]
    assert 'apikeyrouter_quota_alerts_total{alert="runs_dry",provider="openai"} 1.0' in scraped
    of_limit = f'{{limit="requests per minute",models="gpt-4o-mini",pool="{data["pool_id"].partition("/")[2]}"'
    assert f"apikeyrouter_quota_remaining_ratio{of_limit}" in scraped
    assert f"apikeyrouter_quota_pressure{of_limit}" in scraped
    assert f"apikeyrouter_quota_state{of_limit}" in scraped
    assert "apikeyrouter_quota_pools 1.0" in scraped
