"""Routers of several processes' kind, on one store, race for accounts whose limits only the operator knows."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter import ApiKeyRouter, OpenAIAdapter, SystemError
from apikeyrouter.domain.components.lessee import SYNC_EVERY_S
from apikeyrouter.infrastructure.state_store import open_store
from tests.support.routers import ask
from tests.support.sim import Sim, sim_process

ROUTERS, RPM, TPM = 3, 20, 1_500
NEED = 300
"""More tokens than one request is ever taken to need."""
KEYS = ("sim-race-1", "sim-race-2")
SEALED = {"APIKEYROUTER_ENCRYPTION_KEY": "0f" * 32}


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.sqlite"
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def strict() -> Iterator[Sim]:
    """Tells nothing of its limits, and counts the refusals that it has to give."""
    limits = {"rpm": RPM, "tpm": None, "refill": "rolling", "headers": "none"}
    with sim_process({"accounts": [{"name": key, "keys": [key], "limits": limits} for key in KEYS]}) as sim:
        yield sim


@asynccontextmanager
async def routers_on(url: str, sim: Sim, metadata: dict[str, Any], keys: int = 2) -> AsyncIterator[list[ApiKeyRouter]]:
    """Each with a store object, and so connections, of its own."""
    async with AsyncExitStack() as stack:
        found: list[ApiKeyRouter] = []
        for number in range(ROUTERS):
            router = ApiKeyRouter(open_store(url), config={"quota_wait_s": 0}, environ=SEALED)
            await stack.enter_async_context(router)
            await router.register_provider("openai", OpenAIAdapter(sim.base_url))
            if not number:
                for key in KEYS[:keys]:
                    await router.register_key(key, "openai", metadata=metadata)
            found.append(router)
        yield found


def upstream(sim: Sim) -> Counter[str]:
    seen: Counter[str] = Counter()
    for counts in sim.state()["keys"].values():
        seen.update(counts["by_status"])
    return seen


async def send(router: ApiKeyRouter) -> float | None:
    """None when it was served, else seconds until it shall come again."""
    try:
        await router.route(ask())
    except SystemError as error:
        assert error.status == 429
        return error.retry_after
    return None


async def test_a_burst_on_all_of_them_sends_what_fits_and_not_one_more(url: str, strict: Sim) -> None:
    async with routers_on(url, strict, {"rpm": RPM}) as routers:
        started_s = time.monotonic()
        answers = await asyncio.gather(*(send(routers[n % ROUTERS]) for n in range(90)))
        took_s = time.monotonic() - started_s
        fits = len(KEYS) * RPM
        assert Counter(one is None for one in answers) == {True: fits, False: 90 - fits}
        assert upstream(strict) == {"200": fits}
        for wait_s in answers:
            assert wait_s is None or 59 - took_s <= wait_s <= 62  # workers tell each other whole seconds


async def test_one_that_is_alone_at_work_uses_what_the_idle_ones_leave(url: str, strict: Sim) -> None:
    async with routers_on(url, strict, {"rpm": RPM}) as routers:
        for router in routers:
            assert await send(router) is None
        fits = len(KEYS) * RPM - ROUTERS
        assert [await send(routers[0]) for _ in range(fits)] == [None] * fits
        assert await send(routers[0]) is not None
        assert await send(routers[1]) is not None
        assert upstream(strict) == {"200": len(KEYS) * RPM}


async def test_what_requests_held_and_did_not_use_serves_the_others(url: str) -> None:
    """Of tokens each may need far more than it uses; what comes back goes wherever it is wanted."""
    limits = {"rpm": None, "tpm": TPM, "refill": "rolling", "headers": "none"}
    with sim_process({"accounts": [{"name": KEYS[0], "keys": [KEYS[0]], "limits": limits}]}) as sim:
        async with routers_on(url, sim, {"tpm": TPM}, keys=1) as routers:
            answers = await asyncio.gather(*(send(routers[n % ROUTERS]) for n in range(90)))
            served = answers.count(None)
            assert 0 < served < 90
            for router in routers:
                await asyncio.sleep(2 * SYNC_EVERY_S)  # what settled since is told with the next round
                while await send(router) is None:
                    served += 1
            assert upstream(sim) == {"200": served}
            counts = sim.key(KEYS[0])
            assert TPM - NEED < counts["prompt_tokens"] + counts["completion_tokens"] <= TPM


@pytest.mark.parametrize(("rpm", "metadata"), [(3, {"tier": "free"}), (RPM, {})], ids=["tier", "told"])
async def test_what_a_tier_or_replies_say_is_shared_as_well(url: str, rpm: int, metadata: dict[str, Any]) -> None:
    limits = {"rpm": rpm, "tpm": 200_000, "refill": "rolling", "headers": "openai"}
    with sim_process({"accounts": [{"name": KEYS[0], "keys": [KEYS[0]], "limits": limits}]}) as sim:
        sim.fault(None, "latency_s", delay_s=0.2)
        async with routers_on(url, sim, metadata, keys=1) as routers:
            answers = [] if metadata else [await send(router) for router in routers]
            await asyncio.sleep(2 * SYNC_EVERY_S)  # what was taken before the limit was known is told to all
            for _ in range(2):
                answers += await asyncio.gather(*(send(routers[n % ROUTERS]) for n in range(60)))
            assert answers.count(None) == rpm
            assert upstream(sim) == {"200": rpm}


async def test_of_many_keys_those_that_others_used_up_do_not_hide_the_rest(tmp_path: Path) -> None:
    """More keys than one decision looks at."""
    names = [f"sim-many-{number}" for number in range(24)]
    limits = {"rpm": 1, "tpm": None, "refill": "rolling", "headers": "none"}
    config = {"quota_wait_s": 0, "considered_max": 8}
    url = f"sqlite:///{tmp_path}/state.sqlite"
    with sim_process({"accounts": [{"name": key, "keys": [key], "limits": limits} for key in names]}) as sim:
        async with ApiKeyRouter(open_store(url), config=config, environ=SEALED) as one:
            await one.register_provider("openai", OpenAIAdapter(sim.base_url))
            for key in names:
                await one.register_key(key, "openai", metadata={"rpm": 1})
            async with ApiKeyRouter(open_store(url), config=config, environ=SEALED) as other:
                await other.register_provider("openai", OpenAIAdapter(sim.base_url))
                assert [await send(one) for _ in range(20)] == [None] * 20
                assert [await send(other) for _ in range(4)] == [None] * 4
                assert await send(other) is not None
                assert await send(one) is not None
                assert upstream(sim) == {"200": 24}
