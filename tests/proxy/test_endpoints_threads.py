"""Responses that go on from others: served by the key whose account has them, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from apikeyrouter.domain.models.call import Operation
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter_proxy.bootstrap import Proxy
from tests.support.server import Served, run_proxy
from tests.support.upstream import Upstream, upstream

KEYS = [f"sk-upstream-{n}" for n in range(4)]
ASK = {"model": "gpt-5", "input": "Hello!"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}


def response(name: str, **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}
    head = {"id": name, "object": "response", "created_at": 1, "status": "completed", "model": "gpt-5", "output": []}
    return {**head, "usage": usage, **more}


def stream(name: str) -> bytes:
    out = b""
    for number, kind in enumerate(("response.created", "response.completed")):
        event = {"type": kind, "sequence_number": number, "response": response(name)}
        out += f"event: {kind}\ndata: {json.dumps(event)}\n\n".encode()
    return out


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with upstream() as app:
        yield app


@pytest.fixture(scope="module")
def running(provider: Upstream) -> Iterator[tuple[Served, Proxy]]:
    with run_proxy(provider.base_url, KEYS) as (served, proxy):
        adapter = OpenAIAdapter(provider.base_url, operations=(Operation.Responses,), claims_all=True)
        proxy.router.directory.register("openai", adapter, overwrite=True)
        yield served, proxy


@pytest.fixture
def served(running: tuple[Served, Proxy], provider: Upstream) -> Served:
    provider.forget()
    return running[0]


@pytest.mark.parametrize("streams", [False, True])
def test_a_conversation_stays_with_the_key_that_has_it(served: Served, provider: Upstream, streams: bool) -> None:
    owners = {}
    for n in range(len(KEYS)):
        name = f"resp_{streams}_{n}"
        kind = "text/event-stream" if streams else "application/json"
        provider.answers("/v1/responses", stream(name) if streams else response(name), kind=kind)
        assert served.post("/v1/responses", ASK | {"stream": streams}).status == 200
        owners[name] = provider.last.key
    assert len(set(owners.values())) == len(KEYS)
    provider.answers("/v1/responses", response("resp_next", store=False))
    for name, key in owners.items():
        assert served.post("/v1/responses", ASK | {"previous_response_id": name}).status == 200
        assert provider.last.key == key
        for method, path in (
            ("GET", name),
            ("GET", f"{name}/input_items"),
            ("POST", f"{name}/cancel"),
            ("DELETE", name),
        ):
            provider.answers(f"/v1/responses/{path}", response(name))
            assert served.ask(method, f"/v1/responses/{path}").status == 200
            assert (provider.last.key, provider.last.method) == (key, method)
        provider.answers("/v1/responses/compact", response(name))
        assert served.post("/v1/responses/compact", ASK | {"previous_response_id": name}).status == 200
        assert provider.last.key == key
    assert served.get("/v1/responses/resp_next").status == 404  # it is not kept


def test_thoughts_that_only_one_account_can_read_go_back_to_it(served: Served, provider: Upstream) -> None:
    wants = {**ASK, "store": False, "include": ["reasoning.encrypted_content"]}
    provider.answers("/v1/responses", response("resp_t", store=False))
    owners = {}
    for n in range(len(KEYS)):
        served.post("/v1/responses", wants, {"session-id": f"thread-{n}"})
        owners[f"thread-{n}"] = provider.last.key
    assert len(set(owners.values())) == len(KEYS)
    goes_on = {**wants, "input": [{"role": "user", "content": "Hello!"}, THOUGHT, {"role": "user", "content": "On."}]}
    for session, key in owners.items():
        for _ in range(2):
            assert served.post("/v1/responses", goes_on, {"session-id": session}).status == 200
            assert provider.last.key == key


def test_an_unknown_earlier_response_is_the_providers_to_refuse(served: Served, provider: Upstream) -> None:
    told = {
        "error": {
            "message": "Previous response not found.",
            "type": "invalid_request_error",
            "param": None,
            "code": "x",
        }
    }
    provider.answers("/v1/responses", told, status=400)
    answer = served.post("/v1/responses", ASK | {"previous_response_id": "resp_elsewhere"})
    assert (answer.status, answer.json) == (400, told)


def test_a_conversation_whose_key_is_gone_is_409(provider: Upstream) -> None:
    with run_proxy(provider.base_url, KEYS[:2]) as (own, proxy):
        adapter = OpenAIAdapter(provider.base_url, operations=(Operation.Responses,), claims_all=True)
        proxy.router.directory.register("openai", adapter, overwrite=True)
        provider.answers("/v1/responses", response("resp_orphan"))
        own.post("/v1/responses", ASK)
        key = provider.last.key
        record = next(one for one in proxy.router.key_manager.records("openai") if one.secret.reveal() == key)
        assert own.ask("DELETE", f"/api/v1/keys/{record.key_id}").status < 300
        answer = own.post("/v1/responses", ASK | {"previous_response_id": "resp_orphan"})
        assert (answer.status, answer.code) == (409, "pinned_key_gone")
