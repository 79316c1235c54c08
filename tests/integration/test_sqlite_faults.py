"""What goes wrong around a SQLite file: each failure is a StateStoreError with advice, and nothing is halved."""

from __future__ import annotations

import asyncio
import gc
import linecache
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.shared_ledger import Legacy
from apikeyrouter.domain.interfaces.state_store import StateQuery, StoreBatch
from apikeyrouter.domain.models.health_state import HealthStatus
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
from apikeyrouter.testing.store_borrower import WINDOW, Borrower, assert_exact, put_budget
from apikeyrouter.testing.store_rows import budget_row, decision_row, event_row, key_row


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


async def _refusal(store: SQLiteStateStore) -> str:
    """The message of a call that must fail, and the proof that every kind of call fails alike."""
    with pytest.raises(StateStoreError) as caught:
        await store.apply(StoreBatch(keys=[key_row("a")]))
    with pytest.raises(StateStoreError):
        await store.load_keys()
    with pytest.raises(StateStoreError):
        await store.open()
    health = await store.health_check()
    assert health.status is HealthStatus.Down
    assert health.details["error"]
    store.post(StoreBatch(keys=[key_row("a")]))
    with pytest.raises(StateStoreError):
        await store.flush()
    await store.close()
    return caught.value.message


# Opening


async def test_the_file_and_its_companions_are_for_the_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    store = SQLiteStateStore(tmp_path / "new" / "state.sqlite")
    try:
        await store.apply(StoreBatch(keys=[key_row("a")]))
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "new").iterdir()}
        assert modes == dict.fromkeys(["state.sqlite", "state.sqlite-wal", "state.sqlite-shm"], 0o600)
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    finally:
        os.umask(before)
        await store.close()
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["state.sqlite"], "closing leaves one whole file"


async def test_nothing_is_touched_before_the_first_call(path: Path) -> None:
    store = SQLiteStateStore(path)
    assert store.description == f"sqlite:///{path}"
    await store.close()
    assert not path.exists()


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("dear diary, " * 1_000)
    assert "not a SQLite database" in await _refusal(SQLiteStateStore(path))
    assert path.read_text() == "dear diary, " * 1_000


async def test_the_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    before = path.read_bytes()
    assert "another program" in await _refusal(SQLiteStateStore(path))
    assert path.read_bytes() == before


async def test_a_newer_database_is_refused_and_left_alone(path: Path) -> None:
    store = SQLiteStateStore(path)
    await store.apply(StoreBatch(keys=[key_row("a")]))
    await store.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    before = path.read_bytes()
    message = await _refusal(SQLiteStateStore(path))
    assert "version 99" in message
    assert "upgrade" in message
    assert path.read_bytes() == before


async def test_a_path_below_a_file_is_refused(path: Path) -> None:
    path.write_text("")
    assert "Check the path" in await _refusal(SQLiteStateStore(path / "state.sqlite"))


async def test_a_directory_is_no_database(tmp_path: Path) -> None:
    assert "cannot be opened" in await _refusal(SQLiteStateStore(tmp_path))


_ASKS_FOR_A_SETTING = """
import asyncio, sys
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
async def main():
    store = SQLiteStateStore(sys.argv[1])
    value = await store.put_setting("salt", sys.argv[2].encode(), only_if_absent=True)
    await store.close()
    print(value.decode())
asyncio.run(main())
"""


