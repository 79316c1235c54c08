"""The PostgreSQL store when things go wrong: killed, frozen and locked servers, forks, ended event loops, processes."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.shared_ledger import Change, UsageQuery
from apikeyrouter.domain.interfaces.state_store import StateQuery, StoreBatch
from apikeyrouter.domain.models.health_state import HealthStatus
from apikeyrouter.infrastructure.state_store.postgres_store import PostgresStateStore
from apikeyrouter.testing.store_borrower import Borrower, assert_exact, put_budget, totals_of
from apikeyrouter.testing.store_rows import budget_row, event_row, key_row, usage_row
from tests.support.lease_clients import lease_clients
from tests.support.servers import PostgresServer

ROOT = Path(__file__).parents[2]
THIS_HOUR = int(datetime.now(UTC).timestamp()) // 3_600 * 3_600


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of this module's own, which tests may kill."""
    with PostgresServer() as server:
        yield server


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[PostgresStateStore]:
    store = PostgresStateStore(url, **settings)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def until(store: PostgresStateStore) -> None:
    """The server is back."""
    async with asyncio.timeout(30):
        while True:
            try:
                await store.flush()
                await store.load_keys()
            except StateStoreError:
                await asyncio.sleep(0)
            else:
                return


def test_the_limit_is_spent_exactly_by_four_processes_while_the_server_is_killed_five_times(
    server: PostgresServer,
) -> None:
    url, limit = server.fresh_url(), 60_000
    store = PostgresStateStore(url)

    async def define() -> None:
        await put_budget(store, limit=limit)
        await store.close()

    async def check(spent: int) -> None:
        totals = await assert_exact(store)
        assert (totals.spent, totals.granted, totals.overrun) == (spent, spent, 0)
        await store.close()

    kills = 0

    def kill_repeatedly(working: Callable[[], bool]) -> None:
        nonlocal kills

        async def spent_so_far() -> int:
            found = (await totals_of(store)).spent
            await store.close()
            return found

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


async def test_what_is_posted_is_written_exactly_once_though_the_server_is_killed_at_any_moment(
    server: PostgresServer,
) -> None:
    chance, posted = random.Random(3), 0
    async with opened(server.fresh_url()) as store:
        for _ in range(25):
            for _ in range(3):
                posted += 1
                store.post(StoreBatch(usage=[usage_row(THIS_HOUR)], events=[event_row(posted)]))
            flushing = asyncio.ensure_future(store.flush())
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)
            server.kill()
            server.start()
            await asyncio.gather(flushing, return_exceptions=True)
        await until(store)
        (used,) = await store.query_usage(UsageQuery())
        assert used.requests == posted
        events = await store.query_events(StateQuery("key.transition", limit=1_000))
        assert [one.at_s for one in events] == list(range(posted, 0, -1)), "in order, too"
        health = await store.health_check()
        assert (health.status, health.details["failed_posts"]) == (HealthStatus.Healthy, 0)


class CommitCutter:
    """Between a store and the server: cuts the connection when a commit comes by, `cuts` times.

    `before`: the server never hears of the commit, and rolls back. Else it commits, and its answer gets lost.
    """

    def __init__(self, server: PostgresServer, *, before: bool) -> None:
        self._server = server
        self._before = before
        self._tasks: set[asyncio.Task[None]] = set()
        self.cuts = 0
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[CommitCutter]:
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self) -> str:
        return self._server.fresh_url().replace(f":{self._server.port}/", f":{self.port}/")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        answers, questions = await asyncio.open_connection("127.0.0.1", self._server.port)
        back = asyncio.ensure_future(self._answer(answers, writer))
        try:
            while data := await reader.read(65_536):
                if self.cuts and b"COMMIT\x00" in data:
                    self.cuts -= 1
                    back.cancel()
                    await asyncio.wait([back])
                    if not self._before:
                        questions.write(data)
                        await answers.read(65_536)
                    break
                questions.write(data)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            questions.close()
            writer.close()
            self._tasks.discard(task)

    async def _answer(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await answers.read(65_536):
            writer.write(data)
        writer.close()


@pytest.mark.parametrize("before", [True, False], ids=["before the commit", "after the commit"])
async def test_posts_are_written_exactly_once_when_the_connection_breaks(server: PostgresServer, before: bool) -> None:
    async with CommitCutter(server, before=before).running() as cutter, opened(cutter.url()) as store:
        for number in range(5):
            # a commit that happened is not repeated, so there is no second one to cut
            cutter.cuts = cuts = number % 3 if before else number % 2
            store.post(StoreBatch(usage=[usage_row(THIS_HOUR)], events=[event_row(number)]))
            for _ in range(cuts):
                with pytest.raises(StateStoreError):
                    await store.flush()
            await until(store)
        assert cutter.cuts == 0
        (used,) = await store.query_usage(UsageQuery())
        events = await store.query_events(StateQuery("key.transition"))
        assert (used.requests, [one.at_s for one in events]) == (5, [4, 3, 2, 1, 0])


@pytest.mark.parametrize("before", [True, False], ids=["before the commit", "after the commit"])
async def test_a_lease_whose_answer_was_lost_is_an_error_and_repeating_it_is_harmless(
    server: PostgresServer, before: bool
) -> None:
    async with CommitCutter(server, before=before).running() as cutter, opened(cutter.url()) as store:
        await put_budget(store, limit=100)
        one = Borrower(store)
        ask = one.ask(60, spent=10, held=5)
        cutter.cuts = 1
        with pytest.raises(StateStoreError):
            await one.call(ask)
        await until(store)
        (grant,) = (await one.call(ask)).grants
        assert (grant.granted, grant.totals.spent, grant.totals.granted) == (60, 10, 60)
        await assert_exact(store)


async def test_a_lease_that_the_server_rolls_back_for_a_deadlock_is_repeated(server: PostgresServer) -> None:
    url = server.fresh_url()
    async with opened(url) as store:
        await put_budget(store, "a")
        await put_budget(store, "b")
        stranger, watcher = await asyncpg.connect(server.url), await asyncpg.connect(server.url)
        await stranger.execute(f'SET search_path = "{url.partition("schema=")[2]}"')
        await stranger.execute("SET deadlock_timeout = '60s'")  # so that the store is the one to give way
        one = Borrower(store)
        async with stranger.transaction():
            await stranger.execute("SELECT FROM budgets WHERE budget_id = 'b' FOR UPDATE")
            leasing = asyncio.ensure_future(one.call(one.ask(10, budget_id="a"), one.ask(20, budget_id="b")))
            while not await watcher.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):  # noqa: ASYNC110
                await asyncio.sleep(0)
            await stranger.execute("SELECT FROM budgets WHERE budget_id = 'a' FOR UPDATE")
        assert [grant.granted for grant in (await leasing).grants] == [10, 20]
        await stranger.close()
        await watcher.close()


