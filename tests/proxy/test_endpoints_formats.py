"""Clients of four formats and providers of three, over real HTTP: each gets its own words back, errors included."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Operation
from apikeyrouter.infrastructure.adapters.anthropic_adapter import AnthropicAdapter
from apikeyrouter.infrastructure.adapters.gemini_adapter import GeminiAdapter
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter_proxy.bootstrap import Proxy
from tests.support.server import Answer, Served, run_proxy
from tests.support.upstream import CHAT_ANSWER, Upstream, upstream

HELLO = [{"role": "user", "content": "Hello!"}]
CONTENTS = [{"role": "user", "parts": [{"text": "Hello!"}]}]
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}
CHAT = [
    {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini",
     "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}]}
    for text in ("Hel", "lo!")
]  # fmt: skip
CHAT_END = {**CHAT[0], "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
CHAT_USAGE = {**CHAT[0], "choices": [], "usage": CHAT_ANSWER["usage"]}
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "Hello!"}], "stop_reason": "end_turn", "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 2},
}  # fmt: skip
CANDIDATE: dict[str, Any] = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello!"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11},
    "modelVersion": "gemini-2.5-flash", "responseId": "r1",
}  # fmt: skip
ANTHROPIC = {"anthropic-version": "2023-06-01", "x-api-key": "any"}


def sse(*events: dict[str, Any], named: bool = False, done: bool = False) -> bytes:
    out = ""
    for one in events:
        out += f"event: {one['type']}\n" if named else ""
        out += f"data: {json.dumps(one)}\n\n"
    return (out + ("data: [DONE]\n\n" if done else "")).encode()


CHAT_STREAM = sse(*CHAT, CHAT_END, CHAT_USAGE, done=True)
MESSAGE_STREAM = sse(
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello!"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 2},
    },
    {"type": "message_stop"},
    named=True,
)


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with upstream() as app:
        yield app


@pytest.fixture(scope="module")
def running(provider: Upstream) -> Iterator[tuple[Served, Proxy]]:
    with run_proxy(provider.base_url, ["sk-openai"]) as (served, proxy):
        directory = proxy.router.directory
        chat_only = (Operation.Chat, Operation.Embeddings)
        directory.register(
            "openai", OpenAIAdapter(provider.base_url, operations=chat_only, claims_all=False), overwrite=True
        )
        directory.register("anthropic", AnthropicAdapter(provider.base_url), overwrite=True)
        directory.register("gemini", GeminiAdapter(provider.base_url.replace("/v1", "/v1beta")), overwrite=True)
        for name in ("anthropic", "gemini"):
            made = served.post("/api/v1/keys", {"key_material": f"sk-{name}-key", "provider_id": name})
            assert made.status == 201, made.json
        yield served, proxy


def tell(provider: Upstream) -> None:
    provider.forget()
    provider.answers("/v1/chat/completions", CHAT_ANSWER)
    provider.answers("/v1/messages", MESSAGE)
    provider.answers("/v1/models", {"data": [{"id": MODELS["openai"]}, {"id": MODELS["anthropic"]}]})
    provider.answers("/v1beta/models", {"models": [{"name": f"models/{MODELS['gemini']}", "inputTokenLimit": 9}]})
    provider.answers(f"/v1beta/models/{MODELS['gemini']}:generateContent", CANDIDATE)


@pytest.fixture
def served(running: tuple[Served, Proxy], provider: Upstream) -> Served:
    tell(provider)
    return running[0]


def ask_chat(served: Served, model: str, **more: Any) -> Answer:
    return served.post("/v1/chat/completions", {"model": model, "messages": HELLO, **more})


def ask_messages(served: Served, model: str, **more: Any) -> Answer:
    body = {"model": model, "messages": HELLO, "max_tokens": 64, **more}
    return served.post("/v1/messages?beta=true", body, ANTHROPIC)


def ask_gemini(served: Served, model: str, **more: Any) -> Answer:
    return served.post(
        f"/v1beta/models/{model}:generateContent", {"contents": CONTENTS, **more}, {"x-goog-api-key": "any"}
    )


def ask_responses(served: Served, model: str, **more: Any) -> Answer:
    return served.post("/v1/responses", {"model": model, "input": "Hello!", "store": False, **more})


def text_of(answer: Answer) -> str:
    """The text of a whole reply, by the words of whichever format."""
    said = answer.json
    if "choices" in said:
        return str(said["choices"][0]["message"]["content"])
    if "candidates" in said:
        return str(said["candidates"][0]["content"]["parts"][0]["text"])
    if "output" in said:
        return str(next(one for one in said["output"] if one["type"] == "message")["content"][0]["text"])
    return str(said["content"][0]["text"])


CLIENTS = {"chat": ask_chat, "messages": ask_messages, "gemini": ask_gemini, "responses": ask_responses}
MARKS = {"chat": "choices", "messages": "stop_reason", "gemini": "candidates", "responses": "output"}
NATIVE = {"chat": "openai", "messages": "anthropic", "gemini": "gemini"}


@pytest.mark.parametrize("provider_id", MODELS)
@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_is_served_by_every_provider_in_its_own_words(
    served: Served, provider: Upstream, client: str, provider_id: str
) -> None:
    answer = CLIENTS[client](served, MODELS[provider_id])
    assert answer.status == 200, answer.json
    assert text_of(answer) == "Hello!"
    assert MARKS[client] in answer.json
    assert answer.headers["x-akr-provider"] == provider_id
    assert answer.headers["content-type"].startswith("application/json")
    assert float(answer.headers["x-akr-cost"]) > 0
    assert ("request-id" in answer.headers) == (client == "messages")
    if NATIVE.get(client) == provider_id == "anthropic":
        assert answer.json == MESSAGE
        assert provider.last.target == "/v1/messages?beta=true"


def refusals(client: str, answer: Answer) -> tuple[str, str]:
    """(kind, message), after checking that the error has the format's shape."""
    told = answer.json
    if client == "messages":
        assert told["type"] == "error"
        assert told["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
        return told["error"]["type"], told["error"]["message"]
    error = told["error"]
    if client == "gemini":
        assert error["code"] == answer.status
        return error["status"], error["message"]
    assert {"message", "type", "param", "code"} <= set(error)
    return error["type"], error["message"]


@pytest.mark.parametrize(
    ("client", "status", "kind"),
    [
        ("chat", 404, "invalid_request_error"), ("messages", 404, "not_found_error"), ("gemini", 404, "NOT_FOUND"),
        ("responses", 404, "invalid_request_error"),
    ],
)  # fmt: skip
def test_a_model_that_nobody_has_is_told_in_the_clients_words(
    served: Served, provider: Upstream, client: str, status: int, kind: str
) -> None:
    answer = CLIENTS[client](served, "no-such-model")
    assert (answer.status, refusals(client, answer)[0]) == (status, kind)
    assert not provider.seen


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("provider_id", MODELS)
def test_a_providers_own_400_comes_back_untouched_or_in_the_clients_words(
    served: Served, provider: Upstream, client: str, provider_id: str
) -> None:
    told = {
        "openai": {
            "error": {"message": "Too hot.", "type": "invalid_request_error", "param": "temperature", "code": "bad"}
        },
        "anthropic": {"type": "error", "error": {"type": "invalid_request_error", "message": "Too hot."}},
        "gemini": {"error": {"code": 400, "message": "Too hot.", "status": "INVALID_ARGUMENT"}},
    }[provider_id]
    path = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}.get(
        provider_id, f"/v1beta/models/{MODELS['gemini']}:generateContent"
    )
    provider.answers(path, told, status=400)
    answer = CLIENTS[client](served, MODELS[provider_id])
    assert answer.status == 400
    if NATIVE.get(client) == provider_id:
        assert answer.json == told
    else:
        assert "Too hot." in refusals(client, answer)[1]
    assert len(provider.seen) == 1


