"""The health of providers over real HTTP."""

from __future__ import annotations

from tests.support.server import run_proxy
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}


def test_a_provider_that_fails_is_shown_with_its_breaker_and_nobody_becomes_unready(sim: Sim) -> None:
    with run_proxy(sim.base_url, sim.keys) as (served, _):
        assert served.post("/v1/chat/completions", CHAT).status == 200
        (before,) = served.get("/api/v1/health/providers").json["data"]
        assert (before["id"], before["keys_usable"]) == ("openai", len(sim.keys))
        assert [(b["model"], b["phase"], b["throttled"]) for b in before["breakers"]] == [("gpt-4o-mini", "closed", 0)]
        for key in sim.keys:
            sim.fault(key, "server_error")
        for _ in range(20):
            assert served.post("/v1/chat/completions", CHAT).status >= 500
        (after,) = served.get("/api/v1/health/providers").json["data"]
        assert after["status"] in ("degraded", "down")
        (breaker,) = after["breakers"]
        assert breaker["phase"] in ("open", "half_open")
        assert breaker["since"] is not None
        assert served.get("/readyz").status == 200
