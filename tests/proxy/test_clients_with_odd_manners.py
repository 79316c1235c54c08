"""Raw bodies and addresses as clients really send them, over HTTP at providers of three formats: each answer is what
whoever sent it expects."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from apikeyrouter.infrastructure.adapters.anthropic_adapter import AnthropicAdapter
from apikeyrouter.infrastructure.adapters.gemini_adapter import GeminiAdapter
from tests.support.server import Served, run_proxy
from tests.support.sim import Sim

HELLO = [{"role": "user", "content": "hi"}]
MODELS = {
    "openai": "gpt-4o-mini",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-flash",
}
RECENT_S = 1_700_000_000
"""Any time after this is no 1970."""


@pytest.fixture(scope="module")
def served(sim_server: Sim) -> Iterator[Served]:
    origin = sim_server.base_url.removesuffix("/v1")
    with run_proxy(sim_server.base_url, ["sim-key-a"]) as (running, proxy):
        for name, adapter in (("anthropic", AnthropicAdapter(origin)), ("gemini", GeminiAdapter(origin))):
            proxy.router.directory.register(name, adapter, overwrite=True)
            made = running.post("/api/v1/keys", {"provider_id": name, "key_material": "sim-key-a", "label": name})
            assert made.status == 201
        yield running


def chat(served: Served, model: str, **members: Any) -> Any:
    return served.post("/v1/chat/completions", {"model": model, "messages": HELLO, **members})


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_replies_say_when_they_were_made(served: Served, model: str) -> None:
    assert chat(served, model).json["created"] > RECENT_S
    streamed = chat(served, model, stream=True).body.decode()
    assert streamed.count('"created":0') == 0
    assert '"created":' in streamed
    told = served.post("/v1/responses", {"model": model, "input": "hi"}).json
    assert told["created_at"] > RECENT_S
    assert told["completed_at"] > RECENT_S


def test_what_a_provider_cannot_do_is_told_first_and_names_the_member(served: Served) -> None:
    answer = chat(served, MODELS["anthropic"], n=2)
    error = answer.json["error"]
    assert answer.status == 400
    assert error["message"].startswith("The request cannot be put into the format of this provider")
    assert (error["param"], error["type"]) == ("n", "invalid_request_error")
    part = {"role": "user", "content": [{"type": "hologram"}]}
    unknown = chat(served, MODELS["gemini"], messages=[part])
    assert (unknown.status, unknown.json["error"]["param"]) == (400, "messages[0].content[0].type")


@pytest.mark.parametrize(
    ("member", "value"), [("max_tokens", "10"), ("temperature", {}), ("stream", "true"), ("model", 5)]
)
def test_a_member_of_the_wrong_type_is_named(served: Served, member: str, value: Any) -> None:
    answer = served.post("/v1/chat/completions", {"model": "gpt-4o-mini", "messages": HELLO, member: value})
    assert (answer.status, answer.json["error"]["param"]) == (400, member)


@pytest.mark.parametrize(("method", "headers", "status"), [("GET", {}, 405), ("POST", {"Content-Encoding": "br"}, 415)])
def test_what_the_caller_did_wrong_is_called_so(
    served: Served, method: str, headers: dict[str, str], status: int
) -> None:
    body = {"model": "gpt-4o-mini", "messages": HELLO} if method == "POST" else None
    answer = served.ask(method, "/v1/chat/completions", body, headers)
    assert (answer.status, answer.json["error"]["type"]) == (status, "invalid_request_error")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21", {"messages": HELLO}),
        ("/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21", {"messages": HELLO}),
        ("/v1/openai/deployments/gpt-4o-mini/chat/completions", {"messages": HELLO, "model": "another"}),
        ("/v1/engines/gpt-4o-mini/chat/completions", {"messages": HELLO}),
        ("/v1beta/openai/chat/completions", {"messages": HELLO, "model": "gpt-4o-mini"}),
        ("/openai/openai/v1/chat/completions", {"messages": HELLO, "model": "gpt-4o-mini"}),
    ],
)
def test_other_addresses_of_openais_format_answer_too(
    served: Served, sim_server: Sim, path: str, body: dict[str, Any]
) -> None:
    answer = served.post(path, body, {"api-key": "any"})
    assert answer.status == 200, answer.json
    assert answer.json["object"] == "chat.completion"
    seen = sim_server.requests("sim-key-a", last=1)[0]
    assert (seen["path"], seen["json"]["model"]) == ("/v1/chat/completions", "gpt-4o-mini")
    assert "api-version" not in str(seen.get("query", ""))


def test_azures_address_reaches_models_of_other_providers_and_refuses_what_is_none(served: Served) -> None:
    asked = {"messages": HELLO, "max_tokens": 5}
    place = "/openai/deployments/claude-sonnet-4-5/chat/completions?api-version=2024-10-21"
    assert served.post(place, asked).status == 200
    broken = served.ask("POST", place, b"[]")
    assert (broken.status, broken.json["error"]["type"]) == (400, "invalid_request_error")
    assert served.ask("GET", place).status == 405


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/models"])
def test_options_says_which_methods_there_are(served: Served, path: str) -> None:
    answer = served.ask("OPTIONS", path)
    assert answer.status == 405
    assert answer.headers["allow"] == ("GET, HEAD" if path.endswith("models") else "POST")


def test_azures_clients_show_their_key_in_a_header_of_its_own(sim_server: Sim) -> None:
    with run_proxy(sim_server.base_url, ["sim-key-a"]) as (running, _):
        key = running.post("/api/v1/virtual-keys", {"name": "azure"}).json["key"]
        place = "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21"
        assert running.post(place, {"messages": HELLO}, {"api-key": key}).status == 200
        assert running.post(place, {"messages": HELLO}, {"api-key": "wrong"}).status == 401
        assert running.post(place, {"messages": HELLO}).status == 401


def raw(served: Served, *pieces: bytes) -> bytes:
    """What comes back on a connection up to its end; each piece is sent when something came back for the one before."""
    got = b""
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        for number, piece in enumerate(pieces):
            if number:
                got += connection.recv(65_536)
            connection.sendall(piece)
        while part := connection.recv(65_536):
            got += part
    return got


def head(path: str, *lines: str, version: str = "1.1") -> bytes:
    fields = ["Host: 127.0.0.1", "Content-Type: application/json", *lines]
    return "\r\n".join([f"POST {path} HTTP/{version}", *fields, "", ""]).encode()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files", "/api/v1/virtual-keys"])
def test_who_waits_to_be_asked_for_a_body_that_is_too_large_is_refused_instead(served: Served, path: str) -> None:
    got = raw(served, head(path, "Expect: 100-continue", f"Content-Length: {10**12}"))
    assert got.startswith(b"HTTP/1.1 413 "), got
    top, _, told = got.partition(b"\r\n\r\n")
    assert b"connection: close" in top, "it may send its body all the same"
    assert json.loads(told)["error"]["code"] == "too_large"


def test_who_waits_to_be_asked_for_a_body_that_fits_is_asked(served: Served) -> None:
    body = json.dumps({"model": "gpt-4o-mini", "messages": HELLO}).encode()
    told = ("Expect: 100-continue", f"Content-Length: {len(body)}", "Connection: close")
    got = raw(served, head("/v1/chat/completions", *told), body)
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "), got


def test_a_client_of_http_1_0_reads_a_stream_up_to_the_end_of_the_connection(served: Served) -> None:
    request = {"model": "gpt-4o-mini", "messages": HELLO, "stream": True}
    body = json.dumps(request).encode()
    got = raw(served, head("/v1/chat/completions", f"Content-Length: {len(body)}", version="1.0") + body)
    top, _, stream = got.partition(b"\r\n\r\n")
    assert top.split(b" ")[1] == b"200"
    assert b"transfer-encoding" not in top
    assert b"connection: close" in top
    events = stream.split(b"\n\n")
    assert all(event.startswith(b"data: ") for event in events[:-1]), stream
    assert events[-2:] == [b"data: [DONE]", b""]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/models", 200), ("GET", "/v1/none", 404)])
def test_a_client_of_http_1_0_gets_whole_answers_with_their_length(
    served: Served, method: str, path: str, status: int
) -> None:
    got = raw(served, f"{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
    top, _, body = got.partition(b"\r\n\r\n")
    assert top.split(b" ")[1] == str(status).encode()
    assert f"content-length: {len(body)}".encode() in top


def test_a_client_of_http_1_0_is_not_asked_for_its_body(served: Served) -> None:
    body = json.dumps({"model": "gpt-4o-mini", "messages": HELLO}).encode()
    told = ("Expect: 100-continue", f"Content-Length: {len(body)}")
    got = raw(served, head("/v1/chat/completions", *told, version="1.0") + body)
    assert got.startswith(b"HTTP/1.1 200 "), got
