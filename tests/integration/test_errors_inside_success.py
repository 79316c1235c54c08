"""Providers that answer 200 with an error inside: it is judged as the error that it is, with the client's status."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apikeyrouter import AnthropicAdapter, ApiKeyRouter, Message, OpenAIAdapter, RequestIntent, SystemError
from apikeyrouter.domain.interfaces.provider_adapter import ProviderAdapter
from tests.support.hostile_server import Peer, hostile

FILTERED = {"error": {"code": "content_filter", "status": 400, "message": "The prompt was filtered."}}
SHORT = {"error": {"code": "rate_limit_exceeded", "type": "tokens", "message": "Rate limit reached"}}
ANSWERED = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip


def page(members: dict[str, Any]) -> bytes:
    body = json.dumps(members).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def told(wanted: str, members: dict[str, Any]) -> Any:
    """What a server does that tells keys with `wanted` in them `members`, and others an answer."""

    async def serve(peer: Peer) -> None:
        while True:
            request = await peer.request()
            await peer.send(page(members if wanted.encode() in request else ANSWERED))

    return serve


async def router_of(adapter: ProviderAdapter) -> ApiKeyRouter:
    router = ApiKeyRouter(environ={})
    await router.register_provider("openai", adapter)
    for name in ("key-one", "key-two"):
        await router.register_key(name, "openai", label=name[-3:])
    return router


ASKED = RequestIntent(model="m", messages=[Message(role="user", content="hello")], provider_id="openai")


@pytest.mark.parametrize("adapter", [OpenAIAdapter, AnthropicAdapter], ids=["same format", "translated"])
async def test_a_filtered_prompt_in_a_200_is_the_callers_400_and_no_other_key_is_asked(adapter: Any) -> None:
    async with (
        hostile(told("key-", FILTERED)) as server,
        await router_of(adapter(f"http://127.0.0.1:{server.port}/v1")) as router,
    ):
        with pytest.raises(SystemError, match="filtered") as refused:
            await router.route(ASKED)
        assert (refused.value.status, len(server.seen)) == (400, 1)
        assert {key.state.value for key in router.key_manager.records("openai")} == {"available"}
        assert router.ledger.open_holds == 0


async def test_a_limit_told_in_a_200_rests_the_key_and_another_serves() -> None:
    async with (
        hostile(told("key-one", SHORT)) as server,
        await router_of(OpenAIAdapter(f"http://127.0.0.1:{server.port}/v1")) as router,
    ):
        replies = [await router.route(ASKED) for _ in range(4)]
        assert {reply.content for reply in replies} == {"yes"}
        assert sum(b"key-one" in request for request in server.seen) == 1
        states = {key.label: key.state.value for key in router.key_manager.records("openai")}
        assert states["two"] == "available"
