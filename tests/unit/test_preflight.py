"""Preflight, reasons for fallbacks, and the request as a candidate's provider sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.interfaces.provider_adapter import ProviderCapabilities
from apikeyrouter.domain.models.call import Call, Operation, peek
from apikeyrouter.domain.resilience.classify import classify_reply
from apikeyrouter.domain.resilience.failures import FailureClass, bad_reply
from apikeyrouter.domain.routing.candidates import Candidate
from apikeyrouter.domain.routing.demand import demand_of
from apikeyrouter.domain.routing.deployments import read_deployment
from apikeyrouter.domain.routing.fallbacks import FallbackReason, call_for, reason_of, reason_of_refusals
from apikeyrouter.domain.routing.preflight import ANY_LENGTH, Needs, needs_of, preflight
from apikeyrouter.infrastructure.clock import SystemClock

IMAGE = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]


def _call(body: dict[str, Any] | bytes, operation: Operation = Operation.Chat) -> Call:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    peeked = peek(text)
    return Call("r", operation, peeked.model or "", text, peeked, started_s=0.0, deadline_s=60.0)


def _needs(operation: Operation = Operation.Chat, **body: Any) -> Needs:
    costs = ApiKeyRouter(environ={}).cost_controller
    given = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], **body}
    return needs_of(demand_of(_call(given, operation), costs.lengths, costs.ratios))


async def _candidates(*targets: dict[str, Any], can: ProviderCapabilities | None = None) -> list[Candidate]:
    router = ApiKeyRouter(environ={})
    await router.register_provider("openai", OpenAIAdapter("http://127.0.0.1:9/v1", capabilities=can))
    await router.register_key("key-material", "openai")
    rows = [{"provider": "openai", **target} for target in targets]
    router.directory.deployments.load([read_deployment({"name": "group", "targets": rows})])
    router.directory.changed()
    candidates = router.directory.group_for(None, "group").candidates
    await router.aclose()
    return candidates


@pytest.mark.parametrize(
    ("lacking", "body"),
    [
        ("streaming", {"stream": True}),
        ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ("structured output", {"response_format": {"type": "json_object"}}),
        ("images", {"messages": [{"role": "user", "content": IMAGE}]}),
    ],
)
async def test_what_a_target_lacks_keeps_out_requests_that_need_it_and_no_others(lacking: str, body: Any) -> None:
    name = lacking.replace(" ", "_")
    without, able = await _candidates({"model": "a", "without": [name]}, {"model": "b"})
    block = preflight(without, _needs(**body))
    assert block is not None
    assert block.code == "capability"
    assert block.reason == f"openai/a does not offer {lacking}"
    assert preflight(able, _needs(**body)) is None
    assert preflight(without, _needs()) is None


async def test_what_says_nothing_needs_nothing() -> None:
    (bare,) = await _candidates({"model": "a", "without": ["tools", "images", "structured_output", "streaming"]})
    said = _needs(tools=None, response_format={"type": "text"}, stream=False)
    assert preflight(bare, said) is None
    assert preflight(bare, _needs(tools=[])) is None


async def test_the_operation_is_a_matter_of_the_provider() -> None:
    (chat,) = await _candidates({"model": "a"}, can=ProviderCapabilities(operations=(Operation.Chat,)))
    block = preflight(chat, _needs(Operation.Embeddings, input="x", messages=None))
    assert block is not None
    assert block.reason == "openai/a does not offer embeddings"
    assert preflight(chat, _needs()) is None


async def test_a_window_that_is_too_small_counts_where_something_else_can_serve() -> None:
    small, unknown = await _candidates({"model": "a", "context_window": 100}, {"model": "no-such-model"})
    block = preflight(small, _needs(max_tokens=200))
    assert block is not None
    assert block.code == "context"
    assert "100" in block.reason
    assert preflight(small, _needs(max_tokens=20)) is None
    assert unknown.context_max == ANY_LENGTH
    (alone,) = await _candidates({"model": "a", "context_window": 100})
    assert preflight(alone, _needs(max_tokens=200)) is None, "its provider may know better"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, {"error": {"code": "context_length_exceeded", "message": "too long"}}, FallbackReason.Context),
        (400, {"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}}, FallbackReason.Context),
        (400, {"error": {"message": "temperature must be below 2"}}, None),
        (400, {"error": {"code": "content_filter", "message": "filtered"}}, None),
        (500, {"error": {"message": "oops"}}, FallbackReason.Unavailable),
        (429, {"error": {"message": "slow down"}}, FallbackReason.Unavailable),
    ],
)
def test_only_what_another_model_may_mend_goes_on(status: int, body: Any, reason: FallbackReason | None) -> None:
    now = SystemClock().utc_now()
    failure = classify_reply("openai", status, [], json.dumps(body).encode(), utc_now=now)
    assert reason_of(failure) is reason


def test_a_reply_that_broke_off_is_never_replayed() -> None:
    failure = bad_reply("it is none", 200)
    assert reason_of(failure) is FallbackReason.Unavailable
    object.__setattr__(failure, "failure_class", FailureClass.MidReply)
    assert reason_of(failure) is None


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        (["context"], FallbackReason.Context),
        (["context", "policy"], FallbackReason.Context),
        (["context", "rate_limited"], FallbackReason.Unavailable),
        (["policy"], FallbackReason.Unavailable),
        ([], FallbackReason.Unavailable),
    ],
)
def test_too_long_for_everybody_is_told_from_out_of_service(codes: list[str], reason: FallbackReason) -> None:
    assert reason_of_refusals(codes) is reason


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"group","messages":[{"role":"user","content":"\xc3\xa9 \\u00e9 \xf0\x9f\x98\x80"}]}',
        b'{ "messages" : [{"role":"user","content":"{\\"model\\":\\"no\\"}"}],\n "model" : "group" , "seed": 1.0e2}',
        b'{"metadata":{"model":"inner"},"model":"group","tools":[{"model":"inner"}]}',
        b'{"model":"first","x":[],"model":"group"}',
        b'{"mod\\u0065l":"group","metadata":{"model":"group"}}',
    ],
)
async def test_the_model_is_replaced_and_every_other_byte_stays(body: bytes) -> None:
    (candidate,) = await _candidates({"model": 'llama "3"/é'})
    call = _call(body)
    sent = call_for(call, candidate)
    assert sent.model == sent.peek.model == candidate.model
    assert call.body == body
    before, after = json.loads(body), json.loads(sent.body)
    assert after.pop("model") == candidate.model
    assert before.pop("model") == "group"
    assert after == before
    assert sent.body.count(b"1.0e2") == body.count(b"1.0e2")
    assert sent.body.count(b"\\u00e9") == body.count(b"\\u00e9")
    pairs: list[tuple[str, Any]] = json.loads(sent.body, object_pairs_hook=list)
    assert [name for name, _ in pairs].count("model") == 1


async def test_a_call_for_the_model_itself_stays_the_very_same() -> None:
    (candidate,) = await _candidates({"model": "gpt-4o"})
    call = _call(b'{"model":"gpt-4o"}')
    assert call_for(call, candidate) is call
