"""A file of the first version opens with everything in it: keys, and what every budget has spent in its window."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from pathlib import Path

import pytest

from apikeyrouter.domain.interfaces.state_store import StoredBudget
from apikeyrouter.infrastructure.state_store.sqlite_file import APPLICATION_ID
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
from apikeyrouter.testing.store_borrower import Borrower, assert_exact


def _start_s(*day_and_hour: int) -> int:
    return int(datetime(*day_and_hour, tzinfo=UTC).timestamp())  # type: ignore[arg-type, misc]  # year, month, day, ...


def _weeks() -> Iterator[tuple[str, int]]:
    """Every week of some awkward years, as the first version named it."""
    day = date(2019, 12, 23)
    while day < date(2028, 1, 10):
        yield day.strftime("%G-W%V"), _start_s(day.year, day.month, day.day)
        day += timedelta(days=7)


WINDOWS = [
    ("daily", "2026-11-21", _start_s(2026, 11, 21)),
    ("daily", "2024-02-29", _start_s(2024, 2, 29)),
    ("hourly", "2026-11-21T13", _start_s(2026, 11, 21, 13)),
    ("hourly", "2026-01-01T00", _start_s(2026, 1, 1)),
    ("minute", "2026-11-21T13:05", _start_s(2026, 11, 21, 13, 5)),
    ("monthly", "2026-11", _start_s(2026, 11, 1)),
    ("monthly", "2026-02", _start_s(2026, 2, 1)),
    ("total", "total", 0),
    *(("weekly", name, start) for name, start in _weeks()),
]


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """A file as the first version has written it: a budget per window, the nth of which has spent n of 100."""
    path = tmp_path / "state.sqlite"
    folder = resources.files("apikeyrouter.infrastructure.state_store") / "migrations"
    connection = sqlite3.connect(path)
    connection.executescript((folder / "0001_initial.sql").read_text(encoding="utf-8"))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute("PRAGMA user_version=1")
    connection.executemany(
        "INSERT INTO budgets (budget_id, scope, scope_id, limit_nano_usd, period, mode, window_id, spent_nano_usd, "
        "created_at_s, warning_count, status) VALUES (?, 'per_key', 'k', 100, ?, 'hard', ?, ?, ?, 7, ?)",
        [
            (f"b{number}", period, window, number % 120, number, "deleted" if number == 3 else "active")
            for number, (period, window, _) in enumerate(WINDOWS)
        ],
    )
    connection.execute(
        "INSERT INTO keys (key_id, provider_id, state, sealed_secret, fingerprint, version, document, created_at_s, "
        "updated_at_s, sealed_previous) VALUES ('k', 'openai', 'available', x'00', x'01', 3, '{}', 1, 2, NULL)"
    )
    connection.execute("INSERT INTO settings VALUES ('pepper', x'02')")
    connection.commit()
    connection.close()
    return path


async def test_what_was_spent_is_found_in_the_window_that_it_was_spent_in(old_file: Path) -> None:
    store = SQLiteStateStore(old_file)
    try:
        for number, (_, name, start) in enumerate(WINDOWS):
            totals = await assert_exact(store, f"b{number}", start)
            spent = number % 120
            assert (totals.spent, totals.granted, totals.held) == (spent, spent, 0), name
            assert totals.alerted == sum(spent >= percent for percent in (50, 80, 95, 100))
        (line,) = await store.query_entries("b5")
        assert (line.kind, line.amount, line.window, line.worker_id) == ("opening", 5, WINDOWS[5][2], "")
        grant = await Borrower(store).lease(100, budget_id="b60", window=WINDOWS[60][2])
        assert (grant.granted, grant.totals.spent, grant.crossed) == (40, 60, ()), "and counts against the limit"
    finally:
        await store.close()


async def test_definitions_keys_and_settings_stay_as_they_were(old_file: Path) -> None:
    store = SQLiteStateStore(old_file)
    try:
        budgets = await store.load_budgets()
        assert [row.budget_id for row in budgets] == [f"b{n}" for n in range(len(WINDOWS)) if n != 3]
        assert budgets[1] == StoredBudget("b1", "per_key", "k", 100, "daily", "hard", 1.0)
        (key,) = await store.load_keys()
        assert (key.key_id, key.version, key.revision, key.sealed_previous) == ("k", 3, 0, None)
        assert await store.get_setting("pepper") == b"\x02"
        assert (await store.changes(None, 0)).cursor == 0, "moving in is no news"
    finally:
        await store.close()
    again = SQLiteStateStore(old_file)
    try:
        assert await again.load_budgets() == budgets
    finally:
        await again.close()


async def test_a_migration_that_fails_leaves_the_old_file_as_it_was(old_file: Path) -> None:
    connection = sqlite3.connect(old_file)
    connection.execute("CREATE TABLE usage (something_else)")
    connection.commit()
    before = list(connection.iterdump())
    store = SQLiteStateStore(old_file)
    with pytest.raises(Exception, match="usage"):
        await store.open()
    await store.close()
    assert list(connection.iterdump()) == before
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()