def param_of(client: str, answer: Answer) -> Any:
    """The member that an error is about, where each format tells it."""
    error = answer.json["error"]
    if client != "gemini":
        return error["param"]
    return next(one["fieldViolations"][0]["field"] for one in error["details"] if "fieldViolations" in one)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("provider_id", ["openai", "gemini"])
def test_what_a_providers_400_is_about_survives_translation(
    served: Served, provider: Upstream, client: str, provider_id: str
) -> None:
    violation = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "temperature"}]}
    errors: dict[str, Any] = {
        "openai": {"error": {"message": "Too hot.", "type": "invalid_request_error", "param": "temperature"}},
        "gemini": {"error": {"code": 400, "message": "Too hot.", "status": "INVALID_ARGUMENT", "details": [violation]}},
    }
    told = errors[provider_id]
    path = {"openai": "/v1/chat/completions", "gemini": f"/v1beta/models/{MODELS['gemini']}:generateContent"}
    provider.answers(path[provider_id], told, status=400)
    provider.answers("/v1/responses", told, status=400)
    answer = CLIENTS[client](served, MODELS[provider_id])
    assert (answer.status, param_of(client, answer)) == (400, "temperature")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_rate_limit_is_429_with_a_true_time_for_every_client(served: Served, provider: Upstream, client: str) -> None:
    with run_proxy(provider.base_url, ["sk-limited"], router_config={"quota_wait_s": "0"}) as (own, proxy):
        proxy.router.directory.register("openai", OpenAIAdapter(provider.base_url, claims_all=True), overwrite=True)
        told = {"error": {"message": "Rate limit reached. Please try again in 20s.", "code": "rate_limit_exceeded"}}
        provider.answers("/v1/chat/completions", told, status=429)
        answer = CLIENTS[client](own, "gpt-4o-mini")
        kind = refusals(client, answer)[0]
        assert (answer.status, kind) == (429, "RESOURCE_EXHAUSTED" if client == "gemini" else "rate_limit_error")
        assert 15 <= int(answer.headers["retry-after"]) <= 25  # with a little chance, so that not all come at once
        assert answer.headers.get("x-should-retry") != "false"


