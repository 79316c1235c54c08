"""What the dashboard's pages on models, providers and the last minutes ask of the management API, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from apikeyrouter.domain.routing.explain import DecisionRecord
from apikeyrouter_proxy.bootstrap import Proxy
from apikeyrouter_proxy.recent_use import READ_MAX, newest_records
from tests.support.server import Served, run_proxy
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
MODELS, PROVIDERS = "/api/v1/models", "/api/v1/providers"


@pytest.fixture
def running(sim: Sim) -> Iterator[tuple[Served, Proxy]]:
    with run_proxy(sim.base_url, sim.keys) as found:
        yield found


@pytest.fixture
def served(running: tuple[Served, Proxy]) -> Served:
    return running[0]


def asked(served: Served, times: int = 1, **body: Any) -> int:
    statuses = [served.post("/v1/chat/completions", {**CHAT, **body}).status for _ in range(times)]
    return sum(status == 200 for status in statuses)


def rows(served: Served, question: str = "") -> dict[str, dict[str, Any]]:
    answer = served.get(MODELS + question)
    assert answer.status == 200, answer.json
    return {row["id"]: row for row in answer.json["data"]}


def test_a_model_says_who_serves_it_at_what_price_what_it_can_do_and_how_it_did(served: Served, sim: Sim) -> None:
    assert asked(served, 4) == 4
    row = served.get(f"{MODELS}/gpt-4o-mini").json
    assert (row["maker"], row["context_tokens"], row["tools"], row["reasoning"]) == ("openai", 128000, True, False)
    (seller,) = row["providers"]
    assert (seller["provider_id"], seller["input"], seller["output"]) == ("openai", "0.15", "0.6")
    assert (seller["own_price"], seller["breaker"]) == (False, "closed")
    recent = row["recent"]
    assert (recent["requests"], recent["failures"], recent["success"]) == (4, 0, 1.0)
    assert 0 < recent["ttft_p50_s"] <= recent["ttft_p95_s"]
    spent = Decimal(served.get("/api/v1/state").json["costs"]["total_spent"])
    assert Decimal(recent["cost"]) == spent > 0
    assert seller["recent"] == recent
    for key in sim.keys:
        sim.fault(key, "server_error")
    assert asked(served) == 0
    assert served.get(f"{MODELS}/gpt-4o-mini").json["recent"]["success"] == pytest.approx(0.8)


def test_models_in_use_come_first_and_lists_are_pages_that_can_be_searched(served: Served) -> None:
    asked(served, 1, model="gpt-4o")
    asked(served, 2)
    whole = served.get(f"{MODELS}?limit=3").json
    assert [row["id"] for row in whole["data"]][:2] == ["gpt-4o-mini", "gpt-4o"]
    assert whole["total"] > 10
    assert len(whole["data"]) == 3
    assert list(rows(served, "?used=true")) == ["gpt-4o-mini", "gpt-4o"]
    found = rows(served, "?contains=4O-MINI")
    assert found
    assert all("4o-mini" in name for name in found)
    assert rows(served, "?provider_id=nobody") == {}
    everything = rows(served, "?limit=500")
    second = rows(served, "?limit=500&offset=1")
    assert list(everything)[1:] == list(second)
    assert served.get(f"{MODELS}?limit=501").status == 400


def test_a_price_of_ones_own_is_marked_and_its_model_is_listed_though_nobody_lists_it(served: Served) -> None:
    price = {"unit": "per_1m", "input": "0.10", "output": "0.20"}
    for model in ("gpt-4o-mini", "house-model"):
        assert served.ask("PUT", f"/api/v1/prices/openai/{model}", price).status == 200
    found = rows(served, "?limit=500")
    for model in ("gpt-4o-mini", "house-model"):
        (seller,) = found[model]["providers"]
        assert (seller["input"], seller["output"], seller["own_price"]) == ("0.1", "0.2", True)
    assert found["house-model"]["recent"] is None
    assert (found["house-model"]["listed"], found["gpt-4o-mini"]["listed"]) == (False, True)
    assert served.ask("DELETE", "/api/v1/prices/openai/gpt-4o-mini").status == 204
    assert rows(served, "?contains=gpt-4o-mini")["gpt-4o-mini"]["providers"][0]["own_price"] is False


def test_a_deployment_is_a_model_of_the_providers_behind_it(served: Served) -> None:
    put = served.ask("PUT", "/api/v1/deployments/fast", {"targets": ["openai/gpt-4o-mini"]})
    assert put.status == 200, put.json
    asked(served, 1, model="fast")
    row = served.get(f"{MODELS}/fast").json
    assert row["deployment"] is True
    assert [(one["provider_id"], one["model"]) for one in row["providers"]] == [("openai", "gpt-4o-mini")]
    assert row["recent"]["requests"] == 1


def test_an_ending_model_names_its_successor(served: Served) -> None:
    ending = [row for row in rows(served, "?limit=500").values() if row["ends"]]
    assert ending
    assert any(row["successor"] for row in ending)


def test_a_model_that_nobody_has_is_not_found_and_the_answer_says_how_to_look(served: Served) -> None:
    answer = served.get(f"{MODELS}/nonsense/of-mine")
    assert answer.status == 404
    assert "contains=" in answer.json["error"]["message"]


def test_a_provider_shows_its_recent_use_and_can_be_looked_at(served: Served, sim: Sim) -> None:
    assert asked(served, 2) == 2
    (row,) = served.get(PROVIDERS).json["data"]
    assert row["recent"]["requests"] == 2
    assert served.get(f"{PROVIDERS}/openai").json["recent"]["requests"] == 2
    found = served.post(f"{PROVIDERS}/openai/look")
    assert (found.status, found.json["answers"]) == (200, True)
    (health,) = served.get("/api/v1/health/providers").json["data"]
    assert health["latency_ms"] == found.json["latency_ms"] > 0
    added = served.post(PROVIDERS, {"id": "mine", "base_url": sim.base_url})
    assert added.status == 201
    keyless = served.post(f"{PROVIDERS}/mine/look")
    assert (keyless.status, "no key" in keyless.json["error"]["message"]) == (409, True)
    assert served.post(f"{PROVIDERS}/nobody/look").status == 404


def test_the_catalogue_lists_what_can_be_registered_by_name(served: Served) -> None:
    known = {row["id"]: row for row in served.get(f"{PROVIDERS}/known").json["data"]}
    assert known["openai"]["registered"] is True
    assert known["groq"]["registered"] is False
    assert "GROQ_API_KEY" in known["groq"]["env"]
    assert known["groq"]["base_url"].startswith("https://")
    assert any(row["variables"] for row in known.values())
    assert any(row["keyless"] for row in known.values())
    added = served.post(PROVIDERS, {"id": "groq", "known": "groq"})
    assert added.status == 201, added.json
    again = {row["id"]: row for row in served.get(f"{PROVIDERS}/known").json["data"]}
    assert again["groq"]["registered"] is True


def test_the_last_minutes_are_summed_by_how_requests_ended(served: Served, sim: Sim) -> None:
    empty = served.get("/api/v1/recent").json
    assert (empty["use"], empty["outcomes"]) == (None, [])
    assert asked(served, 3) == 3
    for key in sim.keys:
        sim.fault(key, "server_error")
    assert asked(served, 2) == 0
    told = served.get("/api/v1/recent?minutes=5").json
    assert (told["use"]["requests"], told["use"]["failures"]) == (5, 2)
    first, *others = told["outcomes"]
    assert [one["failure"] for one in told["outcomes"]] == [False, *[True for _ in others]]
    assert (first["outcome"], first["requests"]) == ("ok", 3)
    assert sum(one["requests"] for one in others) == 2
    for one in told["outcomes"]:
        decision = served.get(f"/api/v1/decisions/{one['decision_id']}").json
        assert decision["outcome"] == one["outcome"]
    assert served.get("/api/v1/recent?minutes=0").status == 400


def test_the_last_seconds_are_told_one_by_one_so_that_charts_begin_full(served: Served, sim: Sim) -> None:
    assert served.get("/api/v1/recent/seconds").json["data"] == []
    assert asked(served, 3) == 3
    for key in sim.keys:
        sim.fault(key, "server_error")
    assert asked(served, 1) == 0
    rows = served.get("/api/v1/recent/seconds?seconds=60").json["data"]
    assert sum(row["requests"] for row in rows) == 4
    assert sum(row["failures"] for row in rows) == 1
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    spent = sum(Decimal(row["cost_usd"]) for row in rows)
    assert spent == Decimal(served.get("/api/v1/recent").json["use"]["cost"])
    assert any(row["ttft_s"]["p95"] >= row["ttft_s"]["p50"] > 0 for row in rows if row["ttft_s"])
    assert served.get("/api/v1/recent/seconds?seconds=0").status == 400


def test_callers_that_go_away_are_no_failures_of_the_model(running: tuple[Served, Proxy]) -> None:
    served, proxy = running
    assert asked(served, 3) == 3
    gone, closed, _ = proxy.router.journal.records()
    gone.outcome, closed.outcome = "cancelled", "client_closed"
    told = served.get("/api/v1/recent").json
    assert (told["use"]["requests"], told["use"]["failures"], told["use"]["success"]) == (3, 0, 1.0)
    assert [one["failure"] for one in told["outcomes"]] == [False] * 3
    assert served.get(f"{MODELS}/gpt-4o-mini").json["recent"]["success"] == 1.0


def test_one_question_looks_at_a_bounded_number_of_decisions(running: tuple[Served, Proxy]) -> None:
    served, proxy = running
    assert asked(served) == 1
    journal = proxy.router.journal
    (record,) = journal.records()
    now_s = journal.utc_s()

    class Long:
        def records(self) -> list[DecisionRecord]:
            return [record] * (READ_MAX + 5)

    assert len(list(newest_records(Long(), now_s - 60))) == READ_MAX  # type: ignore[arg-type]  # only `records` is asked
    assert list(newest_records(journal, now_s + 60)) == []
