"""The Redis store when things go wrong: killed, frozen and full servers, lost answers, forks, ended event loops."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.shared_ledger import Change, UsageQuery
from apikeyrouter.domain.interfaces.state_store import StateQuery, StoreBatch
from apikeyrouter.domain.models.health_state import HealthStatus
from apikeyrouter.infrastructure.state_store.redis_store import RedisStateStore
from apikeyrouter.testing.store_borrower import Borrower, assert_exact, put_budget, totals_of
from apikeyrouter.testing.store_rows import decision_row, event_row, key_row, usage_row
from tests.support.lease_clients import lease_clients
from tests.support.relay import relay
from tests.support.servers import RedisServer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RedisServer]:
    """A server of this module's own, which tests may kill."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    assert shared_server.command("FLUSHALL").startswith(b"+OK")
    return shared_server


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[RedisStateStore]:
    store = RedisStateStore(url, **settings)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def until_back(store: RedisStateStore) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await store.flush()
                await store.load_keys()
            except StateStoreError:
                await asyncio.sleep(0)
            else:
                return


# What a crash of the server loses


def test_the_limit_is_spent_exactly_by_four_processes_while_the_server_is_killed_five_times(
    server: RedisServer,
) -> None:
    url, limit = server.url, 60_000
    store = RedisStateStore(url)

    async def define() -> None:
        await put_budget(store, limit=limit)
        await store.close()

    async def check(spent: int) -> None:
        totals = await assert_exact(store)
        assert (totals.spent, totals.granted, totals.overrun) == (spent, spent, 0)
        await store.close()

    async def spent_so_far() -> int:
        found = (await totals_of(store)).spent
        await store.close()
        return found

    kills = 0

    def kill_repeatedly(working: Callable[[], bool]) -> None:
        nonlocal kills
        while working() and kills < 5:
            if asyncio.run(spent_so_far()) > limit * kills // 6:
                server.kill()
                server.start()
                kills += 1

    asyncio.run(define())
    spent, failures = lease_clients(url, processes=4, workers=8, step=300, meanwhile=kill_repeatedly)
    assert kills == 5
    assert failures > 0, "the kills met nobody"
    assert spent == limit
    asyncio.run(check(spent))


async def test_after_a_crash_without_a_log_living_workers_give_the_store_back_what_it_forgot() -> None:
    with RedisServer(arguments=["--appendonly", "no"]) as server:
        async with opened(server.url) as store:
            await put_budget(store, limit=100)
            assert server.command("SAVE").startswith(b"+OK")
            living, dead = Borrower(store, "living"), Borrower(store, "dead")
            await living.lease(30, spent=20, held=5)
            assert (await dead.lease(40, spent=10)).granted == 40
            server.kill()
            server.start()
            await until_back(store)
            assert (await totals_of(store)).granted == 0, "it has forgotten everything since the snapshot"
            grant = await living.lease(30, spent=25, held=5, have=30)
            assert (grant.granted, grant.totals.spent, grant.totals.granted) == (30, 25, 30)
            assert (await Borrower(store, "new").lease(100)).granted == 70
            await assert_exact(store)


@pytest.mark.parametrize("seed", range(3))
async def test_overspend_after_a_crash_is_at_most_what_was_granted_in_the_loss_window(seed: int) -> None:
    chance, limit = random.Random(seed), 1_000
    with RedisServer(arguments=["--appendonly", "no"]) as server:
        async with opened(server.url) as store:
            await put_budget(store, limit=limit)
            workers = [Borrower(store, f"w{number}") for number in range(6)]
            books = [[0, 0, 0] for _ in workers]  # granted, spent, granted at the last snapshot

            async def turn(number: int) -> None:
                granted, spent, _ = books[number]
                wanted = max(granted, spent + chance.randrange(80))
                grant = await workers[number].lease(wanted, spent=spent, held=granted - spent, have=granted)
                books[number][:2] = grant.granted, chance.randint(spent, grant.granted)

            lost = dead = 0
            for _ in range(4):
                for _ in range(10):
                    await turn(chance.randrange(6))
                assert server.command("SAVE").startswith(b"+OK")
                for one in books:
                    one[2] = one[0]
                for _ in range(10):
                    await turn(chance.randrange(6))
                server.kill()
                server.start()
                lost += sum(max(0, granted - before) for granted, _, before in books)
                dying = chance.randrange(6)  # nobody will tell the store of its slice
                workers[dying] = Borrower(store, f"{workers[dying].worker.worker_id}+")
                dead, books[dying] = dead + books[dying][0], [0, 0, 0]
                await until_back(store)
                for number in chance.sample(range(6), 6):
                    await turn(number)
            await assert_exact(store)
            assert lost > 0
            assert dead + sum(granted for granted, _, _ in books) <= limit + lost