@pytest.mark.parametrize(("client", "kind"), [("messages", "billing_error"), ("chat", "insufficient_quota")])
def test_a_spent_budget_is_402_and_is_not_tried_again(provider: Upstream, client: str, kind: str) -> None:
    with run_proxy(provider.base_url, ["sk-poor"]) as (own, _):
        assert own.post("/api/v1/budgets", {"scope": "global", "limit": "0.0000001", "period": "daily"}).status == 201
        answer = CLIENTS[client](own, "gpt-4o-mini")
        assert (answer.status, refusals(client, answer)[0]) == (402, kind)
        assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("client", "path", "body", "param"),
    [
        ("messages", "/v1/messages", {"model": "claude-sonnet-4-5", "messages": HELLO}, "max_tokens"),
        ("messages", "/v1/messages", {"model": "claude-sonnet-4-5", "max_tokens": 9}, "messages"),
        ("messages", "/v1/messages", {"messages": HELLO, "max_tokens": 9}, "model"),
        ("messages", "/v1/messages/count_tokens", {"model": "claude-sonnet-4-5"}, "messages"),
        ("gemini", "/v1beta/models/gemini-2.5-flash:generateContent", {"tools": []}, "contents"),
        ("gemini", "/v1beta/models/gemini-2.5-flash:countTokens", {}, "contents"),
        ("responses", "/v1/responses", {"model": "gpt-4o-mini"}, "input"),
    ],
)
def test_what_is_missing_is_named_in_the_clients_words(
    served: Served, provider: Upstream, client: str, path: str, body: dict[str, Any], param: str
) -> None:
    answer = served.post(path, body)
    assert answer.status == 400
    assert param in refusals(client, answer)[1]
    assert not provider.seen


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\x00", b'{"a":' * 3000, b'"x"', b'{"model": 1}', b"\xff\xfe"])
@pytest.mark.parametrize(
    ("client", "path"),
    [
        ("messages", "/v1/messages"), ("messages", "/v1/messages/count_tokens"), ("responses", "/v1/responses"),
        ("gemini", "/v1/models/m:streamGenerateContent?alt=sse"), ("chat", "/v1/embeddings"),
    ],
)  # fmt: skip
def test_no_body_is_a_fault_of_ours(served: Served, provider: Upstream, client: str, path: str, body: bytes) -> None:
    answer = served.ask("POST", path, body)
    assert answer.status == 400
    refusals(client, answer)
    assert not provider.seen


