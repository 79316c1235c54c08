"""What a running router does besides serving: how often it looks around, and that no part holds up another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import pytest

from apikeyrouter.domain.components.lessee import Lessee
from apikeyrouter.domain.errors import SystemError
from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseReply, LeaseWorker
from apikeyrouter.domain.interfaces.state_store import StoreBatch
from apikeyrouter.domain.interfaces.transport import HttpReply, HttpRequest, SendPhase, TransportError
from apikeyrouter.domain.ledger.leases import Lease
from apikeyrouter.domain.models.budget import BudgetScope, EnforcementMode, TimeWindow
from apikeyrouter.housekeeping import Housekeeping
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter.testing.virtual_time import VirtualClock, run_virtual
from tests.support.routers import ask

SEALED = {"APIKEYROUTER_ENCRYPTION_KEY": "ab" * 32}


class CountingClock(VirtualClock):
    """Counts who is put to sleep: each of them wakes the process up once."""

    slept = 0

    async def sleep(self, delay_s: float) -> None:
        self.slept += 1
        await super().sleep(delay_s)


class WatchedStore(MemoryStateStore):
    """Outlives the router, and notes when it was asked. `gate`: what was learned of limits is read once it is open."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock=clock)
        self.seen = clock
        self.decided_s: list[float] = []
        self.leased_s: list[float] = []
        self.gate: asyncio.Event | None = None
        self.read = 0
        self.faults = 0

    @property
    def persistent(self) -> bool:
        return True

    def post(self, batch: StoreBatch) -> None:
        if batch.decisions:
            if self.faults:
                self.faults -= 1
                raise RuntimeError("a fault of ours")
            self.decided_s.append(self.seen.monotonic_s())
        super().post(batch)

    async def get_setting(self, name: str) -> bytes | None:
        if self.gate is not None and name == "quota.memory":
            self.read += 1
            await self.gate.wait()
        return await super().get_setting(name)

    async def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        self.leased_s.append(self.seen.monotonic_s())
        return await super().lease(worker, asks)


class NoNetwork:
    """A transport that reaches nobody."""

    async def send(self, request: HttpRequest) -> HttpReply:
        raise TransportError("refused", SendPhase.NotSent, "the connection was refused")

    async def aclose(self) -> None:
        """Nothing is open."""


class House:
    """A running router with one key, in virtual time."""

    def __init__(self) -> None:
        self.clock = CountingClock()
        self.store = WatchedStore(self.clock)
        self.router = ApiKeyRouter(
            self.store,
            {"quota_wait_s": 0.0},
            transport=NoNetwork(),
            clock=self.clock,
            environ=SEALED,
        )

    async def ask(self) -> float:
        """A request; when it had failed."""
        with pytest.raises(SystemError):
            await self.router.route(ask())
        return self.clock.monotonic_s()


def live(scene: Callable[[House], Awaitable[None]]) -> None:
    """Runs `scene`."""

    async def whole() -> None:
        house = House()
        async with house.router as router:
            await router.register_provider("openai", OpenAIAdapter("http://127.0.0.1:9/v1"))
            await router.register_key("sk-" + "a" * 20, "openai")
            await scene(house)

    run_virtual(whole())


def test_an_idle_router_looks_around_about_once_a_second() -> None:
    async def scene(house: House) -> None:
        await asyncio.sleep(10.0)
        before = house.clock.slept
        await asyncio.sleep(100.0)
        assert (house.clock.slept - before) / 100.0 <= 3.0

    live(scene)


def test_what_happened_is_posted_within_a_quarter_of_a_second_however_long_it_was_idle() -> None:
    async def scene(house: House) -> None:
        for idle_s in (0.0, 0.1, 0.6, 3.0, 7.33, 100.9):
            await asyncio.sleep(idle_s)
            ended_s = await house.ask()
            await asyncio.sleep(0.26)
            assert house.store.decided_s[-1] == pytest.approx(ended_s, abs=0.2501)
            assert house.store.decided_s[-1] >= ended_s

    live(scene)


def test_requests_that_come_together_are_posted_together() -> None:
    async def scene(house: House) -> None:
        await asyncio.sleep(60.0)
        for _ in range(50):
            await house.ask()
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.0)
        assert len(house.store.decided_s) <= 4

    live(scene)


