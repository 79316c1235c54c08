"""What one router learns about a key, every other router on the same store enforces within a quarter of a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.errors import NoEligibleKeysError, RouterError
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.infrastructure.state_store import open_store
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
from tests.support.routers import ask
from tests.support.sim import Sim, sim_process

WITHIN_S = 0.25
MATERIALS = [f"sk-test-key-{i}" for i in range(1, 4)]


@pytest.fixture(scope="module")
def sim_server() -> Iterator[Sim]:
    with sim_process() as sim:
        yield sim


@pytest.fixture(params=["sqlite", "memory", "postgres", "redis"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], StateStore]:
    """Makes the store of one router: connections of its own to one place, or the one object."""
    if request.param == "memory":
        store = MemoryStateStore()
        return lambda: store
    if request.param == "sqlite":
        return lambda: SQLiteStateStore(tmp_path / "shared.sqlite")
    url: str = request.getfixturevalue(f"{request.param}_url")
    return lambda: open_store(url)


@pytest.fixture
async def pair(sim_server: Sim, stores: Callable[[], StateStore]) -> AsyncIterator[tuple[ApiKeyRouter, ApiKeyRouter]]:
    sim_server.reset()
    async with AsyncExitStack() as stack:
        routers = []
        for _ in range(2):
            router = ApiKeyRouter(stores(), environ={"APIKEYROUTER_ENCRYPTION_KEY": "a passphrase for tests"})
            await stack.enter_async_context(router)
            await router.register_provider("openai", OpenAIAdapter(sim_server.base_url))
            routers.append(router)
        yield routers[0], routers[1]


async def seen(what: Callable[[], bool], within_s: float = WITHIN_S) -> float:
    """Waits until it is so; seconds that it took. Fails after `within_s`."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    while not what():
        assert loop.time() - begun_s <= within_s, "it was not seen in time"
        await asyncio.sleep(0.002)
    return loop.time() - begun_s


def state(router: ApiKeyRouter, key_id: str) -> KeyState | None:
    try:
        return router.key_manager.get(key_id).state
    except RouterError:
        return None


async def test_a_key_registered_in_one_router_serves_in_the_other(pair: tuple[ApiKeyRouter, ApiKeyRouter]) -> None:
    first, second = pair
    key = await first.register_key(MATERIALS[0], "openai", label="shared")
    await seen(lambda: state(second, key.id) is KeyState.Available)
    answer = await second.route(ask())
    assert answer.metadata.key_used == key.id
    await second.revoke_key(key.id)
    await seen(lambda: state(first, key.id) is KeyState.Retired)
    with pytest.raises(NoEligibleKeysError):
        await first.route(ask())


async def test_a_throttled_key_rests_in_every_router(pair: tuple[ApiKeyRouter, ApiKeyRouter], sim_server: Sim) -> None:
    first, second = pair
    keys = [await first.register_key(material, "openai") for material in MATERIALS[:2]]
    await seen(lambda: all(state(second, key.id) is KeyState.Available for key in keys))
    sim_server.fault(MATERIALS[0], "rate_limited", retry_after_s=60)
    while sim_server.seen(MATERIALS[0]) == 0:
        await first.route(ask())
    assert state(first, keys[0].id) is KeyState.Throttled
    await seen(lambda: state(second, keys[0].id) is KeyState.Throttled)
    for _ in range(6):
        await second.route(ask())
    assert sim_server.seen(MATERIALS[0]) == 1
    sim_server.clear_faults()


async def test_a_dead_key_is_left_alone_by_every_router(
    pair: tuple[ApiKeyRouter, ApiKeyRouter], sim_server: Sim
) -> None:
    first, second = pair
    keys = [await first.register_key(material, "openai") for material in MATERIALS[:2]]
    await seen(lambda: all(state(second, key.id) is KeyState.Available for key in keys))
    sim_server.fault(MATERIALS[0], "revoked")
    while sim_server.seen(MATERIALS[0]) == 0:
        await second.route(ask())
    await seen(lambda: state(first, keys[0].id) is not KeyState.Available)
    assert (await first.key_manager.get_key(keys[0].id)).cooldown_until is not None
    for _ in range(6):
        await first.route(ask())
    assert sim_server.seen(MATERIALS[0]) == 1
    sim_server.clear_faults()


async def test_uses_are_counted_over_both_routers(pair: tuple[ApiKeyRouter, ApiKeyRouter]) -> None:
    first, second = pair
    key = await first.register_key(MATERIALS[0], "openai")
    await seen(lambda: state(second, key.id) is KeyState.Available)
    for router in (first, second, second):
        await router.route(ask())
    for router in pair:
        for _ in range(30):
            counted = (await router.key_manager.get_key(key.id)).usage_count
            if counted == 3:
                break
            await asyncio.sleep(0.1)
        assert counted == 3


async def test_the_same_material_registered_in_both_at_once_is_one_key(
    pair: tuple[ApiKeyRouter, ApiKeyRouter],
) -> None:
    results = await asyncio.gather(*(r.register_key(MATERIALS[0], "openai") for r in pair), return_exceptions=True)
    assert not [r for r in results if isinstance(r, BaseException) and not isinstance(r, RouterError)]
    await asyncio.sleep(0.5)
    for router in pair:
        live = await router.key_manager.list_keys()
        assert len(live) == 1
        assert (await router.route(ask())).metadata.key_used == live[0].id
    assert len(await pair[0].state_store.list_keys()) == 1
