"""How the SQLite store commits: what is synced when, what shares a transaction, what trimming costs."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.state_store import StateQuery, StoreBatch
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
from apikeyrouter.testing.store_borrower import Borrower, put_budget
from apikeyrouter.testing.store_rows import event_row, key_row
from apikeyrouter.testing.virtual_time import ManualClock


class _Recording(sqlite3.Connection):
    """A connection that keeps what it was told to run."""

    said: list[str] = []  # noqa: RUF012 - one list for the connections of one test
    speakers: list[int] = []  # noqa: RUF012 - and who said it

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        _Recording.said.append(sql)
        _Recording.speakers.append(id(self))
        return super().execute(sql, parameters)


class _Breaking(sqlite3.Connection):
    """A connection to a disk that can fail."""

    broken = False

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if _Breaking.broken:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return super().execute(sql, parameters)


@pytest.fixture
def said() -> list[str]:
    """What connections have run since the test last cleared it."""
    _Recording.said, _Recording.speakers = [], []
    return _Recording.said


def _count(said: list[str], start: str) -> int:
    return sum(statement.startswith(start) for statement in said)


def _level_at_commit(said: list[str]) -> list[str]:
    """The synchronous level in force at each commit."""
    level, levels = "", []
    for statement in said:
        if statement.startswith("PRAGMA synchronous="):
            level = statement.removeprefix("PRAGMA synchronous=")
        elif statement == "COMMIT":
            levels.append(level)
    return levels


async def test_what_is_awaited_is_synced_and_what_is_posted_is_synced_by_the_next_flush(
    tmp_path: Path, said: list[str]
) -> None:
    store = SQLiteStateStore(tmp_path / "state.sqlite", connection_class=_Recording)
    await store.open()
    try:
        said.clear()
        await store.apply(StoreBatch(keys=[key_row("a")]))
        await store.put_setting("name", b"value")
        await store.delete_key("a")
        assert _level_at_commit(said) == ["FULL", "FULL", "FULL"]
        said.clear()
        store.post(StoreBatch(events=[event_row(1)]))
        await store.query_events(StateQuery("key.transition"))
        assert _level_at_commit(said)[-1] == "NORMAL"
        said.clear()
        await store.flush()
        assert _level_at_commit(said) == ["FULL"]
        assert _count(said, "PRAGMA user_version=") == 1, "an empty commit would sync nothing"
        said.clear()
        await store.flush()
        assert said == [], "nothing is left to sync"
    finally:
        await store.close()


async def test_posts_of_one_moment_share_a_transaction(tmp_path: Path, said: list[str]) -> None:
    store = SQLiteStateStore(tmp_path / "state.sqlite", connection_class=_Recording)
    await store.open()
    try:
        said.clear()
        for number in range(500):
            store.post(StoreBatch(events=[event_row(number)]))
        await store.flush()
        assert _count(said, "BEGIN") <= 3
    finally:
        await store.close()


async def test_64_awaited_writes_share_a_few_syncs(tmp_path: Path, said: list[str]) -> None:
    store = SQLiteStateStore(tmp_path / "state.sqlite", connection_class=_Recording)
    await store.open()
    try:
        said.clear()
        await asyncio.gather(*(store.apply(StoreBatch(events=[event_row(number)])) for number in range(64)))
        assert _count(said, "COMMIT") <= 16
    finally:
        await store.close()


async def test_posts_are_committed_soon_though_nobody_asks(tmp_path: Path) -> None:
    store = SQLiteStateStore(tmp_path / "state.sqlite")
    await store.open()
    other = sqlite3.connect(tmp_path / "state.sqlite")
    try:
        store.post(StoreBatch(events=[event_row(1)]))
        async with asyncio.timeout(5):
            while not other.execute("SELECT count(*) FROM events").fetchone()[0]:  # noqa: ASYNC110 - another's view
                await asyncio.sleep(0)
    finally:
        other.close()
        await store.close()


async def test_a_full_log_is_trimmed_once_per_tenth_of_its_size(tmp_path: Path, said: list[str]) -> None:
    store = SQLiteStateStore(tmp_path / "state.sqlite", connection_class=_Recording, max_events=100)
    await store.apply(StoreBatch(events=[event_row(number) for number in range(100)]))
    try:
        said.clear()
        for number in range(200):
            await store.apply(StoreBatch(events=[event_row(100 + number)]))
        assert 15 <= _count(said, "DELETE FROM events") <= 21
    finally:
        await store.close()


async def test_what_is_written_while_closing_comes_after_the_closing(tmp_path: Path, said: list[str]) -> None:
    path = tmp_path / "state.sqlite"
    store = SQLiteStateStore(path, connection_class=_Recording)
    await store.apply(StoreBatch(keys=[key_row("a", version=0)]))
    first = set(_Recording.speakers)
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")  # holds the first writer up
        store.post(StoreBatch(keys=[key_row("a", version=1)]))
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        later = asyncio.create_task(store.apply(StoreBatch(keys=[key_row("a", version=2)])))
        await asyncio.sleep(0)
        for _ in range(1_000):  # time enough for a second writer that did not wait for the first
            other.execute("SELECT count(*) FROM keys").fetchone()
        assert set(_Recording.speakers) == first
        other.execute("COMMIT")
        await asyncio.gather(closing, later)
        assert [row.version for row in await store.load_keys()] == [2]
    finally:
        other.close()
        await store.close()


async def test_a_lease_is_one_transaction_and_synced_only_when_a_slice_may_grow(
    tmp_path: Path, said: list[str]
) -> None:
    store = SQLiteStateStore(tmp_path / "state.sqlite", connection_class=_Recording)
    await put_budget(store)
    worker = Borrower(store)
    try:
        said.clear()
        await worker.lease(60)
        assert (_count(said, "COMMIT"), _count(said, "PRAGMA")) == (1, 0), "the level is still FULL"
        said.clear()
        await worker.lease(60, have=60, spent=20, held=5)
        await worker.lease(30, have=60, spent=25)
        assert _level_at_commit(said) == ["NORMAL", "NORMAL"]
        assert _count(said, "PRAGMA user_version=") == 0
        said.clear()
        await worker.lease(31, have=30, spent=25)
        assert _level_at_commit(said) == ["FULL"]
        assert _count(said, "PRAGMA user_version=") == 1, "what was not synced before is synced now"
        said.clear()
        await worker.lease(31, have=31, spent=35, overrun=4)  # spend above the slice makes it grow
        await store.recover_worker("w1", {})
        assert (_count(said, "COMMIT"), _count(said, "PRAGMA")) == (2, 0), "the level is still FULL"
    finally:
        await store.close()


async def test_64_leases_at_once_share_a_few_syncs(tmp_path: Path, said: list[str]) -> None:
    store = SQLiteStateStore(tmp_path / "state.sqlite", connection_class=_Recording)
    await put_budget(store, limit=1_000)
    try:
        said.clear()
        grants = await asyncio.gather(*(Borrower(store, f"w{number}").lease(10) for number in range(64)))
        assert sum(grant.granted for grant in grants) == 640
        assert _count(said, "COMMIT") <= 16
    finally:
        await store.close()


async def test_waiting_for_changes_reads_no_table_while_nothing_is_written(tmp_path: Path, said: list[str]) -> None:
    clock = ManualClock()
    store = SQLiteStateStore(tmp_path / "state.sqlite", connection_class=_Recording, clock=clock)
    await store.put_setting("a", b"")
    try:
        now = await store.changes(None, 0)
        said.clear()
        assert await store.changes(now.cursor, 2.0) == now
        assert 40 <= _count(said, "PRAGMA data_version") <= 60, "every 50 ms at least"
        assert _count(said, "SELECT DISTINCT") == 0
        assert _count(said, "SELECT (SELECT") == 1, "the first look; then only the counter of commits"
    finally:
        await store.close()


async def test_waiting_for_changes_ends_with_the_store_and_does_not_open_it_again(tmp_path: Path) -> None:
    store = SQLiteStateStore(tmp_path / "state.sqlite")
    now = await store.changes(None, 0)
    waiting = asyncio.create_task(store.changes(now.cursor, 600))
    for _ in range(10):
        await asyncio.sleep(0)
    await store.close()
    async with asyncio.timeout(5):
        assert await waiting == now
    assert not (tmp_path / "state.sqlite-wal").exists(), "nobody has it open"


async def test_a_file_that_is_lost_is_an_error_for_who_waits(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    store = SQLiteStateStore(path, connection_class=_Breaking)
    try:
        now = await store.changes(None, 0)
        waiting = asyncio.create_task(store.changes(now.cursor, 600))
        for _ in range(10):
            await asyncio.sleep(0)
        _Breaking.broken = True
        async with asyncio.timeout(5):
            with pytest.raises(StateStoreError, match="disk failed"):
                await waiting
    finally:
        _Breaking.broken = False
        await store.close()
