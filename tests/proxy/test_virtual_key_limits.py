"""`serve --workers 2`: a virtual key's limits are exact over both processes, and what answers say of them is true."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest

from tests.support.command import run_cli
from tests.support.processes import ProxyProcess, proxy_process
from tests.support.sim import Sim, sim_process

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 20}
ADMIN = "admin-" + secrets.token_hex(16)
AS_ADMIN = {"Authorization": f"Bearer {ADMIN}"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Sim]:
    with sim_process({"limits": "none"}) as sim:
        yield sim


@pytest.fixture(scope="module")
def two(provider: Sim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    env = {"PROXY_WORKERS": "2", "APIKEYROUTER_ADMIN_KEY": ADMIN}
    folder = tmp_path_factory.mktemp("limits")
    with proxy_process(provider, folder, keys=provider.keys[:1], env=env) as proxy:
        yield proxy


def issue(proxy: ProxyProcess, **limits: Any) -> dict[str, Any]:
    status, made = proxy.post("/api/v1/virtual-keys", {"name": "limited", **limits}, AS_ADMIN)
    assert status == 201, made
    found: dict[str, Any] = made
    return found


class Crowd:
    """Many clients with the same virtual key, each on a connection of its own, so that both workers serve them."""

    def __init__(self, proxy: ProxyProcess, key: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=proxy.origin,
            headers={"Authorization": f"Bearer {key}"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            timeout=30,
        )

    async def __aenter__(self) -> Crowd:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def chat(self, **fields: Any) -> httpx.Response:
        return await self._http.post("/v1/chat/completions", json={**CHAT, **fields})

    async def chats(self, count: int) -> list[httpx.Response]:
        return list(await asyncio.gather(*(self.chat() for _ in range(count))))

    async def until_served(self, count: int) -> None:
        """Each comes back as it is told to."""

        async def one() -> None:
            for _ in range(100):
                reply = await self.chat()
                if reply.status_code == 200:
                    return
                assert reply.status_code == 429, reply.text
                await asyncio.sleep(int(reply.headers["retry-after-ms"]) / 1000)
            raise AssertionError("it was never served")

        await asyncio.gather(*(one() for _ in range(count)))


async def test_of_a_hundred_at_once_as_many_are_served_as_the_key_may_make(two: ProxyProcess) -> None:
    made = issue(two, rpm=30)
    async with Crowd(two, made["key"]) as crowd:
        first = [await crowd.chat() for _ in range(5)]
        left = [int(reply.headers["x-ratelimit-remaining-requests"]) for reply in first]
        assert left[0] == 29
        assert left == sorted(left, reverse=True)
        assert left[-1] <= 27
        replies = await crowd.chats(95)
        assert Counter(reply.status_code for reply in replies) == {200: 25, 429: 70}
        for reply in replies:
            assert reply.headers["x-ratelimit-limit-requests"] == "30"
        for refused in (reply for reply in replies if reply.status_code == 429):
            error = refused.json()["error"]
            assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
            assert (error["limit"]["which"], error["limit"]["limit"]) == ("requests", 30)
            assert refused.headers["x-ratelimit-remaining-requests"] == "0"
            assert 48 <= int(refused.headers["retry-after"]) <= 62
            assert abs(int(refused.headers["retry-after-ms"]) / 1000 - int(refused.headers["retry-after"])) <= 1
            assert "x-should-retry" in refused.headers
        changed = two.ask("PATCH", f"/api/v1/virtual-keys/{made['id']}", {"rpm": 40}, AS_ADMIN)
        assert (changed[0], changed[1]["rpm"], changed[1]["parallel"]) == (200, 40, None)
        await asyncio.sleep(0.3)
        assert Counter(reply.status_code for reply in await crowd.chats(40)) == {200: 10, 429: 30}
        two.ask("PATCH", f"/api/v1/virtual-keys/{made['id']}", {"rpm": None}, AS_ADMIN)
        await asyncio.sleep(0.3)
        replies = await crowd.chats(20)
        assert Counter(reply.status_code for reply in replies) == {200: 20}
        assert not any("ratelimit" in name for reply in replies for name in reply.headers)


async def test_tokens_count_as_they_were_used(two: ProxyProcess) -> None:
    made = issue(two, tpm=1000)
    used = 0
    async with Crowd(two, made["key"]) as crowd:
        for _ in range(200):
            reply = await crowd.chat()
            if reply.status_code == 429:
                break
            used += reply.json()["usage"]["total_tokens"]
            assert reply.headers["x-ratelimit-limit-tokens"] == "1000"
        assert reply.json()["error"]["limit"]["which"] == "tokens"
        assert 850 <= used <= 1000
        never = await crowd.chat(messages=[{"role": "user", "content": "All work and no play. " * 1000}])
        assert (never.status_code, never.json()["error"]["code"]) == (429, "request_above_limit")
        assert never.headers["x-should-retry"] == "false"


async def test_no_more_are_under_way_than_the_key_may_have_and_places_never_leak(
    two: ProxyProcess, provider: Sim
) -> None:
    made = issue(two, parallel=4)
    key = provider.keys[0]
    async with Crowd(two, made["key"]) as crowd:
        await crowd.chat()
        provider.fault(key, "latency_s", delay_s=0.15)
        most, served = 0, asyncio.ensure_future(crowd.until_served(24))
        while not served.done():
            most = max(most, (await provider.aio.key(key))["in_flight"])
            await asyncio.sleep(0.01)
        await served
        provider.clear_faults()
        assert 3 <= most <= 4
        replies = await crowd.chats(4)
        assert Counter(reply.status_code for reply in replies) == {200: 4}
        assert {reply.headers["x-ratelimit-limit-parallel"] for reply in replies} == {"4"}
        provider.fault(key, "hang")
        lost = [asyncio.ensure_future(crowd.chat()) for _ in range(4)]
        await asyncio.sleep(0.3)
        for one in lost:
            one.cancel()
        await asyncio.gather(*lost, return_exceptions=True)
        provider.clear_faults()
        await crowd.until_served(8)
        provider.fault(key, "client_error", status=400)
        assert {reply.status_code for reply in await crowd.chats(4)} == {400}
        provider.clear_faults()
        await crowd.until_served(8)
        await asyncio.sleep(0.5)
        reply = await crowd.chat()
        assert reply.headers["x-ratelimit-remaining-parallel"] in ("3", "4")


def test_an_sdk_that_is_told_when_to_come_back_is_served_then(two: ProxyProcess, provider: Sim) -> None:
    made = issue(two, parallel=1, weight=2.5)
    assert (made["weight"], made["rpm"]) == (2.5, None)
    provider.fault(provider.keys[0], "latency_s", delay_s=0.4)
    with openai.OpenAI(base_url=two.base_url, api_key=made["key"], max_retries=6) as client:
        try:
            with openai.OpenAI(base_url=two.base_url, api_key=made["key"], max_retries=6) as other:
                threads = [_ask_in_thread(one) for one in (client, other)]
                for thread in threads:
                    assert thread.result(30)
        finally:
            provider.clear_faults()


def _ask_in_thread(client: openai.OpenAI) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    messages: Any = CHAT["messages"]
    asked = pool.submit(lambda: client.chat.completions.create(model="gpt-4o-mini", messages=messages).id)
    pool.shutdown(wait=False)
    return asked


def test_the_command_line_gives_shows_and_changes_limits(two: ProxyProcess, tmp_path: Path) -> None:
    env = {"APIKEYROUTER_ADMIN_KEY": ADMIN}

    def cli(*arguments: str, status: int = 0) -> Any:
        return run_cli("virtual-keys", *arguments, "--url", two.origin, folder=tmp_path, env=env, status=status)

    made = cli(
        "create", "night shift", "--rpm", "60", "--tpm", "90000", "--parallel", "4", "--weight", "2", "--json"
    ).json
    assert [made[name] for name in ("rpm", "tpm", "parallel", "weight")] == [60, 90000, 4, 2.0]
    cli("limit", made["id"], "--rpm", "0", "--parallel", "8")
    listed = next(one for one in cli("list", "--json").json if one["id"] == made["id"])
    assert [listed[name] for name in ("rpm", "tpm", "parallel", "weight")] == [None, 90000, 8, 2.0]
    assert "90,000" in cli("list").out
    assert "--rpm" in cli("limit", made["id"], status=2).err


@pytest.mark.parametrize("wrong", [{"rpm": 0}, {"tpm": -5}, {"parallel": "many"}, {"weight": 0}, {"limit": 3}])
def test_limits_that_make_no_sense_are_told(two: ProxyProcess, wrong: dict[str, Any]) -> None:
    made = issue(two)
    for method, path, body in (
        ("POST", "/api/v1/virtual-keys", {"name": "x", **wrong}),
        ("PATCH", f"/api/v1/virtual-keys/{made['id']}", wrong),
    ):
        status, answer, _ = two.ask(method, path, body, AS_ADMIN)
        assert status in (400, 422)
        assert next(iter(wrong)) in str(answer)