async def test_posts_during_an_outage_are_kept_and_written_when_the_server_is_back(server: PostgresServer) -> None:
    async with opened(server.fresh_url()) as store:
        server.kill()
        for number in range(50):
            store.post(StoreBatch(events=[event_row(number)]))
        with pytest.raises(StateStoreError):
            await store.flush()
        assert (await store.health_check()).status is HealthStatus.Down
        server.start()
        await until(store)
        assert len(await store.query_events(StateQuery("key.transition"))) == 50


async def test_posts_that_nobody_waits_for_are_written_when_the_server_is_back(server: PostgresServer) -> None:
    async with (
        opened(server.fresh_url()) as store,
        opened(store._target.dsn + f"?schema={store._target.schema}") as other,
    ):
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
                await asyncio.sleep(0)


async def test_closing_during_an_outage_says_what_was_lost(server: PostgresServer) -> None:
    store = PostgresStateStore(server.fresh_url())
    await store.open()
    server.kill()
    try:
        store.post(StoreBatch(keys=[key_row("k")]))
        with pytest.raises(StateStoreError, match="1 posted batches were not stored"):
            await store.close()
    finally:
        server.start()


async def test_a_frozen_server_is_a_store_error_in_time_and_after_it_thaws_all_is_well(server: PostgresServer) -> None:
    async with opened(server.fresh_url(), connect_timeout_s=0.3, call_timeout_s=0.5) as store:
        await put_budget(store)
        one = Borrower(store)
        assert (await one.lease(10)).granted == 10
        server.freeze()
        clock = asyncio.get_running_loop().time
        started_s = clock()
        try:
            calls = [store.load_keys(), one.call(one.ask(20)), store.apply(StoreBatch(keys=[key_row("k")]))]
            outcomes = await asyncio.gather(
                *calls, *(store.get_setting("s") for _ in range(32)), return_exceptions=True
            )
            assert {type(one) for one in outcomes} == {StateStoreError}
            assert clock() - started_s < 5
        finally:
            server.thaw()
        await until(store)
        assert (await one.lease(30, have=10)).granted == 30


async def test_a_lock_that_somebody_else_holds_is_a_store_error_in_time(server: PostgresServer) -> None:
    url = server.fresh_url()
    async with opened(url, call_timeout_s=0.4) as store:
        await put_budget(store)
        stranger = await asyncpg.connect(server.url)
        schema = url.partition("schema=")[2]
        try:
            async with stranger.transaction():
                await stranger.execute(f'SELECT FROM "{schema}".budgets FOR UPDATE')
                with pytest.raises(StateStoreError):
                    await Borrower(store).lease(10)
                assert await store.load_keys() == [], "the others go on"
            await until(store)
            assert (await Borrower(store).lease(10)).granted == 10
        finally:
            await stranger.close()