# Posts and answers


async def test_what_is_posted_is_written_exactly_once_though_the_server_is_killed_at_any_moment(
    server: RedisServer,
) -> None:
    chance, posted = random.Random(3), 0
    async with opened(server.url) as store:
        for _ in range(25):
            for _ in range(3):
                posted += 1
                store.post(StoreBatch(usage=[usage_row(3_600 * 490_000)], events=[event_row(posted)]))
            flushing = asyncio.ensure_future(store.flush())
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)
            server.kill()
            server.start()
            await asyncio.gather(flushing, return_exceptions=True)
        await until_back(store)
        (used,) = await store.query_usage(UsageQuery())
        assert used.requests == posted
        events = await store.query_events(StateQuery("key.transition", limit=1_000))
        assert [one.at_s for one in events] == list(range(posted, 0, -1)), "in order, too"
        health = await store.health_check()
        assert (health.status, health.details["failed_posts"]) == (HealthStatus.Healthy, 0)


async def test_a_lost_answer_is_an_error_and_what_was_posted_is_not_written_again(server: RedisServer) -> None:
    async with relay(server.port) as way, opened(f"redis://127.0.0.1:{way.port}") as store:
        way.deaf = True
        store.post(StoreBatch(events=[event_row(1)], usage=[usage_row(3_600 * 490_000)]))
        with pytest.raises(StateStoreError):
            await store.apply(StoreBatch(events=[event_row(2)]))
        assert way.swallowed > 0
        store.post(StoreBatch(events=[event_row(3)]))
        way.deaf = False
        await until_back(store)
        events = await store.query_events(StateQuery("key.transition"))
        written = [one.at_s for one in events]
        assert written in ([3, 2, 1], [3, 1]), "the awaited one may have been written: its error says 'unknown'"
        (used,) = await store.query_usage(UsageQuery())
        assert used.requests == 1


async def test_a_batch_after_a_lost_answer_is_not_taken_for_the_lost_one(server: RedisServer) -> None:
    async with relay(server.port) as way, opened(f"redis://127.0.0.1:{way.port}") as store:
        way.deaf = True
        with pytest.raises(StateStoreError):
            await store.apply(StoreBatch(events=[event_row(1)]))
        way.deaf = False
        await store.apply(StoreBatch(events=[event_row(2)]))
        written = [one.at_s for one in await store.query_events(StateQuery("key.transition"))]
        assert written in ([2, 1], [2]), "the second is written whatever became of the first"


async def test_a_lease_whose_answer_is_lost_may_be_repeated(server: RedisServer) -> None:
    async with relay(server.port) as way, opened(f"redis://127.0.0.1:{way.port}") as store:
        await put_budget(store, limit=100)
        one = Borrower(store)
        ask = one.ask(60, spent=7)
        way.deaf = True
        with pytest.raises(StateStoreError):
            await one.call(ask)
        way.deaf = False
        (grant,) = (await one.call(ask)).grants
        assert (grant.granted, grant.totals.granted, grant.totals.spent) == (60, 60, 7)
        await assert_exact(store)


async def test_posts_during_an_outage_are_kept_and_written_when_the_server_is_back(server: RedisServer) -> None:
    async with opened(server.url) as store:
        server.kill()
        for number in range(50):
            store.post(StoreBatch(events=[event_row(number)]))
        with pytest.raises(StateStoreError):
            await store.flush()
        assert (await store.health_check()).status is HealthStatus.Down
        server.start()
        await until_back(store)
        assert len(await store.query_events(StateQuery("key.transition"))) == 50


async def test_posts_that_nobody_waits_for_are_written_when_the_server_is_back(server: RedisServer) -> None:
    async with opened(server.url) as store, opened(server.url) as other:
        server.kill()
        store.post(StoreBatch(keys=[key_row("k")]))
        for _ in range(100):
            await asyncio.sleep(0)
        server.start()
        async with asyncio.timeout(30):
            while True:
                try:
                    if await other.load_keys():
                        break
                except StateStoreError:
                    pass
                await asyncio.sleep(0.01)


