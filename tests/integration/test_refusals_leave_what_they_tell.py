"""A refusal says what is left of limits: after it, that is what the router believes and goes by, over real HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apikeyrouter import AnthropicAdapter, ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.errors import SystemError
from apikeyrouter.domain.models.api_key import KeyState
from tests.support.routers import ask, key_ids
from tests.support.server import run_app

LIMIT, LEFT = 60_000, 30_000
RESET = "2099-01-01T00:00:00Z"
OPENAI_HEADERS = {
    "x-ratelimit-limit-tokens": LIMIT, "x-ratelimit-remaining-tokens": LEFT, "x-ratelimit-reset-tokens": "30s",
}  # fmt: skip
ANTHROPIC_HEADERS = {
    "anthropic-ratelimit-tokens-limit": LIMIT, "anthropic-ratelimit-tokens-remaining": LEFT,
    "anthropic-ratelimit-tokens-reset": RESET,
}  # fmt: skip
OPENAI_ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}  # fmt: skip
ANTHROPIC_ANSWER = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hello!"}], "usage": {"input_tokens": 9, "output_tokens": 2},
}  # fmt: skip


class Provider:
    """Serves the first request, and refuses all others; it counts none, and tells the same of its limits each time."""

    def __init__(self, headers: dict[str, Any], answer: Any, refusal: Any) -> None:
        self.headers = [(name.encode(), str(value).encode()) for name, value in headers.items()]
        self.bodies = [answer, refusal]
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while scope["type"] == "lifespan":
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
        while (await receive()).get("more_body"):
            pass
        refused = min(self.asked, 1)
        self.asked += 1
        headers = [(b"content-type", b"application/json"), *self.headers]
        await send({"type": "http.response.start", "status": (200, 429)[refused], "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(self.bodies[refused]).encode()})


async def left_after_a_refusal(provider: Provider, adapter: Any, model: str, words: int, **parameters: Any) -> int:
    """What the router believes is left of the tokens a minute, with nothing under way."""
    with run_app(provider) as served:
        async with ApiKeyRouter() as router:
            await router.register_provider("p", adapter(f"{served.origin}/v1"))
            await router.register_key("sk-test-key-1", "p")
            await router.route(ask("word " * words, model, **parameters))
            with pytest.raises(SystemError):
                await router.route(ask("word " * words, model, **parameters))
            assert provider.asked >= 2
            state = await router.quota_awareness_engine.get_quota_state((await key_ids(router))[0])
    assert state.in_flight == 0
    assert state.remaining_tokens is not None
    return state.remaining_tokens


# 1,000 flow back a second; 20,000 are held for each try, and are neither missing afterwards nor there twice
RANGE = range(LEFT, LEFT + 5_000)


async def test_a_refusal_for_requests_leaves_the_tokens_that_it_tells() -> None:
    words = "Rate limit reached for gpt-4o-mini on requests per min (RPM): Limit 3, Used 3, Requested 1."
    refusal = {"error": {"message": words, "type": "requests", "param": None, "code": "rate_limit_exceeded"}}
    provider = Provider(OPENAI_HEADERS, OPENAI_ANSWER, refusal)
    assert await left_after_a_refusal(provider, OpenAIAdapter, "gpt-4o-mini", 1, max_tokens=20_000) in RANGE


async def test_a_refusal_for_money_leaves_the_tokens_that_it_tells() -> None:
    words = "You have reached your specified API usage limits. You will regain access on 2099-01-01 at 00:00 UTC."
    refusal = {"type": "error", "error": {"type": "rate_limit_error", "message": words}}
    provider = Provider(ANTHROPIC_HEADERS, ANTHROPIC_ANSWER, refusal)
    assert await left_after_a_refusal(provider, AnthropicAdapter, "claude-haiku-4-5", 18_000, max_tokens=50) in RANGE


class Bucket:
    """A provider with 60,000 tokens a minute of which 2,000 are left, and that tells it by refusals alone. It refuses
    requests whose bodies are longer than `most`, in the words of `sentence`. `sizes`: of the bodies that came."""

    def __init__(self, sentence: str, most: int = 8_000) -> None:
        self.sentence, self.most = sentence, most
        self.sizes: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while scope["type"] == "lifespan":
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        self.sizes.append(len(body))
        headers = [(b"content-type", b"application/json")]
        if len(body) < self.most:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": json.dumps(OPENAI_ANSWER).encode()})
            return
        error = {"message": self.sentence, "type": "tokens", "param": None, "code": "rate_limit_exceeded"}
        await send({"type": "http.response.start", "status": 429, "headers": [*headers, (b"retry-after", b"20")]})
        await send({"type": "http.response.body", "body": json.dumps({"error": error}).encode()})


@pytest.mark.parametrize(("numbers", "served"), [(": Limit 60000, Used 58000, Requested 22000", True), ("", False)])
async def test_who_fits_into_what_is_left_is_served_while_a_larger_one_waits(numbers: str, *, served: bool) -> None:
    sentence = f"Rate limit reached for gpt-4o-mini on tokens per min (TPM){numbers}. Please try again in 20s."
    provider = Bucket(sentence)
    with run_app(provider) as running:
        async with ApiKeyRouter() as router:
            await router.register_provider("p", OpenAIAdapter(f"{running.origin}/v1"))
            await router.register_key("sk-test-key-1", "p")
            with pytest.raises(SystemError) as refused:
                await router.route(ask("word " * 17_600, "gpt-4o-mini", max_tokens=50))
            assert 18.0 <= (refused.value.retry_after or 0.0) <= 22.0
            (key,) = await router.key_manager.list_keys()
            assert key.state is KeyState.Throttled, "it is shown"
            if served:
                assert (await router.route(ask("hello", "gpt-4o-mini", max_tokens=50))).content == "Hello!"
                with pytest.raises(SystemError):
                    await router.route(ask("word " * 17_600, "gpt-4o-mini", max_tokens=50))
            else:
                with pytest.raises(SystemError):
                    await router.route(ask("hello", "gpt-4o-mini", max_tokens=50))
    assert len(provider.sizes) == 1 + served, "what was refused is not sent again to be refused"


@pytest.mark.parametrize("asked", [22_000, 2_100])
async def test_who_is_refused_whatever_is_left_stops_asking(asked: int) -> None:
    numbers = f"Limit 60000, Used 58000, Requested {asked}. Please try again in {(asked - 2_000) / 1_000}s"
    provider = Bucket(f"Rate limit reached for gpt-4o-mini on tokens per min (TPM): {numbers}.", most=0)
    with run_app(provider) as running:
        async with ApiKeyRouter(config={"quota_wait_s": 0.0}) as router:
            await router.register_provider("p", OpenAIAdapter(f"{running.origin}/v1"))
            await router.register_key("sk-test-key-1", "p")
            for _ in range(30):
                with pytest.raises(SystemError):
                    await router.route(ask("hello", "gpt-4o-mini", max_tokens=50))
    assert len(provider.sizes) == 1
