"""Management API over real HTTP: budgets, virtual keys, decisions, dry runs, events, health."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.models.health_state import HealthState, HealthStatus
from apikeyrouter_proxy.audit import KINDS
from apikeyrouter_proxy.bootstrap import Proxy
from tests.support.server import Served, run_proxy
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


def test_a_budget_lives_from_creation_to_deletion(served: Served) -> None:
    made = served.post("/api/v1/budgets", {"scope": "global", "limit": "1.50", "period": "daily"})
    assert made.status == 201
    budget = made.json
    assert (Decimal(budget["limit_amount"]), budget["enforcement_mode"]) == (Decimal("1.50"), "hard")
    path = f"/api/v1/budgets/{budget['id']}"
    assert served.post("/v1/chat/completions", CHAT).status == 200
    stands = served.get(path).json
    assert Decimal(stands["current_spend"]) > 0
    assert Decimal(stands["held"]) == 0
    assert Decimal(stands["remaining"]) == Decimal("1.50") - Decimal(stands["current_spend"])
    changed = served.ask("PATCH", path, {"limit": "0.000001"}).json
    assert Decimal(changed["limit_amount"]) == Decimal("0.000001")
    refused = served.post("/v1/chat/completions", CHAT)
    assert (refused.status, refused.code) == (402, "budget_exceeded")
    assert [b["id"] for b in served.get("/api/v1/budgets").json["data"]] == [budget["id"]]
    assert served.ask("DELETE", path).status == 204
    assert served.get(path).code == "budget_not_found"
    assert served.post("/v1/chat/completions", CHAT).status == 200


@pytest.mark.parametrize(
    "body",
    [{"limit": 0}, {"limit": "-1"}, {"limit": "many"}, {}, {"limit": 1, "scope": "per_key"},
     {"limit": 1, "period": "eon"},     {"limit": "NaN"}, {"limit": 1, "currency": "EUR"}],
)  # fmt: skip
def test_senseless_budgets_are_refused(shared: Served, body: dict[str, Any]) -> None:
    assert shared.post("/api/v1/budgets", body).status == 400
    assert shared.get("/api/v1/budgets").json["total"] == 0


def test_a_virtual_key_is_shown_once_and_ends_open_mode(served: Served) -> None:
    assert served.post("/v1/chat/completions", CHAT).status == 200
    expires = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    made = served.post("/api/v1/virtual-keys", {"name": "app", "models": ["gpt-4o*"], "expires_at": expires})
    assert made.status == 201
    key = made.json
    assert (key["closes_open_mode"], key["role"], key["active"]) == (True, "client", True)
    listed = served.get("/api/v1/virtual-keys")
    assert [k["id"] for k in listed.json["data"]] == [key["id"]]
    assert key["key"] not in listed.body.decode()
    assert "key" not in served.get(f"/api/v1/virtual-keys/{key['id']}").json
    assert served.post("/v1/chat/completions", CHAT).status == 401
    bearer = {"Authorization": f"Bearer {key['key']}"}
    assert served.post("/v1/chat/completions", CHAT, bearer).status == 200
    assert served.ask("DELETE", f"/api/v1/virtual-keys/{key['id']}").json["active"] is False
    assert served.post("/v1/chat/completions", CHAT, bearer).status == 401
    assert served.post("/v1/chat/completions", CHAT).status == 401
    assert served.get("/api/v1/virtual-keys?active=true").json["total"] == 0


@pytest.mark.parametrize(
    "body",
    [{}, {"name": ""}, {"name": "a\nb"}, {"name": "x" * 65}, {"name": "a", "role": "root"}, {"name": "a", "models": []},
     {"name": "a", "expires_at": "2020-01-01T00:00:00Z"}, {"name": "a", "expires_at": "2030-01-01T00:00:00"},
     {"name": "a", "key": "akr_mine"}, {"name": "a", "team": " "}, {"name": "a", "team": "a\nb"},
     {"name": "a", "tags": {"team": "x"}}, {"name": "a", "tags": {"a=b": "c"}}, {"name": "a", "tags": {"a": ""}}],
)  # fmt: skip
def test_senseless_virtual_keys_are_refused_and_open_mode_stays(shared: Served, body: dict[str, Any]) -> None:
    assert shared.post("/api/v1/virtual-keys", body).status == 400
    assert shared.get("/api/v1/state").json["open_mode"] is True


def test_a_decision_is_found_by_its_id_and_by_the_requests(served: Served) -> None:
    reply = served.post("/v1/chat/completions", CHAT)
    decision = served.get(f"/api/v1/decisions/{reply.headers['x-akr-decision']}").json
    assert decision["explanation"].startswith("Selected ")
    assert decision["details"].startswith(decision["explanation"])
    by_request = served.get(f"/api/v1/decisions/{reply.headers['x-request-id']}").json
    assert by_request == decision
    assert served.get(f"/api/v1/requests/{reply.headers['x-request-id']}").json == decision
    served.post("/v1/chat/completions", CHAT)
    listed = served.get("/api/v1/decisions?limit=1").json["data"]
    assert [one["id"] == decision["id"] for one in listed] == [False]
    of_key = served.get(f"/api/v1/decisions?key_id={decision['selected_key_id']}").json["data"]
    assert [one["id"] for one in of_key] == [decision["id"]]
    assert served.get("/api/v1/decisions/dec_nope").code == "not_found"


def test_a_dry_run_decides_without_sending(served: Served, sim: Sim) -> None:
    decision = served.post("/api/v1/route", {**CHAT, "temperature": 0.5, "objective": "cost"}).json
    assert decision["selected_key_id"] is not None
    assert decision["objective"] == "cost"
    assert decision["details"]
    weighted = {"primary": "cost", "weights": {"cost": 0.7, "reliability": 0.3}}
    assert served.post("/api/v1/route", {"model": "gpt-4o-mini", "objective": weighted}).status == 200
    assert sum(key["requests"] for key in sim.state()["keys"].values()) == 0
    assert served.get("/api/v1/state").json["open_holds"] == 0


def test_a_dry_run_says_what_its_wishes_change(shared: Served) -> None:
    real = shared.post("/api/v1/route", CHAT).json
    assert real["compared"] is None
    assert real["selected"]["key_id"] == real["selected_key_id"]
    trial = shared.post("/api/v1/route", {**CHAT, "without": [real["selected_key_id"]]}).json
    assert trial["selected_key_id"] != real["selected_key_id"]
    assert trial["compared"]["selected_key_id"] == real["selected_key_id"]
    assert trial["compared"]["same"] is False
    assert shared.post("/api/v1/route", {**CHAT, "keys": [real["selected_key_id"]]}).json["compared"]["same"] is True
    assert shared.post("/api/v1/route", CHAT).json["selected_key_id"] == real["selected_key_id"]


def test_without_a_shadow_objective_there_is_no_summary_of_it(shared: Served) -> None:
    told = shared.get("/api/v1/decisions/shadow")
    assert (told.status, told.code) == (404, "not_found")
    assert "APIKEYROUTER_SHADOW_OBJECTIVE" in str(told.json)


@pytest.mark.parametrize(
    "body",
    [{}, {"model": ""}, {**CHAT, "objective": "fastest"}, {**CHAT, "messages": []},
     {**CHAT, "objective": {"primary": "x"}}],
)  # fmt: skip
def test_a_dry_run_of_nonsense_is_refused(shared: Served, body: dict[str, Any]) -> None:
    assert shared.post("/api/v1/route", body).status == 400


def test_every_write_leaves_a_line_with_actor_and_address(served: Served) -> None:
    budget = served.post("/api/v1/budgets", {"limit": 1}).json
    served.ask("PATCH", f"/api/v1/budgets/{budget['id']}", {"limit": 2})
    served.ask("DELETE", f"/api/v1/budgets/{budget['id']}")
    key = served.post("/api/v1/virtual-keys", {"name": "app"}).json
    served.ask("DELETE", f"/api/v1/virtual-keys/{key['id']}")
    events = [e for e in served.get("/api/v1/events").json["data"] if e["kind"].startswith("admin.")]
    assert [e["kind"] for e in reversed(events)] == [
        "admin.budget.created", "admin.budget.changed", "admin.budget.deleted",
        "admin.virtual_key.created", "admin.virtual_key.revoked",
    ]  # fmt: skip
    assert all((e["document"]["actor"], e["document"]["address"]) == ("local", "127.0.0.1") for e in events)
    assert key["key"] not in str(events)
    only = served.get("/api/v1/events?kind=admin.budget.created&limit=1").json["data"]
    assert [e["entity_id"] for e in only] == [budget["id"]]
    assert served.get("/api/v1/events?kind=nonsense").status == 404
    assert len(KINDS) == len(set(KINDS))


def test_the_summary_counts_keys_and_money(served: Served) -> None:
    served.post("/v1/chat/completions", CHAT)
    state = served.get("/api/v1/state").json
    assert state["keys"]["available"] == state["keys"]["total"] == 3
    assert Decimal(state["costs"]["total_spent"]) > 0
    assert (state["open_holds"], state["in_flight"], state["simulated"]) == (0, 0, False)


def test_unknown_urls_and_methods_get_the_same_error_shape(shared: Served) -> None:
    for answer, status in ((shared.get("/api/v2/keys"), 404), (shared.ask("PUT", "/api/v1/keys", {}), 405)):
        assert answer.status == status
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}


def test_every_endpoint_is_described(shared: Served) -> None:
    schema = shared.get("/api/v1/openapi.json").json
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
    assert schema["components"]["schemas"]["NewKey"]["properties"]["key_material"]["writeOnly"] is True
    assert shared.get("/docs").status == 200


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/livez", "/readyz", "/health", "/health/liveliness", "/health/readiness"]
)
def test_probes_answer_get_and_head(shared: Served, path: str) -> None:
    assert shared.get(path).status == 200
    head = shared.ask("HEAD", path)
    assert (head.status, head.body) == (200, b"")


def test_a_draining_proxy_is_alive_but_not_ready(running: tuple[Served, Proxy]) -> None:
    served, proxy = running
    proxy.draining = True
    answer = served.get("/readyz")
    assert (answer.status, answer.json["reasons"]) == (503, ["it is shutting down"])
    assert "retry-after" in answer.headers
    assert served.get("/healthz").status == 200


class BrokenStore:
    """The store of a running proxy, from now on unreachable."""

    persistent = True
    description = "broken"

    async def health_check(self) -> HealthState:
        return HealthState(status=HealthStatus.Down, last_check=datetime.now(UTC))

    async def save_virtual_key(self, virtual_key: object, *, only_if: object = None) -> bool:
        raise StateStoreError("The disk is full.")

    def __getattr__(self, name: str) -> Any:
        raise StateStoreError("The disk is full.")


def test_when_our_store_fails_it_is_a_503_and_never_a_401(running: tuple[Served, Proxy]) -> None:
    served, proxy = running
    whole, proxy.router.state_store = proxy.router.state_store, BrokenStore()  # type: ignore[assignment]
    proxy.virtual_keys._store = BrokenStore()  # type: ignore[assignment]
    try:
        assert served.get("/readyz").json["reasons"] == ["the store does not answer"]
        refused = served.post("/api/v1/virtual-keys", {"name": "app"})
        assert (refused.status, refused.code) == (503, "store_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert served.post("/v1/chat/completions", CHAT).status == 200
    finally:
        proxy.router.state_store = whole
