"""Access over real HTTP: every route and role, web pages, bodies, and what answers never tell."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter_proxy.bootstrap import Proxy
from tests.support.server import Served, run_proxy
from tests.support.sim import Sim

ADMIN_KEY = "admin-" + "k" * 20
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
CANARY = "sk-" + "canary" + "C" * 30


class Locked:
    """A proxy that demands keys, with one of each role."""

    def __init__(self, served: Served, proxy: Proxy) -> None:
        self.served = served
        self.proxy = proxy
        admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
        client = served.post("/api/v1/virtual-keys", {"name": "app", "models": ["gpt-4o*"]}, admin).json
        boss = served.post("/api/v1/virtual-keys", {"name": "boss", "role": "admin"}, admin).json
        self.headers: dict[str, dict[str, str]] = {
            "nobody": {},
            "wrong": {"Authorization": "Bearer akr_wrong"},
            "client": {"Authorization": f"Bearer {client['key']}"},
            "admin": {"x-api-key": boss["key"]},
        }


@pytest.fixture(scope="module")
def locked(sim_server: Sim) -> Iterator[Locked]:
    settings: dict[str, Any] = {"admin_key": Secret(ADMIN_KEY), "require_auth": True}
    with run_proxy(sim_server.base_url, sim_server.keys, **settings) as (served, proxy):
        yield Locked(served, proxy)


@pytest.fixture(scope="module")
def opened(sim_server: Sim) -> Iterator[Served]:
    with run_proxy(sim_server.base_url, sim_server.keys, allowed_origins=("https://app.test",)) as (served, _):
        yield served


OPEN = ("/", "/healthz", "/livez", "/readyz", "/health", "/health/liveliness", "/health/readiness", "/docs")
SESSION = "/api/v1/session"
CLIENT = ("//v1//models",)
ADMIN = ("/metrics", "/api/v1/keys", "/api/v1/providers", "/api/v1/budgets", "/api/v1/state", "/api/v1/decisions",
         "/api/v1/virtual-keys", "/api/v1/quota", "/api/v1/events", "/unknown", "/api/v1/unknown",
         "//api/v1/keys")  # fmt: skip


def test_each_role_reaches_what_is_its_own_and_nothing_else(locked: Locked) -> None:
    seen: dict[str, dict[str, int]] = {}
    for path in (*OPEN, *CLIENT, *ADMIN):
        for role, headers in locked.headers.items():
            seen.setdefault(path, {})[role] = locked.served.get(path, headers).status
    for path in OPEN:
        assert seen[path] == dict.fromkeys(locked.headers, 200), path
    for path in CLIENT:
        assert seen[path] == {"nobody": 401, "wrong": 401, "client": 200, "admin": 200}, path
    for path in ADMIN:
        found = 404 if "unknown" in path or path.startswith("//") else 200
        assert seen[path] == {"nobody": 401, "wrong": 401, "client": 403, "admin": found}, path


def test_every_route_of_the_application_is_closed_unless_it_is_named_open(locked: Locked) -> None:
    schema = locked.served.get("/api/v1/openapi.json").json
    checked = 0
    for path, methods in schema["paths"].items():
        for method in methods:
            if path in OPEN or (path == SESSION and method in ("get", "post")):
                continue
            concrete = path.replace("{model}", "gpt-4o")
            answer = locked.served.ask(method.upper(), concrete, {} if method in ("post", "patch") else None)
            assert answer.status == 401, (method, path, answer.status)
            checked += 1
    assert checked >= 25


def test_a_clients_key_and_a_cookie_without_its_word_open_no_route_of_the_management_api(locked: Locked) -> None:
    """However the key is sent; a route is found with its real parameters or not, the door comes first."""
    key = locked.headers["client"]["Authorization"].removeprefix("Bearer ")
    signed_in = locked.served.post(SESSION, {"key": ADMIN_KEY}).headers["set-cookie"].partition(";")[0]
    schema = locked.served.get("/api/v1/openapi.json").json
    routes = [(path, method) for path, methods in schema["paths"].items() for method in methods]
    routes = [one for one in routes if one[0].startswith("/api/v1/") and (one[0] != SESSION or one[1] == "delete")]
    assert len(routes) >= 70
    for path, method in routes:
        body = {} if method in ("post", "put", "patch") else None
        for headers in (locked.headers["client"], {"x-api-key": key}, {"api-key": key}, {"x-goog-api-key": key}):
            answer = locked.served.ask(method.upper(), path, body, headers)
            assert (answer.status, answer.code) == (403, "admin_key_required"), (method, path, list(headers))
        if method != "get":
            answer = locked.served.ask(method.upper(), path, body, {"Cookie": signed_in})
            assert (answer.status, answer.code) == (403, "csrf_token_missing"), (method, path)


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/openai/v1/chat/completions", "/v1/embeddings", "/v1/completions"],
)
def test_the_token_path_needs_a_key(locked: Locked, path: str) -> None:
    assert locked.served.post(path, CHAT).status == 401
    assert locked.served.post(path, CHAT, locked.headers["wrong"]).code == "invalid_api_key"


def test_a_client_key_serves_and_is_held_to_its_models(locked: Locked) -> None:
    assert locked.served.post("/v1/chat/completions", CHAT, locked.headers["client"]).status == 200
    refused = locked.served.post("/v1/chat/completions", {**CHAT, "model": "gpt-4"}, locked.headers["client"])
    assert (refused.status, refused.code) == (403, "model_not_allowed")
    assert locked.served.post("/v1/chat/completions", {**CHAT, "model": "gpt-4"}, locked.headers["admin"]).status == 200


def test_bad_keys_get_openais_error_object_with_a_request_id(locked: Locked) -> None:
    answer = locked.served.get("/v1/models", {"Authorization": f"Bearer {CANARY}"})
    assert answer.status == 401
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-request-id"].startswith("req_")
    assert CANARY not in answer.body.decode()


@pytest.mark.parametrize("path", ["/v1/models", "/api/v1/keys", "/metrics"])
def test_open_mode_refuses_dns_rebinding_and_foreign_pages(opened: Served, path: str) -> None:
    assert opened.get(path).status == 200
    rebound = opened.get(path, {"Host": "evil.example"})
    assert (rebound.status, rebound.code) == (421, "host_not_allowed")
    assert "APIKEYROUTER_ALLOWED_HOSTS" in rebound.json["error"]["message"]
    foreign = opened.get(path, {"Origin": "https://evil.example"})
    assert (foreign.status, foreign.code) == (403, "origin_not_allowed")
    assert "APIKEYROUTER_ALLOWED_ORIGINS" in foreign.json["error"]["message"]


def test_open_mode_guards_the_token_path_too(opened: Served) -> None:
    """A page can post text/plain without asking first, so the body's type protects nothing."""
    body = json.dumps(CHAT).encode()
    simple = {"Content-Type": "text/plain", "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert opened.ask("POST", "/v1/chat/completions", body, simple).status == 403
    assert opened.ask("POST", "/v1/chat/completions", body, {"Host": "evil.example:80"}).status == 421
    assert opened.ask("POST", "/v1/chat/completions", body, {"Origin": f"http://127.0.0.1:{opened.port}"}).status == 200


def test_allowed_pages_get_cors_and_others_do_not(opened: Served) -> None:
    ours = {"Origin": "https://app.test"}
    for answer in (opened.get("/v1/models", ours), opened.post("/v1/chat/completions", CHAT, ours)):
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.test"
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
    for path in ("/v1/chat/completions", "/v1/models", "/api/v1/keys"):
        granted = opened.ask("OPTIONS", path, headers={**ours, **asking})
        assert granted.status == 204
        assert granted.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
        methods = granted.headers["access-control-allow-methods"].split(", ")
        assert {"GET", "POST", "PUT", "PATCH", "DELETE"} < set(methods)
        refused = opened.ask("OPTIONS", path, headers={"Origin": "https://evil.example", **asking})
        assert refused.status == 403
        assert "access-control-allow-origin" not in refused.headers


def test_bodies_are_bounded_with_and_without_a_length(sim_server: Sim) -> None:
    with run_proxy(sim_server.base_url, sim_server.keys, body_limit_bytes=2048) as (served, _):
        large = {"name": "x" * 4000}
        assert served.post("/api/v1/virtual-keys", large).status == 413

        def chunks() -> Iterator[bytes]:
            yield b'{"name": "'
            for _ in range(10):
                yield b"x" * 1000

        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
        connection.request("POST", "/api/v1/virtual-keys", chunks(), encode_chunked=True)
        reply = connection.getresponse()
        assert (reply.status, json.loads(reply.read())["error"]["code"]) == (413, "too_large")
        connection.close()


@pytest.mark.parametrize(
    "body",
    [b"{", b"[" * 50_000, b'{"key_material": NaN', b"\xff\xfe", b'"text"', b"null", b"",
     json.dumps({"key_material": CANARY, "surprise": CANARY, CANARY: 1}).encode(),
     json.dumps({"key_material": {"nested": CANARY}}).encode(),
     json.dumps({"key_material": CANARY + "\n" + CANARY, "provider_id": "openai"}).encode(),
     json.dumps({"key_material": CANARY, "label": CANARY}).encode(),
     json.dumps({"key_material": CANARY, "metadata": {"note": CANARY}}).encode(),
     json.dumps({"key_material": CANARY, "provider_id": CANARY}).encode()],
)  # fmt: skip
def test_malformed_bodies_are_refused_without_echoing_them(locked: Locked, body: bytes) -> None:
    answer = locked.served.ask("POST", "/api/v1/keys", body, locked.headers["admin"])
    assert 400 <= answer.status < 500, answer.body
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert CANARY not in answer.body.decode()


def test_all_faults_of_a_body_are_told_together(locked: Locked) -> None:
    answer = locked.served.post(
        "/api/v1/budgets", {"scope": "planet", "limit": -1, "period": "daily", "colour": "red"}, locked.headers["admin"]
    )
    assert answer.status == 400
    message = answer.json["error"]["message"]
    assert all(name in message for name in ("scope", "limit", "colour: is not a known field"))