@pytest.mark.parametrize(
    ("client", "method", "path", "headers"),
    [
        ("messages", "POST", "/v1/messages/nothing/at/all", {}),
        ("messages", "GET", "/v1/nothing", {"anthropic-version": "2023-06-01"}),
        ("gemini", "POST", "/v1beta/nothing", {}),
        ("gemini", "POST", "/v1beta/models/m:fly", {}),
        ("chat", "POST", "/v1/nothing", {}),
        ("messages", "GET", "/v1/messages", {}),
        ("gemini", "GET", "/v1beta/models/m:generateContent", {}),
    ],
)
def test_unknown_paths_and_methods_are_told_in_the_clients_words(
    served: Served, client: str, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = served.ask(method, path, {} if method == "POST" else None, headers)
    assert answer.status in (404, 405)
    refusals(client, answer)


@pytest.mark.parametrize(
    ("client", "path", "kind"),
    [
        ("messages", "/v1/messages", "authentication_error"),
        ("gemini", "/v1beta/models/m:generateContent", "UNAUTHENTICATED"),
        ("gemini", "/v1beta/models", "UNAUTHENTICATED"),
        ("responses", "/v1/responses", "authentication_error"),
        ("chat", "/v1/nothing", "authentication_error"),
    ],
)
def test_401_is_told_in_the_clients_words(provider: Upstream, client: str, path: str, kind: str) -> None:
    with run_proxy(provider.base_url, ["sk-x"], require_auth=True, admin_key=Secret("a-long-admin-key")) as (own, _):
        answer = own.ask("GET" if path.endswith("/models") else "POST", path, None)
        assert (answer.status, refusals(client, answer)[0]) == (401, kind)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/gpt-4o-mini", "/openai/models", "/models"])
def test_lists_of_models_have_openais_shape_unless_somebody_else_asks(served: Served, path: str) -> None:
    assert served.get(path).json["object"] in ("list", "model")


def test_lists_of_models_in_anthropics_and_geminis_shape(served: Served) -> None:
    anthropic = served.get("/v1/models?limit=1", ANTHROPIC).json
    assert [one["type"] for one in anthropic["data"]] == ["model"]
    assert anthropic["first_id"] == anthropic["last_id"] == anthropic["data"][0]["id"]
    rest = served.get(f"/v1/models?after_id={anthropic['last_id']}", ANTHROPIC).json
    assert anthropic["has_more"] == bool(rest["data"])
    gemini = served.get("/v1beta/models?key=any").json["models"]
    assert {one["name"] for one in gemini} >= {f"models/{anthropic['last_id']}"}
    one = gemini[0]["name"]
    assert served.get(f"/v1beta/{one}").json["name"] == one
    assert served.get("/v1beta/models/nobody-has-it").json["error"]["status"] == "NOT_FOUND"


STREAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": HELLO}),
    "messages": ("/v1/messages", {"messages": HELLO, "max_tokens": 64}),
    "responses": ("/v1/responses", {"input": "Hello!"}),
}
ENDS = {
    "chat": b"data: [DONE]",
    "messages": b"event: message_stop",
    "responses": b"response.completed",
    "gemini": b'"finishReason"',
}


def ask_stream(served: Served, client: str, model: str) -> Answer:
    if client == "gemini":
        return served.post(f"/v1beta/models/{model}:streamGenerateContent?alt=sse", {"contents": CONTENTS})
    path, body = STREAMED[client]
    return served.post(path, {"model": model, "stream": True, **body})


def told_in(client: str, body: bytes) -> str:
    """The text of a stream, by the words of its format."""
    events = [json.loads(line[5:]) for line in body.splitlines() if line.startswith(b"data: {")]
    if client == "chat":
        return "".join(one["choices"][0]["delta"].get("content") or "" for one in events if one.get("choices"))
    if client == "messages":
        return "".join(one["delta"].get("text", "") for one in events if one["type"] == "content_block_delta")
    if client == "responses":
        return "".join(one["delta"] for one in events if one["type"] == "response.output_text.delta")
    parts = [
        part for one in events for candidate in one.get("candidates", []) for part in candidate["content"]["parts"]
    ]
    return "".join(part.get("text", "") for part in parts)


def stream_everything(provider: Upstream) -> None:
    provider.answers("/v1/chat/completions", CHAT_STREAM, kind="text/event-stream")
    provider.answers("/v1/messages", MESSAGE_STREAM, kind="text/event-stream")
    path = f"/v1beta/models/{MODELS['gemini']}:streamGenerateContent"
    provider.answers(path, sse(CANDIDATE), kind="text/event-stream")


@pytest.mark.parametrize("provider_id", MODELS)
@pytest.mark.parametrize("client", CLIENTS)
def test_streams_come_in_the_clients_events_and_end_as_it_expects(
    served: Served, provider: Upstream, client: str, provider_id: str
) -> None:
    stream_everything(provider)
    answer = ask_stream(served, client, MODELS[provider_id])
    assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert told_in(client, answer.body) == "Hello!"
    assert ENDS[client] in answer.body