_WRITES_WHERE_IT_MAY_NOT = """
import asyncio, os, sys
from pathlib import Path
from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore

async def main(folder):
    warm = SQLiteStateStore(folder / "theirs.sqlite")
    await warm.open()
    await warm.close()
    folder.chmod(0o555)
    (folder / "theirs.sqlite").chmod(0o444)
    if os.geteuid() == 0:  # modes do not bind root
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
    for name in ("new.sqlite", "below/new.sqlite", "theirs.sqlite"):
        store = SQLiteStateStore(folder / name)
        try:
            await store.put_setting("a", b"b")
        except StateStoreError as error:
            print(error.message)
        await store.close()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_read_only_directory_or_file_is_told_as_such() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not pytest's: nobody else may look into that
        new, below, theirs = _run(_WRITES_WHERE_IT_MAY_NOT, Path(folder)).splitlines()
        Path(folder).chmod(0o700)
    for message in (new, below):
        assert "Permission denied. Check the path and who may write there." in message
    assert "read-only; make both writable" in theirs


def test_processes_that_open_a_new_file_at_once_agree_on_its_contents(path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _ASKS_FOR_A_SETTING, str(path), f"salt-{number}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, results
    assert len({out for out, _ in results}) == 1


# Writing


class _Faulty(sqlite3.Connection):
    """A connection whose N-th statement fails, once, after `arm(n)`. Counts what it runs."""

    countdown: int | None = None
    failed = False

    @classmethod
    def arm(cls, statements: int) -> None:
        cls.countdown, cls.failed = statements, False

    def _tick(self, statement: str) -> None:
        if _Faulty.countdown is None or statement.startswith("ROLLBACK"):
            return
        _Faulty.countdown -= 1
        if _Faulty.countdown == 0:
            _Faulty.countdown, _Faulty.failed = None, True
            raise sqlite3.OperationalError(f"injected into {statement[:40]}")

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self._tick(sql)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        self._tick(sql)
        return super().executemany(sql, parameters)


def _batch(version: int) -> StoreBatch:
    return StoreBatch(
        keys=[key_row("a", version=version), key_row("b", version=version)],
        budgets=[budget_row("c", limit_nano_usd=version)],
        events=[event_row(version)],
        decisions=[decision_row(f"d{version}", at_s=version)],
    )


async def _state(store: SQLiteStateStore) -> tuple[object, ...]:
    return (
        await store.load_keys(),
        await store.load_budgets(),
        await store.query_events(StateQuery("key.transition")),
        await store.query_decisions(StateQuery("RoutingDecision")),
    )


async def test_whichever_statement_of_an_apply_fails_nothing_of_it_remains(path: Path) -> None:
    store = SQLiteStateStore(path, connection_class=_Faulty, max_events=3, max_decisions=3)
    failures = 0
    try:
        for version in range(1, 5):  # four rows in logs of three, so that trimming fails as well
            await store.apply(_batch(version))
        for nth in range(1, 40):
            before = await _state(store)
            _Faulty.arm(nth)
            (outcome,) = await asyncio.gather(store.apply(_batch(100 + nth)), return_exceptions=True)
            _Faulty.countdown = None
            if outcome is None:
                assert not _Faulty.failed
                break
            assert "injected" in str(outcome)
            failures += 1
            assert await _state(store) == before
        assert 8 <= failures < 39, "the last round ran out of statements, so every one has failed once"
        keys, *_ = await _state(store)
        assert {row.version for row in keys} == {100 + failures + 1}
    finally:
        _Faulty.countdown = None
        await store.close()


async def _books(store: SQLiteStateStore) -> tuple[object, ...]:
    return (
        await store.load_windows([("b", 0, 2 * WINDOW)]),
        await store.query_entries("b"),
        [(row.worker_id, row.host) for row in await store.list_workers()],
        await store.changes(None, 0),
    )


async def test_whichever_statement_of_a_lease_or_a_recovery_fails_nothing_of_it_remains(path: Path) -> None:
    store = SQLiteStateStore(path, connection_class=_Faulty, max_events=4)
    failures = 0
    try:
        await put_budget(store, limit=1_000)
        await Borrower(store, "idle").lease(999)
        for spent in range(1, 6):  # more lines than are kept, so that folding fails as well
            await Borrower(store, "w").lease(1, seq=spent, spent=spent)
        before = await _books(store)
        for recovering in (False, True):
            for nth in range(1, 60):
                _Faulty.arm(nth)
                if recovering:
                    call: Any = store.recover_worker("w", {("b", WINDOW): Legacy(9, 3)})
                else:
                    call = Borrower(store, "new").lease(30, spent=7)
                (outcome,) = await asyncio.gather(call, return_exceptions=True)
                _Faulty.countdown = None
                if not _Faulty.failed:
                    break
                assert "injected" in str(outcome)
                failures += 1
                assert await _books(store) == before
            before = await _books(store)
        assert failures >= 20
        assert (await assert_exact(store)).spent == 19
    finally:
        _Faulty.countdown = None
        await store.close()


async def test_whichever_statement_of_opening_fails_the_next_call_opens_it(tmp_path: Path) -> None:
    failures = 0
    for nth in range(1, 60):
        store = SQLiteStateStore(tmp_path / f"{nth}.sqlite", connection_class=_Faulty)
        _Faulty.arm(nth)
        try:
            await store.open()
        except StateStoreError:
            failures += 1
        opened_at_once = not _Faulty.failed
        _Faulty.countdown = None
        await store.apply(_batch(1))
        assert len(await store.load_keys()) == 2
        await store.close()
        if opened_at_once:
            break
    assert failures > 15


async def test_one_bad_row_fails_its_own_call_only(path: Path) -> None:
    store = SQLiteStateStore(path)
    await store.open()
    store.post(StoreBatch(keys=[key_row("posted")]))
    calls = [
        store.apply(StoreBatch(keys=[key_row("a")])),
        store.apply(StoreBatch(decisions=[decision_row("no text", model="half a pair: \ud800")])),
        store.apply(StoreBatch(budgets=[budget_row("too much", limit_nano_usd=2**70)])),
        store.apply(StoreBatch(events=[event_row(float("nan"))])),
        store.apply(StoreBatch(keys=[key_row("c")])),
    ]
    try:
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in results] == [type(None), *[StateStoreError] * 3, type(None)]
        assert sorted(row.key_id for row in await store.load_keys()) == ["a", "c", "posted"]
        await store.flush()
    finally:
        await store.close()


async def test_a_full_disk_refuses_what_does_not_fit_and_takes_what_does(path: Path) -> None:
    store = SQLiteStateStore(path, max_file_bytes=400_000)
    try:
        await store.apply(StoreBatch(keys=[key_row("first", at_s=1)]))
        with pytest.raises(StateStoreError, match="no room left"):
            await store.apply(StoreBatch(keys=[key_row("huge", sealed_secret=b"s" * 1_000_000)]))
        store.post(StoreBatch(decisions=[decision_row("huge", payload=b"p" * 1_000_000)]))
        store.post(StoreBatch(keys=[key_row("second", at_s=2)]))
        assert [row.key_id for row in await store.load_keys()] == ["first", "second"]
        assert await store.get_decision("huge") is None
        with pytest.raises(StateStoreError, match=r"1 posted batches.*free disk space"):
            await store.flush()
        health = await store.health_check()
        assert (health.status, health.details["failed_posts"]) == (HealthStatus.Healthy, 1)
    finally:
        await store.close()


async def test_a_lock_held_for_too_long_is_told_and_its_end_lets_writes_through(path: Path) -> None:
    store = SQLiteStateStore(path, busy_timeout_s=0.05)
    await store.apply(StoreBatch(keys=[key_row("a", at_s=1)]))
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateStoreError, match="locked for too long"):
            await store.apply(StoreBatch(keys=[key_row("b", at_s=2)]))
        assert [row.key_id for row in await store.load_keys()] == ["a"], "readers do not wait for writers"
        other.execute("COMMIT")
        await store.apply(StoreBatch(keys=[key_row("c", at_s=3)]))
        assert [row.key_id for row in await store.load_keys()] == ["a", "c"]
    finally:
        other.close()
        await store.close()


async def test_when_the_writer_cannot_follow_decisions_are_dropped_and_counted_and_nothing_else(path: Path) -> None:
    store = SQLiteStateStore(path, max_queued_decisions=10)
    await store.open()
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")  # the writer waits for this lock while the queue grows
        for number in range(50):
            store.post(StoreBatch(events=[event_row(number)], decisions=[decision_row(f"d{number}", at_s=number)]))
        other.execute("COMMIT")
        await store.flush()
        assert len(await store.query_events(StateQuery("key.transition"))) == 50
        kept = await store.query_decisions(StateQuery("RoutingDecision"))
        assert [row.decision_id for row in kept] == [f"d{number}" for number in reversed(range(10))]
        health = await store.health_check()
        assert (health.details["dropped_decisions"], health.details["queued_decisions"]) == (40, 0)
        store.post(StoreBatch(decisions=[decision_row(f"late{number}") for number in range(15)]))
        await store.flush()
        assert (await store.health_check()).details["dropped_decisions"] == 45
    finally:
        other.close()
        await store.close()


async def test_rows_that_this_version_cannot_read_are_an_error_that_says_so(path: Path) -> None:
    store = SQLiteStateStore(path)
    try:
        await store.apply(StoreBatch(keys=[key_row("a", state="levitating")]))
        with pytest.raises(StateStoreError, match="cannot read"):
            await store.list_keys()
    finally:
        await store.close()


# Ends


async def test_closing_tells_of_posts_that_failed(path: Path) -> None:
    store = SQLiteStateStore(path)
    store.post(StoreBatch(events=[event_row(float("nan"))]))
    with pytest.raises(StateStoreError, match="1 posted batches"):
        await store.close()
    await store.close()


def _run(program: str, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


_HEAD = """
import asyncio, os, sys
from apikeyrouter.domain.interfaces.state_store import StoreBatch
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
from apikeyrouter.testing.store_rows import key_row
store = SQLiteStateStore(sys.argv[1])
"""


async def _key_ids(path: Path) -> list[str]:
    store = SQLiteStateStore(path)
    try:
        return [row.key_id for row in await store.load_keys()]
    finally:
        await store.close()


async def test_a_program_that_ends_without_closing_loses_nothing_it_posted(path: Path) -> None:
    _run(_HEAD + "store.post(StoreBatch(keys=[key_row('a')]))", path)
    assert await _key_ids(path) == ["a"]


async def test_a_store_that_is_dropped_without_closing_loses_nothing_and_leaves_no_thread(path: Path) -> None:
    threads = set(threading.enumerate())
    store = SQLiteStateStore(path)
    store.post(StoreBatch(keys=[key_row("a")]))
    del store
    gc.collect()
    assert set(threading.enumerate()) <= threads
    assert await _key_ids(path) == ["a"]


async def test_a_forked_child_writes_through_a_connection_of_its_own(path: Path) -> None:
    program = """
