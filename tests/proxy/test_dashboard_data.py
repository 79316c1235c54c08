"""What the dashboard's pages on money, clients and the audit log ask of the management API, over real HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import pytest

from apikeyrouter.domain.interfaces.state_store import StoreBatch, StoredEvent
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


def made(served: Served, **body: Any) -> dict[str, Any]:
    answer = served.post("/api/v1/budgets", {"limit": "5", **body})
    assert answer.status == 201, answer.json
    budget: dict[str, Any] = answer.json
    return budget


def test_a_budget_says_when_its_period_began_and_where_it_is_going(served: Served) -> None:
    budget = made(served, period="monthly")
    start = datetime.fromisoformat(budget["period_start"])
    assert (start.day, start.hour, budget["thresholds"], budget["passed"]) == (1, 0, [50, 80, 95, 100], [])
    assert Decimal(budget["projection"]["spend_at_end"]) == 0
    assert budget["projection"]["runs_out_at"] is None
    assert served.post("/v1/chat/completions", CHAT).status == 200
    after = served.get(f"/api/v1/budgets/{budget['id']}").json
    projection = after["projection"]
    assert Decimal(projection["spend_at_end"]) >= Decimal(after["current_spend"]) > 0
    assert projection["at"] == after["reset_at"]
    assert 0 < projection["based_on_s"] < 60  # it was made just now: a month's beginning tells nothing of it


def test_a_total_runs_out_some_day_but_has_no_end(served: Served) -> None:
    budget = made(served, period="total", limit="0.001")
    assert served.post("/v1/chat/completions", CHAT).status == 200
    projection = served.get(f"/api/v1/budgets/{budget['id']}").json["projection"]
    assert (projection["at"], projection["spend_at_end"]) == (None, None)
    assert datetime.fromisoformat(projection["runs_out_at"]) > datetime.now(UTC)


@pytest.mark.parametrize(
    "body",
    [{"scope": "global"}, {"scope": "per_provider", "scope_id": "openai"}, {"rolling": True}, {"period": "total"}],
)
def test_a_course_leads_from_nothing_to_what_is_spent_now(served: Served, body: dict[str, Any]) -> None:
    budget = made(served, **body)
    for _ in range(3):
        assert served.post("/v1/chat/completions", CHAT).status == 200
    told = served.get(f"/api/v1/budgets/{budget['id']}/course").json
    amounts = [Decimal(point["spent"]) for point in told["points"]]
    times = [datetime.fromisoformat(point["at"]) for point in told["points"]]
    assert amounts[0] == 0
    assert amounts[-1] == Decimal(told["budget"]["current_spend"]) > 0
    assert amounts == sorted(amounts)
    assert times == sorted(times)
    assert times[0] >= datetime.fromisoformat(told["budget"]["period_start"])
    assert told["exact_since"] is None


def test_the_course_of_an_unknown_budget_is_not_found(served: Served) -> None:
    assert served.get("/api/v1/budgets/nobody/course").status == 404


def test_ledger_lines_come_in_pages_without_gaps(served: Served) -> None:
    budget = made(served)
    for _ in range(4):
        assert served.post("/v1/chat/completions", CHAT).status == 200
        served.get("/api/v1/budgets")
    path = f"/api/v1/budgets/{budget['id']}/entries"
    whole = served.get(path).json["data"]
    pages = [served.get(f"{path}?limit=1&offset={offset}").json for offset in range(len(whole) + 1)]
    assert [row for page in pages for row in page["data"]] == whole
    assert all(page["total"] > offset + 1 for offset, page in enumerate(pages[: len(whole) - 1]))
    assert pages[-1]["total"] == len(whole)


def test_the_use_of_virtual_keys_names_those_that_were_used(served: Served) -> None:
    key, idle = (served.post("/api/v1/virtual-keys", {"name": name}).json for name in ("app", "idle"))
    before = datetime.now(UTC) - timedelta(seconds=1)
    headers = {"authorization": f"Bearer {key['key']}"}
    for _ in range(2):
        assert served.post("/v1/chat/completions", CHAT, headers).status == 200
    (used,) = served.get("/api/v1/virtual-keys/use").json["data"]
    assert (used["id"], used["requests"], used["failures"]) == (key["id"], 2, 0)
    assert idle["id"] != used["id"]
    assert Decimal(used["cost"]) > 0
    assert used["output_tokens"] > 0
    assert datetime.fromisoformat(used["last_used_at"]) > before
    assert served.get("/api/v1/virtual-keys/use?since=someday").status == 400


def test_requests_name_their_caller_and_are_found_by_that_name(served: Served) -> None:
    app, other = (served.post("/api/v1/virtual-keys", {"name": name}).json for name in ("Web shop", "Reports"))
    for key in (app, other, app):
        headers = {"authorization": f"Bearer {key['key']}"}
        assert served.post("/v1/chat/completions", CHAT, headers).status == 200
    rows = served.get("/api/v1/requests").json["data"]
    assert [(row["caller"], row["caller_name"]) for row in rows] == [
        (app["id"], "Web shop"), (other["id"], "Reports"), (app["id"], "Web shop"),
    ]  # fmt: skip
    for asked_for in (app["id"], "Web+shop"):
        found = served.get(f"/api/v1/requests?caller={asked_for}").json["data"]
        assert [row["id"] for row in found] == [rows[0]["id"], rows[2]["id"]]
    served.post("/api/v1/virtual-keys", {"name": "Reports"})
    assert served.get("/api/v1/requests?caller=Reports").json["data"] == [], "a name of two keys is nobody's"


def events(served: Served, **asked: Any) -> dict[str, Any]:
    answer = served.get("/api/v1/events?" + urlencode(asked))
    assert answer.status == 200, answer.json
    page: dict[str, Any] = answer.json
    return page


def test_the_audit_log_is_read_page_by_page_and_nothing_is_skipped(running: tuple[Served, Proxy]) -> None:
    served, proxy = running
    rows = [StoredEvent(1_000.0 + n // 3, "price.set", f"price-{n}", {}) for n in range(20)]  # three at a time
    proxy.router.state_store.post(StoreBatch(events=rows))
    seen: list[str] = []
    before: dict[str, float] = {"before": 2_000.0}
    while True:
        page = events(served, kind="price.set", limit=4, **before)
        assert 0 < len(page["data"]) <= 4
        seen += [row["entity_id"] for row in page["data"]]
        if page["next_before"] is None:
            break
        before = {"before": page["next_before"]}
    assert sorted(seen) == sorted(row.entity_id for row in rows)


def test_events_are_asked_for_by_the_words_that_their_kinds_begin_with(served: Served) -> None:
    made(served)
    assert served.post("/api/v1/virtual-keys", {"name": "app"}).status == 201
    kinds = {row["kind"] for row in events(served, kind="admin")["data"]}
    assert kinds == {"admin.budget.created", "admin.virtual_key.created"}
    assert {row["kind"] for row in events(served, kind="admin.budget")["data"]} == {"admin.budget.created"}
    assert {row["kind"] for row in events(served, kind="budget")["data"]} == {"budget.created"}
    assert served.get("/api/v1/events?kind=adm").status == 404
    assert served.get("/api/v1/events/kinds").json["data"] == list(KINDS)


def test_what_came_since_is_asked_for_with_the_newest_time(served: Served) -> None:
    budget = made(served)
    newest = events(served)["newest"]
    assert events(served, after=newest) == {
        "object": "list", "data": [], "total": 0, "next_before": None, "newest": newest
    }  # fmt: skip
    assert served.ask("DELETE", f"/api/v1/budgets/{budget['id']}").status == 204
    since = events(served, after=newest, kind="admin")
    assert [row["kind"] for row in since["data"]] == ["admin.budget.deleted"]
    assert since["newest"] > newest


def test_an_open_dashboard_hears_of_edits(running: tuple[Served, Proxy]) -> None:
    served, _ = running
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    try:
        connection.request("GET", "/api/v1/live")
        stream = connection.getresponse()
        assert stream.readline() == b"retry: 1000\n"
        price = {"unit": "per_1m", "input": "1", "output": "2"}
        assert served.ask("PUT", "/api/v1/prices/openai/some-model", price).status == 200
        lines = [stream.readline() for _ in range(40)]
        told = [json.loads(after[5:]) for line, after in pairwise(lines) if line == b"event: changed\n"]
        assert "price" in [what for one in told for what in one["what"]]
    finally:
        connection.close()
