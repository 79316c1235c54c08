"""Claude at Vertex AI, over HTTP: Anthropic's format with the model in the path, for clients of every format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest

from apikeyrouter import ApiKeyRouter, SystemError
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.domain.models.call import Operation, Wire, peek
from apikeyrouter.infrastructure.adapters.gemini_adapter import VertexAdapter
from apikeyrouter.wire.codec import codec_of
from apikeyrouter.wire.losses import Losses
from tests.support.native_servers import NativeServer, reply_to
from tests.support.server import run_app, run_proxy
from tests.support.upstream import Seen

TOKEN = "ya29-" + "t" * 20
MODEL = "claude-haiku-4-5@20251001"
ROOT = "/v1/projects/p1/locations/us-east5"


class FakeVertex(NativeServer):
    """Serves Anthropic's models only."""

    def answer(self, seen: Seen) -> tuple[int, str, dict[str, str], list[bytes]]:
        if seen.key != TOKEN:
            error = {"code": 401, "status": "UNAUTHENTICATED", "message": "Request had invalid credentials."}
            return self.said(401, {"error": error})
        if seen.key in self.fails:
            status, headers, body = self.fails[seen.key]
            return status, "application/json", headers, [json.dumps(body).encode()]
        path, _, verb = unquote(seen.target).removeprefix(f"{ROOT}/publishers/anthropic/models/").partition(":")
        given = seen.json
        if given.get("anthropic_version") != "vertex-2023-10-16" or "anthropic-version" in seen.headers:
            return self.said(
                400, {"error": {"code": 400, "message": "anthropic_version", "status": "INVALID_ARGUMENT"}}
            )
        if path == "count-tokens":
            return self.said(200, {"input_tokens": 7})
        if "model" in given or path != MODEL:
            return self.said(404, {"error": {"code": 404, "message": "no such model", "status": "NOT_FOUND"}})
        codec = codec_of(Wire.Messages)
        told = reply_to(codec.read_request(seen.body, Losses("", may_drop=True), model=path, stream=False), codec.wire)
        if verb == "rawPredict":
            return self.said(200, codec.write_answer(told, path))
        return 200, "text/event-stream", {}, self.streamed(codec, told, seen.key)


@pytest.fixture
def vertex() -> Iterator[tuple[FakeVertex, str]]:
    app = FakeVertex()
    with run_app(app) as served:
        yield app, served.origin + ROOT


async def router_at(root: str) -> ApiKeyRouter:
    router = ApiKeyRouter(environ={})
    await router.register_provider("vertex", VertexAdapter("p1", "us-east5", base_url=root))
    await router.register_key(TOKEN, "vertex")
    return router


@pytest.mark.parametrize("model", [MODEL, "claude-haiku-4-5-20251001"])
@pytest.mark.parametrize("stream", [False, True])
async def test_messages_clients_pass_but_for_model_and_version(
    vertex: tuple[FakeVertex, str], model: str, stream: bool
) -> None:
    app, root = vertex
    async with await router_at(root) as router, router.anthropic_client() as client:
        asked: Any = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "think"}]}
        if stream:
            async with client.messages.stream(**asked) as running:
                message = await running.get_final_message()
        else:
            message = await client.beta.messages.create(**asked, betas=["context-1m-2025-08-07"])
        assert [one.type for one in message.content] == ["thinking", "text"]
        assert message.usage.cache_read_input_tokens == 30
    seen = app.seen[-1]
    assert seen.target.endswith("/models/" + MODEL + (":streamRawPredict" if stream else ":rawPredict"))
    assert seen.json["messages"] == asked["messages"]
    assert ("anthropic-beta" in seen.headers) == (not stream)


async def test_chat_clients_are_translated(vertex: tuple[FakeVertex, str]) -> None:
    app, root = vertex
    async with await router_at(root) as router, router.openai_client() as client:
        asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
        reply = await client.chat.completions.create(**asked)
        assert reply.choices[0].message.content == "You said: Hello"
        pieces = [one async for one in await client.chat.completions.create(stream=True, **asked)]
    text = "".join(one.choices[0].delta.content or "" for one in pieces if one.choices)
    assert text == "You said: Hello"
    assert app.seen[-1].json["stream"] is True


