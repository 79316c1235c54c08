"""APIs that are no models' behind the router: keys are placed, refused ones fail over, calls are counted and paid."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from apikeyrouter import ApiKeyRouter
from apikeyrouter.domain.errors import ConfigurationError, RouterError
from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter.domain.models.call import Call, Operation, Peek
from apikeyrouter.infrastructure.adapters.http_adapter import HttpApi, HttpApiAdapter
from apikeyrouter.sending import Reply
from tests.support.hostile_server import Peer, hostile


def page(members: dict[str, Any], status: str = "200 OK") -> bytes:
    body = json.dumps(members).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def search(router: ApiKeyRouter, query: str = "q=cats") -> Reply:
    call = router.new_call(
        Operation.Raw, b"", Peek(model="web"), provider_id="search", method="GET", path="search", query=query
    )
    return await router.serve(call, router.objective(None))


async def serving(peer: Peer) -> None:
    """Key "spent" is over its limit; others find something."""
    while True:
        request = await peer.request()
        if b"key-spent" in request:
            await peer.send(page({"error": {"message": "rate limit"}}, "429 Too Many Requests"))
        else:
            await peer.send(page({"status": "OK", "found": ["cat"], "meta": {"credits": 3}}))


async def test_a_search_api_gets_keys_failover_limits_and_a_price() -> None:
    api = HttpApi(
        base_url="http://127.0.0.1:1/v1", key="header:X-Api-Key", ok="status=OK", units="meta.credits",
        usd_per_request="0.005", usd_per_unit="0.001",
    )  # fmt: skip
    async with hostile(serving) as server, ApiKeyRouter() as router:
        await router.register_provider(
            "search", HttpApiAdapter(HttpApi(**{**_members(api), "base_url": f"http://127.0.0.1:{server.port}/v1"}))
        )
        await router.register_key("key-spent", "search")
        await router.register_key("key-good", "search")
        replies = [await search(router) for _ in range(3)]
        assert all(json.loads(reply.body)["found"] == ["cat"] for reply in replies)
        assert replies[0].usage is not None
        assert replies[0].usage.counts == {"web_searches": 3}
        spent = (await router.get_state_summary()).costs.total_spent
        assert spent == 3 * Decimal("0.008")
        lines = [request.split(b"\r\n")[0] for request in server.seen]
        assert set(lines) == {b"GET /v1/search?q=cats HTTP/1.1"}
        assert sum(b"key-spent" in request for request in server.seen) == 1
        assert b"authorization" not in server.seen[0].lower()


def _members(api: HttpApi) -> dict[str, Any]:
    return {name: getattr(api, name) for name in api.__struct_fields__}


async def test_a_reply_that_the_success_rule_calls_a_failure_is_none() -> None:
    async def refusing(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(page({"status": "ZERO_CREDIT"}))

    async with hostile(refusing) as server, ApiKeyRouter() as router:
        api = HttpApi(base_url=f"http://127.0.0.1:{server.port}", ok="status=OK")
        await router.register_provider("search", HttpApiAdapter(api))
        await router.register_key("key-1", "search")
        with pytest.raises(RouterError):
            await search(router)


async def test_a_key_in_the_query_needs_a_word_and_appears_in_no_message() -> None:
    with pytest.raises(ConfigurationError, match="query_is_fine"):
        HttpApiAdapter(HttpApi(base_url="http://127.0.0.1:1", key="query:token"))
    async with hostile(serving) as server, ApiKeyRouter() as router:
        api = HttpApi(base_url=f"http://127.0.0.1:{server.port}/v1", key="query:token", query_is_fine=True)
        await router.register_provider("search", HttpApiAdapter(api))
        material = "key-" + "z&=/ "[:4] + "1"
        await router.register_key(material, "search")
        await search(router)
        assert b"GET /v1/search?q=cats&token=key-z%26%3D%2F1 HTTP/1.1" in server.seen[0]
    async with ApiKeyRouter() as router:
        down = HttpApi(base_url="http://127.0.0.1:9", key="query:token", query_is_fine=True)
        await router.register_provider("search", HttpApiAdapter(down))
        await router.register_key(material, "search")
        with pytest.raises(RouterError) as failed:
            await search(router)
        assert "z%26" not in str(failed.value)
        assert material not in str(failed.value)


def test_models_formats_are_refused_and_a_probe_tries_keys() -> None:
    adapter = HttpApiAdapter(HttpApi(base_url="http://127.0.0.1:1/v1", key="header:X-Key", probe="account"))
    request = adapter.build_models_request(Secret("k"))
    assert (request.url, request.headers) == ("http://127.0.0.1:1/v1/account", [(b"x-key", b"k")])
    assert adapter.read_models(b"whatever") == []
    call = Call("r", Operation.Chat, "m", b"{}", Peek(), started_s=0.0, deadline_s=1.0)
    with pytest.raises(ValueError, match="no API of models"):
        adapter.build_request(call, Secret("k"))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"key": "cookie:x"}, "expected"),
        ({"key": "header"}, "expected"),
        ({"key": "bearer:x"}, "expected"),
        ({"usd_per_request": "-1"}, "usd_per_request"),
        ({"usd_per_unit": "much"}, "usd_per_unit"),
        ({"ok": "status"}, "MEMBER=VALUE"),
        ({"unit": "smiles"}, "unit"),
    ],
)
def test_a_row_that_makes_no_sense_says_what_is_wrong(fields: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        HttpApiAdapter(HttpApi(base_url="http://127.0.0.1:1", **fields))  # type: ignore[arg-type]


def test_odd_numbers_of_units_count_as_one() -> None:
    adapter = HttpApiAdapter(HttpApi(base_url="http://127.0.0.1:1", units="a.0.b", billed="c"))
    call = Call("r", Operation.Raw, "m", b"", Peek(), started_s=0.0, deadline_s=1.0)
    for body, units in (
        (b'{"a":[{"b":"2.5"}]}', "2.5"),
        (b'{"a":[{"b":true}]}', "1"),
        (b'{"a":[]}', "1"),
        (b"[]", "1"),
    ):
        _, usage = adapter.read_reply(call, body)
        assert usage is not None
        assert usage.counts is not None
        assert str(usage.counts["web_searches"]) == units
    _, usage = adapter.read_reply(call, b'{"c": 0.0015}')
    assert usage is not None
    assert usage.billed_nano_usd == 1_500_000
    with pytest.raises(ValueError, match="no JSON"):
        adapter.read_reply(call, b"<html>")
