"""A proxy as it looks after a day at work: keys in several states, clients, budgets, policies, requests good and bad.

Main entry: `seed`. Everything is made over HTTP, as a user would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.processes import ProxyProcess
from tests.support.sim import Sim

__all__ = ["chat", "seed"]

_MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-4.1-nano", "gpt-4o-mini", "gpt-4.1")
_TEXTS = ("Summarise the minutes of Monday.", "Translate 'invoice' into German.", "Which of these reviews are angry?")


def chat(proxy: ProxyProcess, key: str, model: str = "gpt-4o-mini", **more: Any) -> tuple[int, Any, dict[str, str]]:
    """One request. `more`: further members of the body."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 20, **more}
    return proxy.ask("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {key}"})


def seed(proxy: ProxyProcess, sim: Sim, admin: Mapping[str, str], requests: int = 24) -> dict[str, Any]:
    """Makes it so. Gives ids that pages can be asked for: "key", "budget", "client", "decision"."""

    def made(path: str, body: Any, method: str = "POST") -> Any:
        status, told, _ = proxy.ask(method, "/api/v1" + path, body, admin)
        assert status < 300, (path, told)
        return told

    clients = [
        made("/virtual-keys", {"name": "Web shop", "team": "shop"}),
        made("/virtual-keys", {"name": "Nightly reports", "team": "finance", "rpm": 600}),
    ]
    budget = made("/budgets", {"scope": "global", "limit": "5.00", "period": "daily", "name": "All of it"})
    made(
        "/budgets",
        {"scope": "per_team", "scope_id": "shop", "limit": "0.02", "period": "monthly", "enforcement_mode": "soft"},
    )
    made("/deployments/fast", {"targets": ["openai/gpt-4o-mini", "openai/gpt-4.1-nano"]}, "PUT")
    for number in range(requests):
        client = clients[number % 2]["key"]
        content = _TEXTS[number % len(_TEXTS)]
        if number == requests // 2:
            sim.fault(sim.keys[1], "server_error")
        chat(
            proxy, client, _MODELS[number % len(_MODELS)], max_tokens=40 + number,
            messages=[{"role": "user", "content": content}], stream=number % 4 == 0,
        )  # fmt: skip
    chat(proxy, clients[0]["key"], "no-such-model")
    sim.clear_faults()
    _, keys = proxy.get("/api/v1/keys", admin)
    _, rows = proxy.get("/api/v1/requests?outcome=ok", admin)
    return {
        "key": keys["data"][0]["id"],
        "budget": budget["id"],
        "client": clients[0]["id"],
        "client_key": clients[0]["key"],
        "decision": rows["data"][0]["id"],
    }
