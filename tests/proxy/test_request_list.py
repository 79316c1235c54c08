"""`GET /api/v1/requests`: every finished request, newest first, filtered, page by page, past what memory holds."""

from __future__ import annotations

from typing import Any

from tests.support.server import Served, run_proxy
from tests.support.sim import Sim

CHAT = "/v1/chat/completions"


def ask(served: Served, model: str = "gpt-4o-mini", key: str = "") -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
    answer = served.post(CHAT, body, {"authorization": f"Bearer {key}"} if key else None)
    return answer.headers["x-request-id"]


def pages(served: Served, path: str) -> list[list[dict[str, Any]]]:
    """Every page of a list."""
    found, before = [], ""
    while True:
        page = served.get(path + before).json
        found.append(page["data"])
        if page["next_before"] is None:
            return found
        assert len(found) < 50
        before = f"&before={page['next_before']!r}"


def test_a_list_goes_on_where_memory_ends_and_names_each_request_once(sim_server: Sim, tmp_path: Any) -> None:
    settings = {"store_url": f"sqlite:///{tmp_path}/rows.sqlite", "router_config": {"decision_log_max": 6}}
    with run_proxy(sim_server.base_url, sim_server.keys, **settings) as (served, proxy):
        ids = [ask(served) for _ in range(20)]
        served.get("/api/v1/state")
        proxy.router.journal.flush()
        found = pages(served, "/api/v1/requests?limit=7")
        assert [len(page) for page in found] == [7, 7, 6]
        assert [row["request_id"] for page in found for row in page] == ids[::-1]
        row = found[-1][-1]
        assert (row["model"], row["outcome"], row["attempts"]) == ("gpt-4o-mini", "ok", 1)
        assert row["key_label"]
        assert float(row["cost_usd"]) > 0
        assert row["duration_s"] >= row["ttft_s"] > 0
        assert served.get(f"/api/v1/requests/{row['request_id']}").json["id"] == row["id"]


def test_rows_are_filtered_by_what_people_look_for(sim_server: Sim) -> None:
    with run_proxy(sim_server.base_url, sim_server.keys) as (served, _):
        good = ask(served)
        bad = ask(served, "no-such-model")
        key = served.post("/api/v1/virtual-keys", {"name": "app"}).json
        mine = ask(served, key=key["key"])

        def ids(query: str) -> list[str]:
            return [row["request_id"] for row in served.get(f"/api/v1/requests?{query}").json["data"]]

        assert ids("") == [mine, bad, good]
        assert ids("outcome=ok") == [mine, good]
        assert ids("outcome=failed") == [bad]
        assert ids("model=GPT-4o") == [mine, good]
        whole = served.get("/api/v1/requests").json["data"]
        assert whole[0]["caller"] == key["id"]
        assert ids(f"caller={key['id']}") == [mine]
        assert ids(f"key_id={whole[-1]['key_id']}&provider_id=openai")[-1] == good
        assert ids("provider_id=nobody") == []
        assert (
            served.get("/api/v1/requests?limit=0").status == 422 or served.get("/api/v1/requests?limit=0").status == 400
        )