async def test_a_full_queue_drops_decisions_counts_them_and_keeps_the_rest(server: RedisServer) -> None:
    async with opened(server.url, max_queued_decisions=10) as store:
        server.kill()
        for number in range(30):
            store.post(StoreBatch(events=[event_row(number)], decisions=[decision_row(f"d{number}", at_s=number)]))
        server.start()
        await until_back(store)
        assert (await store.health_check()).details["dropped_decisions"] == 20
        assert len(await store.query_decisions(StateQuery("RoutingDecision"))) == 10
        assert len(await store.query_events(StateQuery("key.transition"))) == 30
        store.post(StoreBatch(decisions=[decision_row("later", at_s=99)]))
        assert await store.get_decision("later") is not None


async def test_closing_during_an_outage_says_what_was_lost(server: RedisServer) -> None:
    store = RedisStateStore(server.url)
    await store.open()
    server.kill()
    try:
        store.post(StoreBatch(keys=[key_row("k")]))
        with pytest.raises(StateStoreError, match="1 posted batches were not stored"):
            await store.close()
    finally:
        server.start()
    async with opened(server.url) as later:
        assert await later.load_keys() == []


async def test_a_batch_that_the_server_refuses_takes_no_other_with_it(server: RedisServer) -> None:
    async with opened(server.url) as store:
        assert server.command("SET", "akr:{main}:events:time", "a stranger's").startswith(b"+OK")
        store.post(StoreBatch(keys=[key_row("a", at_s=1)]))
        store.post(StoreBatch(events=[event_row(1)]))
        store.post(StoreBatch(keys=[key_row("b", at_s=2)]))
        assert [row.key_id for row in await store.load_keys()] == ["a", "b"]
        with pytest.raises(StateStoreError, match=r"1 posted batches were not stored.*refused"):
            await store.flush()
        with pytest.raises(StateStoreError, match="refused"):
            await store.apply(StoreBatch(events=[event_row(1)]))


async def test_a_full_server_refuses_and_goes_on_when_it_has_room_again(server: RedisServer) -> None:
    async with opened(server.url) as store:
        await put_budget(store)
        assert server.command("CONFIG", "SET", "maxmemory", "1").startswith(b"+OK")
        try:
            store.post(StoreBatch(keys=[key_row("k")]))
            with pytest.raises(StateStoreError, match="full"):
                await store.flush()
            with pytest.raises(StateStoreError, match="full"):
                await Borrower(store).lease(10)
        finally:
            assert server.command("CONFIG", "SET", "maxmemory", "0").startswith(b"+OK")
        await until_back(store)
        assert [row.key_id for row in await store.load_keys()] == ["k"]
        assert (await Borrower(store).lease(10)).granted == 10


async def test_a_frozen_server_is_a_store_error_within_two_seconds_and_after_it_thaws_all_is_well(
    server: RedisServer,
) -> None:
    async with opened(server.url) as store:
        await put_budget(store)
        one = Borrower(store)
        assert (await one.lease(10)).granted == 10
        cursor = (await store.changes(None, 0)).cursor
        server.freeze()
        clock = asyncio.get_running_loop().time
        started_s = clock()
        try:
            calls = [store.load_keys(), one.call(one.ask(20)), store.apply(StoreBatch(keys=[key_row("k")]))]
            many = [store.get_setting("s") for _ in range(40)]
            outcomes = await asyncio.gather(*calls, store.changes(cursor, 0), *many, return_exceptions=True)
            assert all(isinstance(one, StateStoreError) for one in outcomes)
            assert clock() - started_s < 2.5, "two seconds, and what a busy machine adds"
        finally:
            server.thaw()
        await until_back(store)
        assert (await one.lease(30, have=10)).granted == 30


async def test_answers_are_never_mixed_up_by_calls_that_were_cancelled(server: RedisServer) -> None:
    chance = random.Random(5)
    async with opened(server.url) as store:
        for number in range(40):
            await store.put_setting(f"s{number}", b"%d" % number)

        async def ask(number: int) -> None:
            assert await store.get_setting(f"s{number}") == b"%d" % number

        for _ in range(60):
            calls = [asyncio.ensure_future(ask(chance.randrange(40))) for _ in range(20)]
            for call in calls[::2]:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                call.cancel()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            wrong = [one for one in outcomes if not isinstance(one, asyncio.CancelledError | None)]
            assert wrong == []


