"""A canary secret goes through every door and every fault; then everything that was written is searched for it.

Searched: the process's whole output, database files (with WAL), every management answer, metrics, decisions, error
bodies and reply headers; for the secret raw, reversed, hex, base64 (any alignment) and URL-encoded. Found: nothing.
"""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim

CANARY = "CaNaRy" + "QzXv7" * 5
ADMIN = "CaNaRyAdmin" + "Wk3Jp" * 5
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
FAULTS = [
    ("rate_limited", {"retry_after_s": 0.1}),
    ("revoked", {}),
    ("billing", {}),
    ("server_error", {"status": 500}),
    ("client_error", {}),
    ("reset", {}),
    ("bad_json", {}),
    ("cut_stream", {"after_chunks": 2}),
    ("stream_error", {"after_chunks": 0}),
]
READ = [
    "/api/v1/keys", "/api/v1/providers", "/api/v1/budgets", "/api/v1/decisions", "/api/v1/state", "/api/v1/events",
    "/api/v1/quota", "/api/v1/virtual-keys", "/metrics", "/healthz", "/readyz", "/v1/models", "/api/v1/openapi.json",
]  # fmt: skip


def disguises(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw
    yield raw[::-1]
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield urllib.parse.quote(secret, safe="").encode()
    for shift in range(3):  # base64 depends on where in the text the secret begins
        coded = base64.b64encode(b"x" * shift + raw).rstrip(b"=")
        yield coded[4 if shift else 0 : -4]
    yield raw[:12]


def assert_absent(where: str, data: bytes, *secrets: str) -> None:
    for secret in secrets:
        for disguise in disguises(secret):
            assert disguise not in data, f"{where} shows a secret"


def exercise(proxy: ProxyProcess, sim: Sim, secrets: tuple[str, ...]) -> list[tuple[str, bytes]]:
    seen: list[tuple[str, bytes]] = []
    admin = {"Authorization": f"Bearer {ADMIN}"}

    def keep(what: str, answer: tuple[int, object, dict[str, str]]) -> object:
        seen.append((what, json.dumps([answer[1], answer[2]]).encode()))
        return answer[1]

    material = {"key_material": secrets[0], "provider_id": "openai", "label": "canary", "metadata": {"team": "a"}}
    made = keep("add", proxy.ask("POST", "/api/v1/keys", material, admin))
    assert isinstance(made, dict)
    keep("add bad", proxy.ask("POST", "/api/v1/keys", material | {"metadata": {"weight": "x"}}, admin))
    keep("add worse", proxy.ask("POST", "/api/v1/keys", {"key_material": [secrets[0]], "nonsense": 1}, admin))
    keep("chat", proxy.ask("POST", "/v1/chat/completions", CHAT, admin))
    for kind, details in FAULTS:
        sim.fault(None, kind, **details)
        for stream in (False, True):
            keep(kind, proxy.ask("POST", "/v1/chat/completions", CHAT | {"stream": stream}, admin))
        sim.clear_faults()
        keep("enable", proxy.ask("POST", f"/api/v1/keys/{made['id']}/enable", {}, admin))
    keep("check", proxy.ask("POST", f"/api/v1/keys/{made['id']}/check", {}, admin))
    keep("rotate", proxy.ask("POST", f"/api/v1/keys/{made['id']}/rotate", {"key_material": secrets[1]}, admin))
    keep("chat", proxy.ask("POST", "/v1/chat/completions", CHAT, admin))
    keep("wrong key", proxy.ask("POST", "/v1/chat/completions", CHAT, {"Authorization": f"Bearer {secrets[2]}"}))
    for place in ("x-api-key", "x-goog-api-key"):
        keep(f"wrong {place}", proxy.ask("POST", "/v1/messages", CHAT | {"max_tokens": 9}, {place: secrets[2]}))
    for path in (
        "/v1/chat/completions",
        "/v1beta/models/m:generateContent",
        "/openai/v1/files",
        "/v1/nothing",
        "/nowhere",
    ):
        keep(f"wrong key in {path}", proxy.ask("POST", f"{path}?key={secrets[2]}&api_key={secrets[2]}", CHAT))
        keep(f"right key in {path}", proxy.ask("POST", f"{path}?key={ADMIN}", CHAT))
    keep("key in a raw path", proxy.ask("GET", f"/openai/v1/other?key={ADMIN}&access_token={secrets[2]}"))
    keep("wrong path", proxy.ask("GET", "/api/v1/nothing", None, {"X-API-Key": secrets[2]}))
    keep("history", proxy.ask("GET", f"/api/v1/keys/{made['id']}/history", None, admin))
    keep("revoke", proxy.ask("DELETE", f"/api/v1/keys/{made['id']}", None, admin))
    for path in READ:
        keep(path, proxy.ask("GET", path, None, admin))
    return seen


def test_a_secret_is_nowhere_but_in_the_request_upstream(sim: Sim, tmp_path: Path) -> None:
    secrets = tuple(f"sk-{CANARY}{i}" for i in range(3))
    env = {"APIKEYROUTER_ADMIN_KEY": ADMIN, "APIKEYROUTER_REQUIRE_AUTH": "true", "LOG_LEVEL": "DEBUG"}
    with proxy_process(sim, tmp_path, keys=[secrets[2] + "env"], env=env) as proxy:
        seen = exercise(proxy, sim, secrets)
    assert len(seen) > 30
    for what, data in seen:
        assert_absent(what, data, CANARY, ADMIN)
    assert_absent("the process's output", proxy.log.encode(), CANARY, ADMIN)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name.endswith(".sqlite") for path in files)
    for path in files:
        assert_absent(str(path), path.read_bytes(), CANARY, ADMIN)


def test_the_search_would_find_it() -> None:
    for disguise in disguises(CANARY):
        try:
            assert_absent("here", b"..." + disguise + b"...", CANARY)
        except AssertionError:
            continue
        raise RuntimeError(f"{disguise!r} was not found")