async def work(name):
    store.post(StoreBatch(keys=[key_row(name)]))
    await store.flush()

asyncio.run(work("parent before"))
child = os.fork()
if child == 0:
    asyncio.run(work("child"))
    asyncio.run(store.close())
    os._exit(0)
_, status = os.waitpid(child, 0)
asyncio.run(work("parent after"))
print(status)
"""
    assert _run(_HEAD + program, path).strip() == "0"
    assert await _key_ids(path) == ["parent before", "child", "parent after"]


def test_one_store_serves_one_event_loop_after_the_other(path: Path) -> None:
    store = SQLiteStateStore(path)

    async def put(name: str) -> int:
        await store.apply(StoreBatch(keys=[key_row(name)]))
        return len(await store.load_keys())

    assert [asyncio.run(put(name)) for name in "abc"] == [1, 2, 3]
    asyncio.run(store.close())


def test_a_loop_that_ended_while_its_call_ran_harms_nobody(path: Path) -> None:
    store = SQLiteStateStore(path)

    async def leaves_early() -> None:
        task = asyncio.create_task(store.apply(StoreBatch(keys=[key_row("a")])))
        await asyncio.sleep(0)
        task.cancel()

    async def count() -> int:
        return len(await store.load_keys())

    asyncio.run(leaves_early())
    assert asyncio.run(count()) == 1
    asyncio.run(store.close())


async def test_idle_threads_sleep_without_waking_by_the_clock(path: Path) -> None:
    """Where an idle thread stands is a wait without a timeout."""
    store = SQLiteStateStore(path)
    await store.apply(StoreBatch(keys=[key_row("a")]))
    await store.load_keys()
    async with asyncio.timeout(5):  # the reader may still be handing over its answer
        while not all("_queue.get()" in line for line in _frames_of("apikeyrouter-store")):  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert len(_frames_of("apikeyrouter-store")) == 2
    await store.close()


def _frames_of(thread_name: str) -> list[str]:
    """The source line at which each of our threads stands, once it has come to rest."""

    def lines() -> list[str]:
        running = sys._current_frames()
        found = []
        for thread in threading.enumerate():
            frame = running.get(thread.ident or 0)
            if thread.name.startswith(thread_name) and frame is not None:
                found.append(linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip())
        return found

    for _ in range(1_000):
        if all("_queue.get()" in line for line in lines()):
            break
    return lines()
