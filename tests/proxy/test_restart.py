"""What survives: keys, budgets and decisions across a restart and a kill -9; no phantom hold afterwards."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 20}


def keys_of(proxy: ProxyProcess) -> dict[str, str]:
    status, answer = proxy.get("/api/v1/keys")
    assert status == 200
    rows = answer["data"] if isinstance(answer, dict) else answer
    return {key["label"]: key["state"] for key in rows}


def test_keys_added_through_the_api_survive_a_restart_with_their_state(sim: Sim, tmp_path: Path) -> None:
    with proxy_process(sim, tmp_path, keys=[]) as first:
        for i in (1, 2):
            material = f"sk-added-{i}-" + "x" * 12
            status, made = first.post(
                "/api/v1/keys", {"key_material": material, "provider_id": "openai", "label": f"added-{i}"}
            )
            assert status == 201
            assert material not in str(made)
        assert first.post("/v1/chat/completions", CHAT)[0] == 200
        identity = made["id"]
        assert first.post(f"/api/v1/keys/{identity}/disable", {})[0] == 200
        before = keys_of(first)
    with proxy_process(sim, tmp_path, keys=[]) as second:
        assert keys_of(second) == before == {"added-1": "available", "added-2": "disabled"}
        assert second.post("/v1/chat/completions", CHAT)[0] == 200


def test_kill_9_loses_no_key_and_leaves_no_phantom_hold(sim: Sim, tmp_path: Path) -> None:
    with proxy_process(sim, tmp_path, keys=[]) as first:
        for i in range(5):
            material = f"sk-kill-{i}-" + "x" * 12
            assert first.post("/api/v1/keys", {"key_material": material, "provider_id": "openai"})[0] == 201
        status, budget = first.post("/api/v1/budgets", {"scope": "global", "limit": "1.00", "period": "daily"})
        assert status == 201
        assert first.post("/v1/chat/completions", CHAT)[0] == 200
        sim.fault(None, "hang")
        hanging = [threading.Thread(target=_quietly, args=(first,), daemon=True) for _ in range(4)]
        for thread in hanging:
            thread.start()
        while first.get("/api/v1/state")[1]["open_holds"] < 4:
            pass
        first.kill()
    sim.clear_faults()
    with proxy_process(sim, tmp_path, keys=[]) as second:
        assert len(keys_of(second)) == 5
        assert set(keys_of(second).values()) == {"available"}
        assert second.get("/api/v1/state")[1]["open_holds"] == 0
        status, again = second.get(f"/api/v1/budgets/{budget['id']}")
        assert status == 200
        assert float(again["held"]) == 0
        assert second.post("/v1/chat/completions", CHAT)[0] == 200


def test_decisions_are_explained_after_a_restart(sim: Sim, tmp_path: Path) -> None:
    with proxy_process(sim, tmp_path) as first:
        _, _, headers = first.ask("POST", "/v1/chat/completions", CHAT)
        told = first.get(f"/api/v1/decisions/{headers['x-akr-decision']}")[1]
    with proxy_process(sim, tmp_path) as second:
        assert second.get(f"/api/v1/decisions/{headers['x-akr-decision']}")[1] == told


def _quietly(proxy: ProxyProcess) -> None:
    try:
        proxy.post("/v1/chat/completions", CHAT)
    except OSError:
        return