async def test_counting_is_free_and_names_its_model_in_the_body(vertex: tuple[FakeVertex, str]) -> None:
    app, root = vertex
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    async with await router_at(root) as router:
        call = router.new_call(Operation.CountTokens, body, peek(body), provider_id="vertex")
        reply = await router.serve(call, router.objective(None))
    assert json.loads(reply.body) == {"input_tokens": 7}
    assert app.seen[-1].json["model"] == MODEL
    assert reply.usage is not None
    assert reply.usage.input_tokens == 0


async def test_an_overloaded_model_is_told_in_the_clients_words(vertex: tuple[FakeVertex, str]) -> None:
    app, root = vertex
    app.fails[TOKEN] = (529, {}, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    async with await router_at(root) as router:
        with pytest.raises(SystemError, match="Overloaded"):
            await router.route({"model": MODEL, "messages": [{"role": "user", "content": "x"}]})


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "too hot"}}, "anthropic"),
        ({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "too hot"}}, "google"),
    ],
)
def test_errors_of_claude_come_in_each_clients_own_format(
    vertex: tuple[FakeVertex, str], body: dict[str, Any], path: str
) -> None:
    app, root = vertex
    app.fails[TOKEN] = (400, {}, body)
    said = [{"role": "user", "content": "x"}]
    with run_proxy() as (served, proxy):
        proxy.router.directory.register("vertex", VertexAdapter("p1", "us-east5", base_url=root))
        assert served.post("/api/v1/keys", {"provider_id": "vertex", "key_material": TOKEN}).status == 201
        place = f"/v1beta/models/vertex/{MODEL}"
        google = served.post(f"{place}:generateContent", {"contents": [{"role": "user", "parts": [{"text": "x"}]}]})
        anthropic = served.post(
            "/v1/messages",
            {"model": f"vertex/{MODEL}", "max_tokens": 9, "messages": said},
            {"anthropic-version": "2023-06-01"},
        )
        openai = served.post("/v1/chat/completions", {"model": f"vertex/{MODEL}", "messages": said})
    assert (google.status, anthropic.status, openai.status) == (400, 400, 400), path
    assert google.json["error"]["status"] == "INVALID_ARGUMENT"
    assert google.json["error"]["code"] == 400
    assert anthropic.json["type"] == "error"
    assert anthropic.json["error"]["type"] == "invalid_request_error"
    assert openai.json["error"]["type"] == "invalid_request_error"
    for answer in (google, anthropic, openai):
        assert "too hot" in answer.json["error"]["message"]


def test_claude_counts_for_messages_clients_and_google_clients_get_an_estimate(vertex: tuple[FakeVertex, str]) -> None:
    app, root = vertex
    with run_proxy() as (served, proxy):
        proxy.router.directory.register("vertex", VertexAdapter("p1", "us-east5", base_url=root))
        assert served.post("/api/v1/keys", {"provider_id": "vertex", "key_material": TOKEN}).status == 201
        said = {"model": f"vertex/{MODEL}", "messages": [{"role": "user", "content": "x"}]}
        counted = served.post("/v1/messages/count_tokens", said, {"anthropic-version": "2023-06-01"})
        assert (counted.status, counted.json) == (200, {"input_tokens": 7})
        seen = len(app.seen)
        asked = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
        estimated = served.post(f"/v1beta/models/vertex/{MODEL}:countTokens", asked)
        assert (estimated.status, estimated.headers["x-akr-estimate"]) == (200, "true")
        assert estimated.json["totalTokens"] > 0
        assert len(app.seen) == seen


def test_addresses_and_settings() -> None:
    assert VertexAdapter("p", "us").base_url.startswith("https://aiplatform.us.rep.googleapis.com/v1/projects/p/")
    named = VertexAdapter.from_environ({"ANTHROPIC_VERTEX_PROJECT_ID": "p2", "CLOUD_ML_REGION": "us-east5"})
    assert (named.project, named.location) == ("p2", "us-east5")
    assert VertexAdapter.from_environ({"GOOGLE_CLOUD_PROJECT": "p3"}).location == "global"
    with pytest.raises(ConfigurationError, match="GOOGLE_CLOUD_PROJECT"):
        VertexAdapter.from_environ({})
    assert named.claims(MODEL)
    assert named.claims("gemini-2.5-pro")
    assert not named.claims("gpt-4o")
