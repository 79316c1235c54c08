"""Prices over real HTTP and by command: shown, set, charged, removed; unknown prices under hard and soft budgets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import run_cli
from tests.support.processes import free_port
from tests.support.server import Served, run_proxy
from tests.support.sim import Sim

MODEL = "gpt-4o-mini"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
PATH = f"/api/v1/prices/openai/{MODEL}"


@pytest.fixture
def served(sim: Sim) -> Iterator[Served]:
    with run_proxy(sim.base_url, sim.keys) as (found, _):
        yield found


@pytest.fixture(scope="module")
def shared(sim_server: Sim) -> Iterator[Served]:
    """For requests that change nothing."""
    with run_proxy(sim_server.base_url, sim_server.keys) as (found, _):
        yield found


def cost_of_a_chat(served: Served) -> tuple[Decimal, dict[str, Any]]:
    """(what the reply's header says that it cost, its usage)."""
    reply = served.post("/v1/chat/completions", CHAT)
    assert reply.status == 200
    return Decimal(reply.headers["x-akr-cost"]), reply.json["usage"]


def test_a_price_is_shown_with_its_classes_and_where_it_comes_from(shared: Served) -> None:
    price = shared.get(PATH).json
    assert price["prices"] == {"input": "0.15", "output": "0.6", "cached_input": "0.075"}
    assert price["source"].startswith("genai-prices ")
    assert (price["by_tokens"], price["override"], price["context_window"]) == (True, None, 128_000)
    assert price["tiers"]["batch"]["input"] == "0.075"
    assert price["fees"]["web_searches"] == "0.01"
    gemini = shared.get("/api/v1/prices/google/gemini-2.5-pro").json
    assert [(band["over"], band["prices"]["input"]) for band in gemini["long_context"]] == [(200_000, "2.5")]


def test_an_old_day_has_its_price(shared: Served) -> None:
    path = "/api/v1/prices/openai/gpt-5.6-sol"
    old = shared.get(f"{path}?at=2026-08-20T12:00:00Z").json
    new = shared.get(f"{path}?at=2026-08-21T12:00:00Z").json
    assert (old["prices"]["input"], old["since"]) == ("5", None)
    assert (new["prices"]["input"], new["since"]) == ("4", "2026-08-21")
    assert shared.get(f"{path}?at=2026-08-20").status == 400


def test_an_unknown_model_is_answered_with_names_that_look_like_it(shared: Served) -> None:
    answer = shared.get("/api/v1/prices/openai/gpt-4o-minni")
    assert (answer.status, answer.code) == (404, "not_found")
    assert "Did you mean gpt-4o-mini" in answer.json["error"]["message"]
    elsewhere = shared.get("/api/v1/prices/openai/claude-sonnet-4-5").json["error"]["message"]
    assert "sold by anthropic" in elsewhere
    assert "does not know this provider" in shared.get("/api/v1/prices/nobody/zzz").json["error"]["message"]


def test_lists_are_by_provider_by_model_or_what_was_set(shared: Served) -> None:
    page = shared.get("/api/v1/prices?provider_id=openai&contains=4O-MINI&limit=4").json
    assert 2 <= len(page["data"]) <= 4 < page["total"]
    sellers = [row["provider_id"] for row in shared.get(f"/api/v1/prices?model={MODEL}").json["data"]]
    assert sellers[0] == "openai"
    assert shared.get("/api/v1/prices").json["data"] == []
    assert shared.get("/api/v1/prices/overrides").json["total"] == 0


def test_a_price_that_is_set_is_charged_until_it_is_removed(served: Served) -> None:
    listed, usage = cost_of_a_chat(served)
    at_list = usage["prompt_tokens"] * Decimal("0.00000015") + usage["completion_tokens"] * Decimal("0.0000006")
    assert listed == at_list
    made = served.ask("PUT", PATH, {"unit": "per_1k", "input": "0.3", "output": 0.6, "note": "contract"})
    assert made.status == 200
    assert (made.json["origin"], made.json["in_force"]) == ("management API", True)
    shown = served.get(PATH).json
    assert (shown["prices"], shown["override"]["document"]["note"]) == ({"input": "300", "output": "600"}, "contract")
    ours, usage = cost_of_a_chat(served)
    assert ours == usage["prompt_tokens"] * Decimal("0.0003") + usage["completion_tokens"] * Decimal("0.0006")
    assert [row["model"] for row in served.get("/api/v1/prices").json["data"]] == [MODEL]
    assert served.ask("DELETE", PATH).status == 204
    assert served.ask("DELETE", PATH).status == 404
    assert cost_of_a_chat(served)[0] == at_list
    kinds = [event["kind"] for event in served.get("/api/v1/events").json["data"]]
    assert {"admin.price.set", "admin.price.removed", "price.set", "price.removed"} <= set(kinds)


def test_a_multiplier_is_times_the_list_price_for_every_model_of_a_pattern(served: Served) -> None:
    before, _ = cost_of_a_chat(served)
    assert served.ask("PUT", "/api/v1/prices/*/gpt-4o*", {"multiplier": "10"}).status == 200
    assert cost_of_a_chat(served)[0] == before * 10


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "give input and output"),
        ({"input": 1, "output": 2}, "unit must say"),
        ({"unit": "per_1m", "input": -1, "output": 2}, "input must be between"),
        ({"unit": "per_1m", "input": 1, "output": 2, "currency": "EUR"}, "unknown field currency"),
        ({"multiplier": "half"}, "multiplier must be an amount"),
        ({"unit": "per_1m", "input": False, "output": 2}, "input"),
    ],
)
def test_senseless_prices_are_refused_and_change_nothing(shared: Served, body: dict[str, Any], told: str) -> None:
    answer = shared.ask("PUT", PATH, body)
    assert answer.status == 400
    assert told in answer.json["error"]["message"]
    assert shared.get("/api/v1/prices/overrides").json["total"] == 0


