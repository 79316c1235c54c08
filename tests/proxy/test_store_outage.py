"""The proxy's store goes away and comes back: a clear error at the start, later 503 with Retry-After, never a 401."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.support.command import run_cli
from tests.support.processes import proxy_process
from tests.support.servers import RedisServer, free_port
from tests.support.sim import Sim

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 20}
ADMIN_KEY = "admin-" + "k" * 20
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


def soon(what: Callable[[], bool], within_s: float = 20.0) -> None:
    """It becomes so in time."""
    until_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < until_s, "it did not happen in time"
        time.sleep(0.1)


def test_two_workers_outlive_an_outage_of_their_store(sim: Sim, tmp_path: Path) -> None:
    with RedisServer() as redis:
        env = {
            "PROXY_WORKERS": "2",
            "APIKEYROUTER_STORE": redis.url,
            "APIKEYROUTER_ENCRYPTION_KEY": "passphrase of the test",
            "APIKEYROUTER_ADMIN_KEY": ADMIN_KEY,
            "APIKEYROUTER_STALE_KEYS_S": "3",
        }
        with proxy_process(sim, tmp_path, env=env) as proxy:
            made = proxy.post("/api/v1/virtual-keys", {"name": "ci"}, ADMIN)[1]
            known = {"Authorization": f"Bearer {made['key']}"}
            unknown = {"Authorization": f"Bearer {made['key'][:-1]}0"}  # fails its checksum: never one of ours
            soon(lambda: "ApiKeyRouter listens" in proxy.log)  # both workers are there
            time.sleep(0.3)
            assert proxy.post("/v1/chat/completions", CHAT, known)[0] == 200
            redis.kill()
            until_s = time.monotonic() + 2.0
            while time.monotonic() < until_s:
                assert proxy.post("/v1/chat/completions", CHAT, known)[0] == 200
                time.sleep(0.1)
            for method, path, body in (
                ("POST", "/api/v1/virtual-keys", {"name": "late"}),
                ("DELETE", f"/api/v1/virtual-keys/{made['id']}", None),
                ("POST", "/api/v1/keys", {"key_material": "sk-late-" + "x" * 12, "provider_id": "openai"}),
            ):
                status, answer, headers = proxy.ask(method, path, body, ADMIN)
                assert (status, answer["error"]["code"]) == (503, "store_unavailable")
                assert int(headers["retry-after"]) >= 1
            assert proxy.post("/v1/chat/completions", CHAT, unknown)[0] == 401
            soon(lambda: {proxy.post("/v1/chat/completions", CHAT, known)[0] for _ in range(4)} == {503})
            status, answer, headers = proxy.ask("POST", "/v1/chat/completions", CHAT, known)
            assert (status, answer["error"]["code"]) == (503, "store_unavailable")
            assert "retry-after" in headers
            redis.start()
            soon(lambda: [proxy.post("/v1/chat/completions", CHAT, known)[0] for _ in range(4)] == [200] * 4)
            assert [proxy.post("/v1/chat/completions", CHAT, known)[0] for _ in range(4)] == [200] * 4
            assert proxy.ask("DELETE", f"/api/v1/virtual-keys/{made['id']}", headers=ADMIN)[0] == 200
            time.sleep(0.25)
            assert [proxy.post("/v1/chat/completions", CHAT, known)[0] for _ in range(4)] == [401] * 4


def test_a_start_without_the_store_says_which_one(tmp_path: Path) -> None:
    port = free_port()
    url = f"redis://:{'p' * 12}@127.0.0.1:{port}/0"
    env = {"APIKEYROUTER_STORE": url, "APIKEYROUTER_ENCRYPTION_KEY": "passphrase of the test"}
    for workers in ("1", "2"):
        ran = run_cli("serve", "--port", "0", "--workers", workers, folder=tmp_path, env=env, status=1)
        assert f"127.0.0.1:{port}" in ran.err
        assert "p" * 12 not in ran.all
        assert ran.err.count("Error:") == 1
