"""Access while keys come and go in other processes, and while the store does not answer: 503, and never a 401."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.shared_ledger import Changes
from apikeyrouter.domain.interfaces.state_store import StoredVirtualKey
from apikeyrouter.feed import ChangeFeed
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.virtual_time import VirtualClock, run_virtual
from apikeyrouter_proxy.access import Access
from apikeyrouter_proxy.settings import ProxySettings
from apikeyrouter_proxy.virtual_keys import VirtualKeys
from apikeyrouter_proxy.wire.errors import WireError

LOCAL = ("127.0.0.1", 50_000)


class Store(MemoryStateStore):
    """A store that can be down, and slow to answer."""

    down = False
    slow_s = 0.0

    def _check(self) -> None:
        if self.down:
            raise StateStoreError("the store does not answer")

    async def changes(self, after: int | None, wait_s: float) -> Changes:
        self._check()
        found = await super().changes(after, wait_s)
        self._check()
        return found

    async def save_virtual_key(self, virtual_key: StoredVirtualKey, *, only_if: StoredVirtualKey | None = None) -> bool:
        self._check()
        await asyncio.sleep(self.slow_s)
        return await super().save_virtual_key(virtual_key, only_if=only_if)

    async def load_virtual_keys(self) -> list[StoredVirtualKey]:
        self._check()
        rows = await super().load_virtual_keys()
        await asyncio.sleep(self.slow_s)
        return rows


class Process:
    """One proxy process: its copy of the virtual keys, its feed, its access."""

    def __init__(self, store: Store, clock: VirtualClock, **settings: Any) -> None:
        self.keys = VirtualKeys(store, clock)
        self.feed = ChangeFeed(store, clock)
        self.feed.subscribe("virtual_key", lambda _: self.keys.refresh())
        self.access = Access(ProxySettings(**settings), self.keys, clock, self.feed)

    async def ask(self, token: str, *, admin: bool = False) -> str:
        """The principal's id, or "status code retry-after"."""
        headers = {b"host": b"127.0.0.1", b"authorization": b"Bearer " + token.encode()}
        try:
            scope = {"type": "http", "client": LOCAL}
            return (await self.access.admit(scope, headers, management=admin)).id
        except WireError as error:
            wait = dict(error.headers).get(b"retry-after", b"-").decode()
            return f"{error.status} {json.loads(error.body)['error']['code']} {wait}"


class Pair:
    """Two processes on one store."""

    def __init__(self, **settings: Any) -> None:
        self.clock = VirtualClock()
        self.store = Store(clock=self.clock)
        self.first, self.second = (Process(self.store, self.clock, **settings) for _ in range(2))