def test_an_unknown_price_is_refused_by_name_under_a_hard_budget_and_told_otherwise(served: Served) -> None:
    strange = {**CHAT, "model": "no-list-knows-me"}
    free = served.post("/v1/chat/completions", strange)
    assert "unknown_price" not in str(free.json)
    budget = served.post("/api/v1/budgets", {"limit": "5", "enforcement_mode": "soft"}).json
    assert served.post("/v1/chat/completions", strange).status == free.status
    served.ask("PATCH", f"/api/v1/budgets/{budget['id']}", {"enforcement_mode": "hard"})
    refused = served.post("/v1/chat/completions", strange)
    assert (refused.status, refused.code) == (402, "unknown_price")
    assert "no-list-knows-me" in refused.json["error"]["message"]
    assert (
        served.ask("PUT", "/api/v1/prices/*/no-list-knows-me", {"unit": "per_1m", "input": 1, "output": 1}).status
        == 200
    )
    assert served.post("/v1/chat/completions", strange).status == free.status


def test_prices_of_the_settings_hold_and_cannot_be_removed_by_the_api(sim: Sim) -> None:
    row = {"provider": "openai", "model": MODEL, "unit": "per_1m", "input": "100", "output": "100"}
    with run_proxy(sim.base_url, sim.keys, router_config={"prices": json.dumps([row])}) as (served, _):
        cost, usage = cost_of_a_chat(served)
        assert cost == usage["total_tokens"] * Decimal("0.0001")
        refused = served.ask("DELETE", PATH)
        assert refused.status == 404
        assert "configuration" in refused.json["error"]["message"]


def test_commands_show_set_list_and_remove_on_a_store(tmp_path: Path) -> None:
    env = {"PROXY_PORT": str(free_port()), "APIKEYROUTER_STORE": f"sqlite:///{tmp_path / 'router.db'}"}

    def akr(*arguments: str, status: int = 0) -> Any:
        return run_cli("prices", *arguments, folder=tmp_path, env=env, status=status)

    shown = akr("show", MODEL).all
    for text in ("gpt-4o-mini at openai", "genai-prices", "cached input", "$0.075", "batch", "128,000"):
        assert text in shown
    assert "$5 " in akr("show", "gpt-5.6-sol", "--provider", "openai", "--at", "2026-08-01").all
    assert "Did you mean gpt-4o-mini" in akr("show", "gpt-4o-minni", status=1).all
    assert "--per 1m or --per 1k" in akr("set", MODEL, "input=1", "output=2", status=2).all
    assert "is no amount" in akr("set", MODEL, "inptu=1", "--per", "1m", status=2).all
    assert "unit must say" in akr("set", MODEL, "input=1", "output=2", "--per", "token", status=1).all
    akr("set", MODEL, "-p", "openai", "--per", "1k", "input=0.001", "output=0.002", "reasoning=0.003")
    set_price = akr("show", MODEL, "--json").json
    assert set_price["prices"] == {"input": "1", "output": "2", "reasoning": "3"}
    assert set_price["override"]["origin"] == "management API"
    assert "input=0.001" in akr("list").all
    akr("set", "gpt-4o*", "multiplier=0.8", "--from", "2099-01-01")
    assert "gpt-4o*" in akr("list").all
    akr("remove", MODEL, "-p", "openai")
    akr("remove", "gpt-4o*")
    assert "no price" in akr("list").all
    assert "deepseek-chat" in akr("list", "--provider", "deepseek").all
    assert "No price was set" in akr("remove", MODEL, status=1).all