CUT = {
    "openai": CHAT_STREAM[: CHAT_STREAM.index(b"lo!") - 40],
    "anthropic": MESSAGE_STREAM[: MESSAGE_STREAM.index(b"event: content_block_stop")],
    "gemini": sse({**CANDIDATE, "candidates": [{**CANDIDATE["candidates"][0], "finishReason": None}]}),
}


TOLD_INSIDE = {
    "openai": b'data: {"error":{"message":"out of order","type":"server_error","code":null,"param":null}}\n\n',
    "anthropic": b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"out of order"}}\n\n',
}


@pytest.mark.parametrize("provider_id", TOLD_INSIDE)
def test_an_error_inside_a_stream_ends_it_once(served: Served, provider: Upstream, provider_id: str) -> None:
    path = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}[provider_id]
    provider.answers(path, CUT[provider_id] + TOLD_INSIDE[provider_id], kind="text/event-stream")
    body = ask_stream(served, "chat", MODELS[provider_id]).body
    assert (body.count(b"out of order"), body.count(b"data: [DONE]")) == (1, 1)


@pytest.mark.parametrize("provider_id", MODELS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_stream_that_breaks_off_ends_with_an_error_in_the_clients_words(
    served: Served, provider: Upstream, client: str, provider_id: str
) -> None:
    stream_everything(provider)
    path = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}.get(
        provider_id, f"/v1beta/models/{MODELS['gemini']}:streamGenerateContent"
    )
    provider.answers(path, CUT[provider_id], kind="text/event-stream")
    body = ask_stream(served, client, MODELS[provider_id]).body
    wanted = {"chat": b'data: {"error"', "messages": b"event: error", "responses": b"event: ", "gemini": b'{"error"'}
    assert wanted[client] in body
    assert b"broke off" in body
    if client == "chat":
        assert body.rstrip().endswith(b"data: [DONE]")
    if client == "responses":
        assert b'"type":"error"' in body or b"response.failed" in body


@pytest.mark.parametrize("provider_id", MODELS)
def test_gemini_streams_as_one_array_unless_events_are_asked_for(
    served: Served, provider: Upstream, provider_id: str
) -> None:
    stream_everything(provider)
    answer = served.post(f"/v1beta/models/{MODELS[provider_id]}:streamGenerateContent", {"contents": CONTENTS})
    assert answer.headers["content-type"] == "application/json"
    parts = [part for one in answer.json for each in one.get("candidates", []) for part in each["content"]["parts"]]
    assert "".join(part.get("text", "") for part in parts) == "Hello!"
    if provider_id == "gemini":
        assert provider.last.target.endswith(":streamGenerateContent?alt=sse")


def test_tokens_are_counted_by_the_provider_where_it_can(served: Served, provider: Upstream) -> None:
    provider.answers("/v1/messages/count_tokens", {"input_tokens": 77})
    answer = served.post("/v1/messages/count_tokens", {"model": MODELS["anthropic"], "messages": HELLO}, ANTHROPIC)
    assert answer.json == {"input_tokens": 77}
    assert "x-akr-estimate" not in answer.headers
    provider.answers(f"/v1beta/models/{MODELS['gemini']}:countTokens", {"totalTokens": 78})
    answer = served.post(f"/v1/models/{MODELS['gemini']}:countTokens", {"contents": CONTENTS})
    assert answer.json == {"totalTokens": 78}


@pytest.mark.parametrize(
    ("path", "body", "member"),
    [
        ("/v1/messages/count_tokens", {"model": "gpt-4o-mini", "messages": HELLO}, "input_tokens"),
        ("/v1beta/models/gpt-4o-mini:countTokens", {"contents": CONTENTS}, "totalTokens"),
        ("/v1/responses/input_tokens", {"model": "gpt-4o-mini", "input": "Hello!"}, "input_tokens"),
    ],
)
def test_tokens_are_estimated_where_no_provider_counts_them(
    served: Served, provider: Upstream, path: str, body: dict[str, Any], member: str
) -> None:
    answer = served.post(path, body)
    assert (answer.status, answer.headers["x-akr-estimate"]) == (200, "true")
    assert 3 <= answer.json[member] <= 40
    assert not provider.seen


def test_what_only_some_providers_have_is_refused_by_name_elsewhere(served: Served, provider: Upstream) -> None:
    answer = served.post("/v1/responses/compact", {"model": "gpt-4o-mini", "input": "Hello!"})
    assert (answer.status, answer.code) == (400, "unsupported_operation")
    answer = served.post("/v1/audio/speech", {"model": "gpt-4o-mini", "input": "Hello!", "voice": "alloy"})
    assert (answer.status, answer.code) == (400, "unsupported_operation")
    assert not provider.seen


