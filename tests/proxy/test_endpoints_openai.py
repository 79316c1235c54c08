"""OpenAI's endpoints at every address that people type, over real HTTP, with a provider that keeps what it got."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from apikeyrouter.domain.models.call import Operation
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter_proxy.bootstrap import Proxy
from tests.support.server import Served, run_proxy
from tests.support.upstream import CHAT_ANSWER, Upstream, upstream

HELLO = [{"role": "user", "content": "Hello!"}]
EVERYTHING = [one for one in Operation if one not in (Operation.Messages, Operation.Gemini, Operation.Raw)]
JSON_ENDPOINTS: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "gpt-4o-mini", "messages": HELLO},
    "completions": {"model": "gpt-3.5-turbo-instruct", "prompt": "Once"},
    "embeddings": {"model": "text-embedding-3-small", "input": [[1, 2, 3]], "encoding_format": "base64"},
    "moderations": {"model": "omni-moderation-latest", "input": "Hello!"},
    "images/generations": {"model": "gpt-image-1", "prompt": "A red bird"},
    "audio/speech": {"model": "tts-1", "input": "Hello!", "voice": "alloy"},
    "rerank": {"model": "rerank-v3.5", "query": "Which?", "documents": ["One", "Two"]},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with upstream() as app:
        yield app


@pytest.fixture(scope="module")
def running(provider: Upstream) -> Iterator[tuple[Served, Proxy]]:
    with run_proxy(provider.base_url, [f"sk-upstream-{n}" for n in range(3)]) as (served, proxy):
        adapter = OpenAIAdapter(provider.base_url, operations=EVERYTHING, claims_all=True)
        proxy.router.directory.register("openai", adapter, overwrite=True)
        yield served, proxy


@pytest.fixture
def served(running: tuple[Served, Proxy], provider: Upstream) -> Served:
    provider.forget()
    return running[0]


@pytest.mark.parametrize("path", JSON_ENDPOINTS)
def test_a_json_endpoint_passes_the_very_bytes_both_ways(served: Served, provider: Upstream, path: str) -> None:
    body = json.dumps(JSON_ENDPOINTS[path] | {"unknown_member": {"kept": True}}, indent=3).encode()
    provider.answers(f"/v1/{path}", CHAT_ANSWER | {"path": path})
    answer = served.post(f"/v1/{path}", body)
    assert (answer.status, answer.json["path"]) == (200, path)
    assert provider.last.target == f"/v1/{path}"
    assert provider.last.body == body
    assert answer.headers["x-akr-provider"] == "openai"


@pytest.mark.parametrize(
    "address",
    [
        "/v1/chat/completions", "/chat/completions", "/openai/v1/chat/completions", "/openai/chat/completions",
        "/anthropic/v1/chat/completions", "/v1/v1/chat/completions", "//v1//chat/completions", "/v1/chat/completions/",
        "/openai/v1/v1/chat/completions", "/v1//chat//completions//",
    ],
)  # fmt: skip
def test_an_endpoint_answers_at_every_address_that_people_type(
    served: Served, provider: Upstream, address: str
) -> None:
    answer = served.post(address, JSON_ENDPOINTS["chat/completions"])
    assert answer.status == 200, answer.json
    assert provider.last.target == "/v1/chat/completions"


def test_rerank_answers_under_version_two_as_well(served: Served, provider: Upstream) -> None:
    assert served.post("/v2/rerank", JSON_ENDPOINTS["rerank"]).status == 200
    assert provider.last.target == "/v1/rerank"


def test_a_query_string_reaches_the_provider_without_credentials(served: Served, provider: Upstream) -> None:
    served.post("/v1/chat/completions?beta=true&key=secret&b=%20c&api%5Fkey=x", JSON_ENDPOINTS["chat/completions"])
    assert provider.last.target == "/v1/chat/completions?beta=true&b=%20c"


def test_moderation_without_a_model_takes_the_usual_one(served: Served, provider: Upstream) -> None:
    assert served.post("/v1/moderations", {"input": "Hello!"}).status == 200
    assert provider.last.json == {"input": "Hello!", "model": "omni-moderation-latest"}


def test_sound_comes_back_as_it_is(served: Served, provider: Upstream) -> None:
    sound = bytes(range(256)) * 9
    provider.answers("/v1/audio/speech", sound, kind="audio/mpeg")
    answer = served.post("/v1/audio/speech", JSON_ENDPOINTS["audio/speech"])
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "audio/mpeg", sound)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {"model": "gpt-4o-mini"}, "messages"),
        ("chat/completions", {"messages": HELLO}, "model"),
        ("chat/completions", {"model": "gpt-4o-mini", "messages": None, "nested": {"input": 1}}, "messages"),
        ("embeddings", {"model": "text-embedding-3-small"}, "input"),
        ("responses", {"model": "gpt-4o-mini"}, "input"),
        ("images/generations", {"model": "gpt-image-1"}, "prompt"),
        ("audio/speech", {"model": "tts-1"}, "input"),
        ("rerank", {"model": "rerank-v3.5"}, "query"),
        ("moderations", {}, "input"),
    ],
)
def test_a_body_without_what_it_is_about_is_refused_by_name(
    served: Served, provider: Upstream, path: str, body: dict[str, Any], param: str
) -> None:
    answer = served.post(f"/v1/{path}", body)
    error = answer.json["error"]
    assert (answer.status, error["param"], error["code"]) == (400, param, "missing_required_parameter")
    assert not provider.seen


def test_responses_items_posted_to_chat_completions_are_answered_as_such(served: Served, provider: Upstream) -> None:
    body = {"model": "gpt-4o-mini", "input": [{"role": "user", "content": "Hello!"}]}
    assert served.post("/v1/chat/completions", body).json["object"] == "chat.completion"
    assert provider.last.target == "/v1/chat/completions"


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1/vector_stores", "/openai/v2/x/../y", "/v1/responses/a/b/c", "/v1/"]
)
def test_an_unknown_path_is_404_in_openais_words(served: Served, provider: Upstream, path: str) -> None:
    answer = served.ask("POST", path, {})
    assert (answer.status, answer.code) in [(404, "unknown_url"), (400, "invalid_path")]
    assert not provider.seen


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/chat/completions"), ("PUT", "/v1/files"), ("POST", "/v1/models")]
)
def test_another_method_is_405_and_says_which_are_allowed(served: Served, method: str, path: str) -> None:
    answer = served.ask(method, path)
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert answer.headers["allow"]
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_somebody_is_at_home(served: Served, method: str) -> None:
    assert served.ask(method, "/").status == 200


def test_a_body_beyond_the_limit_is_413(provider: Upstream) -> None:
    with run_proxy(provider.base_url, ["sk-upstream-0"], body_limit_bytes=2048) as (served, _):
        long = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x" * 3000}]}
        answer = served.post("/v1/chat/completions", long)
        assert (answer.status, answer.code) == (413, "too_large")