async def test_nobody_misses_a_change_when_the_server_was_started_anew() -> None:
    with RedisServer(arguments=["--appendonly", "no"]) as server:
        async with opened(server.url) as store, opened(server.url) as other:
            await store.put_setting("s", b"0")
            assert server.command("SAVE").startswith(b"+OK")
            await store.put_setting("s", b"1")
            cursor = (await other.changes(None, 0)).cursor
            server.kill()
            server.start()
            await until_back(store)
            for number in range(5):
                await store.put_setting(f"s{number}", b"2")
            await until_back(other)
            found = await other.changes(cursor, 0)
            assert found.lost
            await store.put_setting("t", b"3")
            assert (await other.changes(found.cursor, 5)).changes == (Change("setting", "t"),)


# Processes and event loops


HEAD = """
import asyncio, os
from apikeyrouter.domain.interfaces.state_store import StoreBatch
from apikeyrouter.infrastructure.state_store import open_store
from apikeyrouter.testing.store_rows import key_row
store = open_store(os.environ["STORE_URL"])
"""


def run(program: str, url: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "STORE_URL": url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


async def test_a_forked_child_uses_connections_of_its_own(server: RedisServer) -> None:
    program = """
async def work(name):
    store.post(StoreBatch(keys=[key_row(name)]))
    await store.flush()
    await store.changes(0, 0.01)

async def with_a_child():
    await work("parent before")
    store.post(StoreBatch(keys=[key_row("queued by the parent")]))
    child = os.fork()
    if child == 0:
        asyncio.set_event_loop(None)
        asyncio.events._set_running_loop(None)
        asyncio.run(in_the_child())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    await work("parent after")
    await store.close()
    print(status)

async def in_the_child():
    await work("child")
    await store.close()

asyncio.run(with_a_child())
"""
    assert run(HEAD + program, server.url).strip() == "0"
    async with opened(server.url) as store:
        ids = [row.key_id for row in await store.load_keys()]
    assert ids == ["parent before", "child", "queued by the parent", "parent after"]


def test_one_store_serves_one_event_loop_after_the_other(server: RedisServer) -> None:
    program = """
async def put(name):
    await store.apply(StoreBatch(keys=[key_row(name)]))
    cursor = (await store.changes(None, 0)).cursor
    await store.changes(cursor, 0.01)
    return len(await store.load_keys())

print([asyncio.run(put(name)) for name in "abc"])
asyncio.run(store.close())
"""
    assert run(HEAD + program, server.url).strip() == "[1, 2, 3]"


def test_what_a_loop_left_unwritten_the_next_one_writes(server: RedisServer) -> None:
    store = RedisStateStore(server.url)

    async def leave_early() -> None:
        await store.open()
        for number in range(5):
            store.post(StoreBatch(events=[event_row(number)]))
            if number == 2:
                asyncio.ensure_future(store.flush())  # noqa: RUF006 - the end of the loop cancels it, somewhere
                for _ in range(12):
                    await asyncio.sleep(0)

    async def count() -> int:
        found = len(await store.query_events(StateQuery("key.transition")))
        await store.close()
        return found

    asyncio.run(leave_early())
    assert asyncio.run(count()) == 5


def test_a_loop_that_was_stopped_in_the_midst_of_writing_does_not_hold_up_the_next_one(server: RedisServer) -> None:
    store = RedisStateStore(server.url)
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        store.post(StoreBatch(events=[event_row(1)]))
        asyncio.ensure_future(store.flush())  # noqa: RUF006 - nobody will ever finish it
        for _ in range(3):
            await asyncio.sleep(0)

    loop.run_until_complete(begin())
    stuck = asyncio.all_tasks(loop)

    async def count() -> int:
        async with asyncio.timeout(10):
            found = len(await store.query_events(StateQuery("key.transition")))
            await store.close()
            return found

    assert asyncio.run(count()) == 1
    for task in stuck:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*stuck, return_exceptions=True))
    loop.close()


def test_a_store_filled_outside_of_a_loop_writes_in_the_first_one(server: RedisServer) -> None:
    store = RedisStateStore(server.url)
    store.post(StoreBatch(keys=[key_row("a")]))

    async def look() -> list[str]:
        found = [row.key_id for row in await store.load_keys()]
        await store.close()
        return found

    assert asyncio.run(look()) == ["a"]


def test_without_its_driver_the_store_says_what_to_install() -> None:
    program = """
import sys
sys.modules["redis"] = None
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.infrastructure.state_store import open_store
try:
    open_store("redis://u:secret-word@h/0")
except ConfigurationError as error:
    print(error)
"""
    said = run(program, "")
    assert "pip install 'apikeyrouter-core[redis]'" in said
    assert "secret-word" not in said