def test_parameters_are_dropped_only_where_that_was_said_and_it_is_told(served: Served, provider: Upstream) -> None:
    body = {"model": MODELS["anthropic"], "messages": HELLO, "seed": 7, "logit_bias": {"1": 1}}
    refused = served.post("/v1/chat/completions", body)
    assert (refused.status, refused.code) == (400, "unsupported_by_provider")
    assert "seed" in refused.json["error"]["message"]
    assert not provider.seen
    answer = served.post("/v1/chat/completions", body, {"x-akr-drop-params": "true"})
    assert answer.status == 200
    assert {"seed", "logit_bias"} <= set(answer.headers["x-akr-dropped"].split(","))
    assert served.post("/v1/chat/completions", body, {"x-akr-drop-params": "maybe"}).code == "invalid_header"


def test_dropping_parameters_can_be_the_rule(provider: Upstream) -> None:
    tell(provider)
    with run_proxy(provider.base_url, ["sk-x"], drop_params=True) as (own, proxy):
        proxy.router.directory.register("anthropic", AnthropicAdapter(provider.base_url), overwrite=True)
        own.post("/api/v1/keys", {"key_material": "sk-ant-key-1", "provider_id": "anthropic"})
        body = {"model": f"anthropic/{MODELS['anthropic']}", "messages": HELLO, "seed": 7}
        assert own.post("/v1/chat/completions", body).headers["x-akr-dropped"] == "seed"
        assert own.post("/v1/chat/completions", body, {"x-akr-drop-params": "false"}).status == 400


def test_claude_codes_first_steps_work(served: Served, provider: Upstream) -> None:
    assert served.ask("HEAD", "/").status == 200
    headers = {**ANTHROPIC, "anthropic-beta": "interleaved-thinking-2025-05-14", "X-Claude-Code-Session-Id": "s1"}
    body = {"model": MODELS["anthropic"], "messages": HELLO, "max_tokens": 32, "context_management": {"edits": []}}
    answer = served.post("/v1/messages?beta=true", body, headers)
    assert answer.status == 200
    assert provider.last.json == body
    assert provider.last.headers["anthropic-beta"] == headers["anthropic-beta"]
    assert provider.last.headers["x-api-key"] == "sk-anthropic-key"


CURSORS: dict[str, Any] = {
    "input": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello!"}],
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}}],
}


@pytest.mark.parametrize("provider_id", MODELS)
def test_items_that_cursor_posts_to_chat_completions_are_answered_as_chat_completions(
    served: Served, provider_id: str
) -> None:
    answer = served.post("/v1/chat/completions", {"model": MODELS[provider_id], **CURSORS})
    assert (answer.status, answer.json["object"]) == (200, "chat.completion")
    assert answer.json["choices"][0]["message"]["content"] == "Hello!"
    assert "include" in answer.headers["x-akr-dropped"].split(",")


def test_cursors_items_reach_a_chat_provider_as_messages(served: Served, provider: Upstream) -> None:
    served.post("/v1/chat/completions", {"model": MODELS["openai"], **CURSORS})
    sent = provider.last.json
    assert [(one["role"], one["content"]) for one in sent["messages"]] == [("system", "Be kind."), ("user", "Hello!")]
    assert [one["function"]["name"] for one in sent["tools"]] == ["look"]
    assert "input" not in sent


def test_cursors_items_that_need_another_endpoint_are_refused_by_name(served: Served, provider: Upstream) -> None:
    body = {"model": MODELS["openai"], "input": "x", "previous_response_id": "resp_1"}
    answer = served.post("/v1/chat/completions", body)
    assert answer.status == 400
    assert "previous_response_id" in answer.json["error"]["message"]
    assert not provider.seen


def test_a_model_of_several_providers_is_one_row_that_names_them(served: Served, provider: Upstream) -> None:
    rows = {one["id"]: one for one in served.get("/v1/models").json["data"]}
    assert len(rows) == len(served.get("/v1/models").json["data"])
    assert rows[MODELS["openai"]]["providers"] == ["openai", "anthropic"]  # the provider behind both lists the same
    one = served.get(f"/v1/models/{MODELS['openai']}").json
    assert one["providers"] == ["openai", "anthropic"]