async def test_changes_are_heard_again_after_every_connection_was_cut(server: PostgresServer) -> None:
    url = server.fresh_url()
    async with opened(url) as store, opened(url) as other:
        cursor = (await store.changes(None, 0)).cursor
        for number in range(3):
            waiting = asyncio.ensure_future(store.changes(cursor, 30))
            while store._feed is None or store._feed._connection is None:  # noqa: ASYNC110 - until it listens
                await asyncio.sleep(0)
            killer = await asyncpg.connect(server.url)
            await killer.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name <> ''")
            await killer.close()
            async with asyncio.timeout(10):
                for attempt in (waiting, None):  # the call that the cut met may fail; the next one does not
                    await until(other)
                    if attempt is not None:
                        await other.put_setting(f"s{number}", b"")
                    try:
                        found = await (attempt or store.changes(cursor, 30))
                    except StateStoreError:
                        await until(store)
                    else:
                        break
            assert list(found.changes) == [Change("setting", f"s{number}")]
            cursor = found.cursor


async def test_transactions_that_lock_the_same_rows_in_any_order_all_happen(server: PostgresServer) -> None:
    url, names = server.fresh_url(), [f"n{number}" for number in range(12)]
    async with opened(url) as one, opened(url) as other:
        await one.apply(StoreBatch(budgets=[budget_row(name, limit_nano_usd=10**9) for name in names]))

        async def write(store: PostgresStateStore, number: int) -> None:
            order = random.Random(number).sample(names, len(names))
            worker = Borrower(store, f"w{number}")
            for _ in range(5):
                rows = StoreBatch(
                    keys=[key_row(name) for name in order],
                    budgets=[budget_row(name, limit_nano_usd=10**9) for name in order],
                    usage=[usage_row(THIS_HOUR, cost=1, model=name) for name in order],
                )
                await store.apply(rows)
                await worker.call(*(worker.ask(number, budget_id=name) for name in order))

        async with asyncio.timeout(30):
            await asyncio.gather(*(write(one if number % 2 else other, number) for number in range(8)))
        for name in names:
            assert (await totals_of(one, name)).granted == sum(range(8))
        assert sum(row.requests for row in await other.query_usage(UsageQuery())) == 8 * 5 * 12


async def test_calls_that_are_cancelled_at_any_moment_leave_no_connection_behind(server: PostgresServer) -> None:
    chance, url = random.Random(1), server.fresh_url()
    for _ in range(40):
        store = PostgresStateStore(url)
        calls = [store.changes(0, 0.2), store.changes(0, 0.2), store.load_keys(), Borrower(store).call(), store.flush()]
        tasks = [asyncio.ensure_future(call) for call in calls]
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        for task in chance.sample(tasks, 3):
            task.cancel()
        await store.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.close()
    gc.collect()  # an unclosed connection or an unheard failure would be an error here
    watcher = await asyncpg.connect(server.url)
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'apikeyrouter'"
    async with asyncio.timeout(10):
        while await watcher.fetchval(ours):  # noqa: ASYNC110 - the server's own pace
            await asyncio.sleep(0)
    await watcher.close()


def run(program: str, url: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "STORE_URL": url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAD = """
import asyncio, os
from apikeyrouter.domain.interfaces.state_store import StoreBatch
from apikeyrouter.infrastructure.state_store import open_store
from apikeyrouter.testing.store_rows import key_row
store = open_store(os.environ["STORE_URL"])
"""


async def key_ids(url: str) -> list[str]:
    async with opened(url) as store:
        return [row.key_id for row in await store.load_keys()]


async def test_a_forked_child_uses_connections_of_its_own(postgres_url: str) -> None:
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
    assert run(HEAD + program, postgres_url).strip() == "0"
    assert await key_ids(postgres_url) == ["parent before", "child", "queued by the parent", "parent after"]


def test_one_store_serves_one_event_loop_after_the_other(postgres_url: str) -> None:
    store = PostgresStateStore(postgres_url)

    async def put(name: str) -> int:
        await store.apply(StoreBatch(keys=[key_row(name)]))
        cursor = (await store.changes(None, 0)).cursor
        await store.changes(cursor, 0.01)
        return len(await store.load_keys())

    assert [asyncio.run(put(name)) for name in "abc"] == [1, 2, 3]
    asyncio.run(store.close())


def test_what_a_loop_left_unwritten_the_next_one_writes(postgres_url: str) -> None:
    store = PostgresStateStore(postgres_url)

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


def test_a_store_made_and_filled_outside_of_a_loop_writes_in_the_first_one(postgres_url: str) -> None:
    store = PostgresStateStore(postgres_url)
    store.post(StoreBatch(keys=[key_row("a")]))

    async def look() -> list[str]:
        found = [row.key_id for row in await store.load_keys()]
        await store.close()
        return found

    assert asyncio.run(look()) == ["a"]


def test_without_its_driver_the_store_says_what_to_install() -> None:
    program = """
import sys
sys.modules["asyncpg"] = None
from apikeyrouter.domain.errors import ConfigurationError
from apikeyrouter.infrastructure.state_store import open_store
try:
    open_store("postgresql://u:secret-word@h/d")
except ConfigurationError as error:
    print(error)
"""
    said = run(program, "")
    assert "pip install 'apikeyrouter-core[postgres]'" in said
    assert "secret-word" not in said
