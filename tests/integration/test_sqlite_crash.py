"""A process with a SQLite store is killed at any moment: what it was told is there, and nothing is halved."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from apikeyrouter.domain.interfaces.state_store import StateQuery
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore

_BATCH_ROWS = 20

# Writes for ever. After every acknowledged call it prints one line, so the parent knows what must survive.
_VICTIM = """
import asyncio, sys
from apikeyrouter.domain.interfaces.state_store import StoreBatch
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
from apikeyrouter.testing.store_rows import budget_row, decision_row, event_row, key_row

async def main(path, batch_rows):
    store = SQLiteStateStore(path, max_events=100_000, max_decisions=300)
    await store.open()
    print("opened", flush=True)
    number = 0

    async def applies(lane):
        nonlocal number
        while True:
            number += 1
            mine = number
            names = [f"key_{n}" for n in range(batch_rows)]
            await store.apply(StoreBatch(
                keys=[key_row(name, version=mine, sealed_secret=b"s" * 500) for name in names],
                budgets=[budget_row("b", limit_nano_usd=mine)],
                events=[event_row(mine, kind="applied", entity_id=str(mine), of=name) for name in names],
                decisions=[decision_row(f"d{mine}", at_s=mine, payload=b"p" * 2_000)],
            ))
            print("applied", mine, flush=True)

    async def posts():
        posted = 0
        while True:
            for _ in range(10):
                posted += 1
                store.post(StoreBatch(events=[event_row(posted, kind="posted", entity_id=str(posted), part=part)
                                              for part in range(batch_rows)]))
            if posted % 100 == 0:
                await store.flush()
                print("flushed", posted, flush=True)
            await asyncio.sleep(0)

    await asyncio.gather(applies(0), applies(1), applies(2), posts())

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def _run_and_kill(path: Path, lines: int) -> tuple[set[int], int]:
    """Kills the victim the moment it has printed `lines` lines; returns what it had been told, applied and flushed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, str(path), str(_BATCH_ROWS)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    told = []
    try:
        for line in process.stdout:
            told.append(line.split())
            if len(told) == lines:
                break
    finally:
        process.kill()
    with process.stdout:
        told += [line.split() for line in process.stdout if line.endswith("\n")]
    assert process.wait(10) == -signal.SIGKILL
    applied = {int(words[1]) for words in told if words[0] == "applied"}
    flushed = max((int(words[1]) for words in told if words[0] == "flushed"), default=0)
    return applied, flushed


@pytest.mark.parametrize("seed", range(6))
async def test_a_killed_process_leaves_a_sound_file_with_everything_that_was_acknowledged(
    seed: int, tmp_path: Path
) -> None:
    path = tmp_path / "state.sqlite"
    applied, flushed = _run_and_kill(path, lines=random.Random(seed).randrange(2, 120))

    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counts = connection.execute("SELECT kind, entity_id, count(*) FROM events GROUP BY kind, entity_id").fetchall()
    connection.close()
    assert {count for _, _, count in counts} <= {_BATCH_ROWS}, "every batch is there wholly or not at all"
    found_applied = {int(number) for kind, number, _ in counts if kind == "applied"}
    found_posted = {int(number) for kind, number, _ in counts if kind == "posted"}
    assert applied <= found_applied
    assert found_posted == set(range(1, len(found_posted) + 1)), "posts are a prefix of what was posted"
    assert len(found_posted) >= flushed

    store = SQLiteStateStore(path)
    try:
        keys = await store.load_keys()
        budgets = await store.load_budgets()
        newest = max(found_applied, default=0)
        assert {row.version for row in keys} <= {newest}
        assert [row.limit_nano_usd for row in budgets] == ([newest] if newest else [])
        decisions = await store.query_decisions(StateQuery("RoutingDecision", limit=1_000))
        assert [row.at_s for row in decisions] == sorted(found_applied, reverse=True)[: len(decisions)]
        assert len(decisions) >= min(len(found_applied), 270)
    finally:
        await store.close()


def _kill_while_creating(path: Path, looks: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", _VICTIM, str(path), "1"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    while not path.exists():
        assert process.poll() is None
    for _ in range(looks):  # a moment that no clock decides
        path.exists()
    process.kill()
    process.stdout.close()
    process.wait(10)


async def test_a_process_killed_while_creating_the_file_leaves_one_that_opens(tmp_path: Path) -> None:
    chance = random.Random(7)
    for round_number in range(6):
        path = tmp_path / f"state_{round_number}.sqlite"
        _kill_while_creating(path, chance.randrange(2_000))
        store = SQLiteStateStore(path)
        try:
            assert await store.put_setting("salt", b"x", only_if_absent=True) == b"x"
        finally:
            await store.close()