def with_pair(story: Callable[[Pair], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        pair = Pair(**settings)
        for process in (pair.first, pair.second):
            await process.feed.start()
            await process.keys.open()
        try:
            await story(pair)
        finally:
            for process in (pair.first, pair.second):
                await process.feed.stop()

    run_virtual(run())


def test_a_key_made_by_another_process_is_known_at_its_first_use() -> None:
    async def story(pair: Pair) -> None:
        view, token = await pair.first.keys.create("ci")
        assert await pair.second.ask(token) == view.id  # though no time has passed
        assert await pair.second.ask(token[:-1] + "0") == "401 invalid_api_key -"

    with_pair(story, require_auth=True)


def test_a_key_revoked_by_another_process_is_refused_as_soon_as_that_is_heard() -> None:
    async def story(pair: Pair) -> None:
        view, token = await pair.first.keys.create("ci")
        assert await pair.second.ask(token) == view.id
        await pair.first.keys.revoke(view.id)
        await pair.clock.sleep(0.001)
        assert await pair.second.ask(token) == "401 invalid_api_key -"

    with_pair(story, require_auth=True)


def test_known_keys_hold_for_a_bounded_time_without_the_store_and_then_get_503() -> None:
    async def story(pair: Pair) -> None:
        view, token = await pair.first.keys.create("ci")
        await pair.clock.sleep(0.001)
        pair.store.down = True
        await pair.clock.sleep(290.0)
        assert await pair.first.ask(token) == view.id
        await pair.clock.sleep(30.0)
        assert await pair.first.ask(token) == "503 store_unavailable 1"
        pair.store.down = False
        await pair.clock.sleep(5.0)
        assert await pair.first.ask(token) == view.id

    with_pair(story, require_auth=True)


def test_the_time_without_the_store_is_a_setting() -> None:
    async def story(pair: Pair) -> None:
        _, token = await pair.first.keys.create("ci")
        pair.store.down = True
        await pair.clock.sleep(12.0)
        assert (await pair.first.ask(token)).startswith("503")

    with_pair(story, require_auth=True, stale_keys_s=2.0)


@pytest.mark.parametrize("wait_s", [0.0, 60.0])
def test_an_unknown_key_is_no_401_while_the_store_does_not_answer(wait_s: float) -> None:
    async def story(pair: Pair) -> None:
        _, token = await pair.first.keys.create("made elsewhere")
        pair.store.down = True
        await pair.clock.sleep(wait_s)
        for admin in (False, True):
            assert await pair.second.ask(token, admin=admin) == "503 store_unavailable 1"
        assert await pair.second.ask("sk-of-somebody-else") == "401 invalid_api_key -"  # never ours

    with_pair(story, require_auth=True)


def test_the_token_path_which_does_not_wait_says_503_too() -> None:
    async def story(pair: Pair) -> None:
        _, token = await pair.first.keys.create("made elsewhere")
        pair.store.down = True
        await pair.clock.sleep(10.0)
        headers = {b"host": b"127.0.0.1", b"x-api-key": token.encode()}
        with pytest.raises(WireError) as refused:
            pair.second.access.authenticate({"type": "http", "client": LOCAL}, headers)
        assert refused.value.status == 503

    with_pair(story, require_auth=True)


def test_a_revocation_is_not_undone_by_rows_that_were_read_before_it() -> None:
    async def story(pair: Pair) -> None:
        view, token = await pair.first.keys.create("ci")
        pair.store.slow_s = 0.5
        reading = asyncio.ensure_future(pair.first.keys.refresh())
        await pair.clock.sleep(0.1)
        revoking = asyncio.ensure_future(pair.first.keys.revoke(view.id))
        await pair.clock.sleep(0.45)  # the rows are here, the revocation is not yet stored
        assert reading.done()
        assert await pair.first.ask(token) == "401 invalid_api_key -"
        await revoking
        assert await pair.first.ask(token) == "401 invalid_api_key -"

    with_pair(story, require_auth=True)


def test_a_revocation_that_the_store_refused_holds_here_and_is_told_when_it_answers() -> None:
    async def story(pair: Pair) -> None:
        view, token = await pair.first.keys.create("ci")
        assert await pair.second.ask(token) == view.id
        pair.store.down = True
        with pytest.raises(StateStoreError):
            await pair.first.keys.revoke(view.id)
        pair.store.down = False
        assert await pair.first.ask(token) == "401 invalid_api_key -"
        await pair.first.keys.refresh()
        await pair.clock.sleep(0.01)
        assert await pair.second.ask(token) == "401 invalid_api_key -"

    with_pair(story, require_auth=True)


def test_looking_again_is_no_way_to_make_the_store_work() -> None:
    async def story(pair: Pair) -> None:
        strangers = VirtualKeys(Store(clock=pair.clock), pair.clock)
        await strangers.open()
        asked = 0

        class Counting(ChangeFeed):
            async def catch_up(self) -> None:
                nonlocal asked
                asked += 1
                await super().catch_up()

        pair.first.access._feed = Counting(pair.store, pair.clock)
        for _ in range(60):
            _, token = await strangers.create("unknown here")
            await pair.first.ask(token)
        assert asked <= 20  # the limit of wrong keys per address and minute

    with_pair(story, require_auth=True)