def test_a_store_that_takes_its_time_to_remember_limits_holds_up_no_posts() -> None:
    async def scene(house: House) -> None:
        house.store.gate = asyncio.Event()
        await house.ask()
        await asyncio.sleep(31.0)
        assert house.store.read == 1
        ended_s = await house.ask()
        await asyncio.sleep(60.0)
        assert house.store.decided_s[-1] <= ended_s + 0.2501
        assert house.store.read == 1, "a second one was begun while the first was under way"
        house.store.gate.set()
        await asyncio.sleep(0.0)
        await house.ask()
        await asyncio.sleep(31.0)
        assert house.store.read == 2

    live(scene)


def test_a_fault_while_posting_is_told_and_the_next_round_posts_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(house: House) -> None:
        house.store.faults = 1
        await house.ask()
        await asyncio.sleep(1.0)
        assert house.store.decided_s == []
        await house.ask()
        await asyncio.sleep(1.0)
        assert len(house.store.decided_s) == 1

    with caplog.at_level(logging.ERROR, "apikeyrouter"):
        live(scene)
    assert "Housekeeping failed" in caplog.text


def test_without_a_budget_no_leases_are_looked_after_and_the_first_one_is_asked_for_at_once() -> None:
    async def scene(house: House) -> None:
        await house.ask()
        await asyncio.sleep(100.0)
        assert house.store.leased_s == []
        await house.router.cost_controller.create_budget(
            BudgetScope.Global, 5, TimeWindow.Monthly, enforcement_mode=EnforcementMode.Soft
        )
        ended_s = await house.ask()
        await asyncio.sleep(0.26)
        assert house.store.leased_s
        assert house.store.leased_s[0] <= ended_s + 0.2501

    live(scene)


def test_a_lessee_that_rests_without_leases_asks_for_the_first_one_it_is_given() -> None:
    async def scene() -> None:
        clock = CountingClock()
        store = WatchedStore(clock)
        await store.open()
        lessee = Lessee(store, clock, on_answer=lambda *_: None, on_fenced=lambda: None, on_time=lambda: None)
        lessee.begin()
        running = asyncio.get_running_loop().create_task(lessee.run())
        await asyncio.sleep(100.0)
        assert (clock.slept, store.leased_s) == (0, [])
        lessee.add(Lease("budget-1", 0, 0, limit=1_000, hard=False, now_s=clock.monotonic_s()))
        await asyncio.sleep(0.26)
        assert store.leased_s
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()

    run_virtual(scene())


def test_what_a_round_itself_stirs_is_posted_by_the_next_one_and_not_after_a_nap() -> None:
    async def scene(house: House) -> None:
        rounds_s: list[float] = []

        def post() -> None:
            rounds_s.append(house.clock.monotonic_s())
            if len(rounds_s) < 20 or len(rounds_s) == 28:  # the last one before a nap
                own.stir()

        parts = house.router
        own = Housekeeping(
            house.clock,
            post,
            parts.cost_controller.book,
            parts.key_manager,
            parts.quota_memory,
            parts.feed,
            parts.credentials,
        )
        own.start()
        await asyncio.sleep(29 * 0.25)
        await own.stop(same_loop=True)
        assert rounds_s[28] - rounds_s[27] <= 0.2501

    live(scene)


def test_a_lessee_goes_on_where_the_loop_that_it_rested_on_was_closed_under_it() -> None:
    store = WatchedStore(VirtualClock())
    lessee = Lessee(store, SystemClock(), on_answer=lambda *_: None, on_fenced=lambda: None, on_time=lambda: None)
    left = asyncio.new_event_loop()
    resting = left.create_task(lessee.run())
    left.run_until_complete(asyncio.sleep(0.0))
    left.close()

    async def asked(budget_id: str) -> None:
        store.leased_s.clear()
        lessee.add(Lease(budget_id, 0, 0, limit=1_000, hard=False, now_s=0.0))
        for _ in range(20):
            await asyncio.sleep(0.0)
        assert store.leased_s

    async def later() -> None:
        await store.open()
        lessee.begin()
        lessee.kick()
        running = asyncio.get_running_loop().create_task(lessee.run())
        await asyncio.sleep(0.0)
        resting.get_coro().close()  # as a garbage collection does, at any time
        await asked("budget-1")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()

    run_virtual(later())
