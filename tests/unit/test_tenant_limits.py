"""Limits of callers: exact over workers in any 60 seconds, true about when to come back, and cheap where nobody shares.

Everything here runs in virtual time on a store in memory; servers are in tests/integration/test_tenant_race.py.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from apikeyrouter.domain.components.tenant_limits import Ticket
from apikeyrouter.domain.errors import ErrorCategory, StateStoreError, SystemError
from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseReply, LeaseWorker, rate_id
from apikeyrouter.domain.ledger.holds import Hold, LedgerError
from apikeyrouter.domain.ledger.leases import Answer
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.models.call import Tenant
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.virtual_time import VirtualClock, run_virtual
from tests.support.limit_workers import LimitWorker

CLOCK = VirtualClock()


class CountingStore(MemoryStateStore):
    """Counts calls; `down` makes it fail."""

    calls = 0
    down = False

    async def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        self.calls += 1
        if self.down:
            raise StateStoreError("The store is down.")
        await asyncio.sleep(0.001)
        return await super().lease(worker, asks)


def a_store() -> CountingStore:
    return CountingStore(clock=CLOCK)


async def admit(worker: LimitWorker, tenant: Tenant, tokens: int = 1, wait_s: float = 0.0) -> Ticket:
    return await worker.limits.admit(tenant, tokens=tokens, deadline_s=CLOCK.monotonic_s() + 600, wait_s=wait_s)


async def refusal(worker: LimitWorker, tenant: Tenant, tokens: int = 1, wait_s: float = 0.0) -> SystemError:
    with pytest.raises(SystemError) as caught:
        await admit(worker, tenant, tokens, wait_s)
    return caught.value


async def admitted(worker: LimitWorker, tenant: Tenant, count: int, tokens: int = 1) -> int:
    """Of `count` at once."""
    done = await asyncio.gather(*(admit(worker, tenant, tokens) for _ in range(count)), return_exceptions=True)
    for one in done:
        if isinstance(one, Ticket):
            one.close(tokens, sent=True)
        else:
            assert isinstance(one, SystemError), one
    return sum(isinstance(one, Ticket) for one in done)


def test_a_minute_admits_what_the_limit_says_and_tells_truly_when_the_next_fits() -> None:
    async def scenario() -> None:
        async with LimitWorker(a_store(), CLOCK) as worker:
            tenant = Tenant("t", rpm=30)
            assert await admitted(worker, tenant, 20) == 20
            await asyncio.sleep(10)
            assert await admitted(worker, tenant, 80) == 10
            error = await refusal(worker, tenant)
            assert (error.category, error.status, error.retryable) == (ErrorCategory.RateLimitError, 429, True)
            assert error.provider_code == "rate_limit_exceeded"
            assert error.details["which"] == "requests"
            assert (error.details["limit"], error.details["remaining"]) == (30, 0)
            assert error.retry_after is not None
            assert 49 <= error.retry_after <= 51
            await asyncio.sleep(error.retry_after)
            assert await admitted(worker, tenant, 80) == 20
            assert await admitted(worker, tenant, 80) == 0
            assert worker.limits.at_rest

    run_virtual(scenario())


def test_tokens_are_charged_as_used_and_what_was_never_sent_counts_for_nothing() -> None:
    async def scenario() -> None:
        async with LimitWorker(a_store(), CLOCK) as worker:
            tenant = Tenant("t", rpm=100, tpm=1000)
            first, second, third = [await admit(worker, tenant, 300) for _ in range(3)]
            assert [(one.which, one.remaining) for one in worker.limits.standing(tenant)] == [
                ("requests", 97),
                ("tokens", 100),
            ]
            error = await refusal(worker, tenant, 200)
            assert error.details["which"] == "tokens"
            first.close(50, sent=True)
            second.close(None, sent=False)
            third.close(None, sent=True)
            assert [(one.which, one.remaining) for one in worker.limits.standing(tenant)] == [
                ("requests", 98),
                ("tokens", 650),
            ]
            (await admit(worker, tenant, 600)).close(900, sent=True)
            assert [one.remaining for one in worker.limits.standing(tenant)] == [97, 0]
            assert (await refusal(worker, tenant, 1)).details["which"] == "tokens"
            never = await refusal(worker, tenant, 1001)
            assert (never.provider_code, never.retryable, never.retry_after) == ("request_above_limit", False, None)
            with pytest.raises(LedgerError):
                first.close(1, sent=True)

    run_virtual(scenario())


def test_places_under_way_come_back_when_requests_end_and_who_may_wait_gets_one() -> None:
    async def scenario() -> None:
        async with LimitWorker(a_store(), CLOCK) as worker:
            tenant = Tenant("t", parallel=2)
            running = [await admit(worker, tenant) for _ in range(2)]
            assert (await refusal(worker, tenant)).details["which"] == "parallel"
            waiting = asyncio.ensure_future(admit(worker, tenant, wait_s=30))
            await asyncio.sleep(4)
            assert not waiting.done()
            running[0].close(1, sent=True)
            third = await waiting
            error = await refusal(worker, tenant, wait_s=1)
            assert error.retry_after == pytest.approx(2, abs=0.1), "4 s each, two at once"
            cancelled = asyncio.ensure_future(admit(worker, tenant, wait_s=30))
            await asyncio.sleep(0.1)
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            running[1].close(None, sent=False)
            third.close(None, sent=True)
            assert worker.limits.standing(tenant)[0].remaining == 2
            assert await admitted(worker, tenant, 2) == 2

    run_virtual(scenario())


def test_who_may_wait_for_a_rate_is_let_in_when_enough_has_left_the_window() -> None:
    async def scenario() -> None:
        async with LimitWorker(a_store(), CLOCK) as worker:
            tenant = Tenant("t", rpm=5)
            assert await admitted(worker, tenant, 5) == 5
            started_s = CLOCK.monotonic_s()
            await admit(worker, tenant, wait_s=90)
            assert 59 <= CLOCK.monotonic_s() - started_s <= 61.5

    run_virtual(scenario())


@pytest.mark.parametrize("seed", range(6))
def test_no_sixty_seconds_see_more_than_the_limit_over_three_workers(seed: int) -> None:
    chance = random.Random(seed)
    limit = chance.choice((7, 30, 200))
    times_s: list[float] = []

    async def press(worker: LimitWorker, tenant: Tenant) -> None:
        while CLOCK.monotonic_s() < 300:
            if chance.random() < 0.01:
                await asyncio.sleep(chance.random() * 90)
            try:
                ticket = await admit(worker, tenant)
            except SystemError as error:
                assert error.retry_after is not None
                await asyncio.sleep(min(error.retry_after, 5 * chance.random()))
            else:
                times_s.append(CLOCK.monotonic_s())
                await asyncio.sleep(chance.random() * 3)
                ticket.close(1, sent=True)

    async def scenario() -> None:
        store = a_store()
        async with (
            LimitWorker(store, CLOCK) as one,
            LimitWorker(store, CLOCK) as two,
            LimitWorker(store, CLOCK) as three,
        ):
            workers = [one, two, three]
            await asyncio.gather(*(press(workers[n % 3], Tenant("t", rpm=limit)) for n in range(30)))
        assert (await store.load_windows([(rate_id("t:requests", 60), 0, 2**40)]))[0].granted <= limit

    run_virtual(scenario())
    times_s.sort()
    for first, last in zip(times_s, times_s[limit:], strict=False):
        assert last - first >= 60, "one more than the limit in 60 s"
    best = len(times_s)
    assert best >= limit * 4, f"{best} of {limit * 5} that could have been"


def test_a_request_is_not_refused_while_another_worker_keeps_something_idle() -> None:
    async def scenario() -> None:
        store = a_store()
        async with LimitWorker(store, CLOCK) as one:
            tenant = Tenant("t", rpm=30, parallel=4)
            assert await admitted(one, tenant, 4) == 4
            async with LimitWorker(store, CLOCK) as two:
                await asyncio.sleep(4)
                tickets = [await admit(two, tenant) for _ in range(4)]
                for ticket in tickets:
                    ticket.close(1, sent=True)
                count = 8
                for _ in range(22):
                    (await admit((one, two)[count % 2], tenant)).close(1, sent=True)
                    count += 1
                assert count == 30
                for worker in (one, two):
                    error = await refusal(worker, tenant)
                    assert error.retry_after is not None
                    assert 55 <= error.retry_after <= 57.5

    run_virtual(scenario())


def test_a_worker_that_used_nothing_tells_when_others_uses_leave() -> None:
    async def scenario() -> None:
        store = a_store()
        async with LimitWorker(store, CLOCK) as one, LimitWorker(store, CLOCK) as two:
            tenant = Tenant("t", rpm=10)
            assert await admitted(one, tenant, 10) == 10
            await asyncio.sleep(20)
            error = await refusal(two, tenant)
            assert error.retry_after is not None
            assert 39 <= error.retry_after <= 42
            await asyncio.sleep(error.retry_after + 0.5)
            assert await admitted(two, tenant, 10) == 10

    run_virtual(scenario())


def test_a_worker_that_is_alone_does_not_ask_the_store_for_each_request() -> None:
    async def scenario() -> None:
        store = a_store()
        async with LimitWorker(store, CLOCK) as worker:
            tenant = Tenant("t", rpm=100_000, tpm=10_000_000, parallel=100)
            (await admit(worker, tenant)).close(1, sent=True)
            before = store.calls
            for _ in range(2000):
                (await admit(worker, tenant, 100)).close(80, sent=True)
                await asyncio.sleep(0.01)
            assert store.calls - before <= 20 / 0.25 + 20

    run_virtual(scenario())


def test_a_limit_that_an_operator_changes_holds_at_once() -> None:
    async def scenario() -> None:
        store = a_store()
        async with LimitWorker(store, CLOCK) as one, LimitWorker(store, CLOCK) as two:
            assert await admitted(one, Tenant("t", rpm=10), 20) == 10
            assert await admitted(one, Tenant("t", rpm=15), 20) == 5
            assert await admitted(two, Tenant("t", rpm=18), 20) == 3
            assert await admitted(one, Tenant("t", rpm=12), 20) == 0
            await asyncio.sleep(61)
            assert await admitted(one, Tenant("t", rpm=12), 20) == 12
            assert await admitted(one, Tenant("t"), 20) == 20
            assert one.limits.standing(Tenant("t")) == []

    run_virtual(scenario())


def test_a_dead_workers_places_come_back_and_its_requests_count_for_a_minute() -> None:
    async def scenario() -> None:
        store = a_store()
        tenant = Tenant("t", rpm=20, parallel=4)
        async with LimitWorker(store, CLOCK) as one, LimitWorker(store, CLOCK) as two:
            for _ in range(4):
                await admit(one, tenant)
            assert (await refusal(two, tenant)).details["which"] == "parallel"
            await one.die()
            await asyncio.sleep(16)
            assert await store.recover_worker(one.lessee.worker.worker_id, None) == 0
            first = await admitted(two, tenant, 4)
            assert first == 4, "its places are free"
            total = first
            for _ in range(5):
                total += await admitted(two, tenant, 4)
            assert 10 <= total <= 16, "at most its whole share counts for a minute"
            await asyncio.sleep(62)
            assert sum([await admitted(two, tenant, 4) for _ in range(5)]) == 20

    run_virtual(scenario())


def test_a_worker_that_ends_in_order_leaves_what_it_used_and_nothing_else() -> None:
    async def scenario() -> None:
        store = a_store()
        tenant = Tenant("t", rpm=20, parallel=4)
        async with LimitWorker(store, CLOCK) as one:
            assert await admitted(one, tenant, 4) == 4
        async with LimitWorker(store, CLOCK) as two:
            for _ in range(4):
                assert await admitted(two, tenant, 4) == 4
            assert await admitted(two, tenant, 4) == 0

    run_virtual(scenario())


def test_while_the_store_is_down_a_worker_goes_on_with_its_part_of_the_limit() -> None:
    async def scenario() -> None:
        store = a_store()
        tenant = Tenant("t", rpm=20)
        async with LimitWorker(store, CLOCK) as one, LimitWorker(store, CLOCK) as two:
            await asyncio.sleep(1)
            assert await admitted(one, tenant, 1) == 1
            assert await admitted(two, tenant, 1) == 1
            await asyncio.sleep(4)
            store.down = True
            await asyncio.sleep(16)
            assert await admitted(one, tenant, 20) == 9
            assert (await refusal(one, tenant)).details["which"] == "requests"
            store.down = False
            await asyncio.sleep(2)
            assert await admitted(two, tenant, 20) == 9

    run_virtual(scenario())


def test_rows_and_objects_of_tenants_that_left_do_not_pile_up() -> None:
    async def scenario() -> None:
        store = a_store()
        async with LimitWorker(store, CLOCK) as worker, LimitWorker(store, CLOCK):
            await asyncio.sleep(0.5)
            for number in range(1500):
                tenant = Tenant(f"t{number}", rpm=100, parallel=5)
                (await admit(worker, tenant)).close(1, sent=True)
                await asyncio.sleep(1)
            assert len(list(worker.lessee.leases())) < 800, "those of the last six minutes"
            await asyncio.sleep(400)
            assert list(worker.lessee.leases()) == []
            names = [rate_id(f"t{number}:{what}", period) for number in range(1500) for what, period in
                     (("requests", 60), ("parallel", 0))]  # fmt: skip
            assert await store.load_windows([(name, 0, 2**40) for name in names]) == []

    run_virtual(scenario())


def test_workers_share_a_providers_limit_by_the_same_means() -> None:
    async def scenario() -> None:
        store = a_store()
        async with LimitWorker(store, CLOCK) as one, LimitWorker(store, CLOCK) as two:
            ledger, sent = Ledger(CLOCK), 0

            async def send(worker: LimitWorker) -> bool:
                for _ in range(3):
                    account = worker.limits.account_for("pool:openai/default", "requests", 60, 60)
                    hold = ledger.try_hold([(account, 1)])
                    if isinstance(hold, Hold):
                        hold.dispatch()
                        hold.settle([1])
                        return True
                    if await worker.limits.wait_for([(account, 1)], wait_s=1, patient=False) is not Answer.Room:
                        return False
                return False

            for _ in range(100):
                sent += sum(await asyncio.gather(send(one), send(two)))
            assert sent == 60
            account = one.limits.account_for("pool:openai/default", "requests", 60, 60)
            left_s = one.limits.retry_after_s(account, 1)
            assert left_s is not None
            assert 55 <= left_s <= 61
            await asyncio.sleep(62)
            assert await send(one)

    run_virtual(scenario())
