"""Processes share a hard budget through one SQLite file while some are killed: nothing is overspent, nothing is lost.

Each process is a worker with a journal in a memory-mapped file, which survives kill -9: what it settled, and what it
had sent and not yet settled. A third number beside them plays the provider: what was really billed.
"""

from __future__ import annotations

import asyncio
import random
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from apikeyrouter.domain.interfaces.shared_ledger import Legacy
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore
from apikeyrouter.testing.store_borrower import Borrower, assert_exact, lines_of, put_budget

LIMIT = 5_000

_WORKER = """
import asyncio, mmap, random, struct, sys
from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseWorker
from apikeyrouter.infrastructure.state_store.sqlite_store import SQLiteStateStore

async def main(path, box_path, name, limit, ttl_s):
    store, worker, chance = SQLiteStateStore(path), LeaseWorker(name, "here", ttl_s), random.Random(name)
    with open(box_path, "r+b") as file:
        box = mmap.mmap(file.fileno(), 24)
    seq = spent = billed = have = 0
    while True:
        seq += 1
        wanted = spent + chance.randrange(1, 12)
        reply = await store.lease(worker, [LeaseAsk("b", 0, 0, seq, spent=spent, granted=wanted, have=have)])
        have = reply.grants[0].granted
        print(have, flush=True)
        if reply.grants[0].totals.spent >= limit:
            break
        while spent < have:
            cost = min(have - spent, chance.randrange(1, 4))
            struct.pack_into("<q", box, 8, cost)  # it is on its way
            billed += cost
            struct.pack_into("<q", box, 16, billed)
            spent += cost
            struct.pack_into("<q", box, 0, spent)
            struct.pack_into("<q", box, 8, 0)
    await store.recover_worker(name, {})
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])))
"""


class Process:
    """A worker in a process of its own."""

    def __init__(self, folder: Path, name: str, ttl_s: float = 600.0) -> None:
        self.name = name
        self.box = folder / f"{name}.box"
        self.box.write_bytes(bytes(24))
        self.popen = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(folder / "state.sqlite"), str(self.box), name, str(LIMIT), str(ttl_s)],
            stdout=subprocess.PIPE,
            text=True,
        )

    def kill_after(self, leases: int) -> None:
        assert self.popen.stdout is not None
        for _ in range(leases):
            assert self.popen.stdout.readline()
        self.popen.kill()
        self.popen.stdout.close()
        assert self.popen.wait(10) == -signal.SIGKILL

    def finish(self) -> None:
        assert self.popen.communicate(timeout=60)[1] is None
        assert self.popen.returncode == 0

    @property
    def numbers(self) -> tuple[int, int, int]:
        """What it settled, what it had sent, what was billed."""
        spent, sent, billed = struct.unpack("<qqq", self.box.read_bytes())
        return spent, sent, billed


@pytest.mark.parametrize("seed", range(2))
async def test_four_processes_of_which_some_are_killed_spend_a_limit_to_the_last_unit(
    seed: int, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    store = SQLiteStateStore(tmp_path / "state.sqlite")
    await put_budget(store, limit=LIMIT, period="total")
    processes = [Process(tmp_path, f"p{number}") for number in range(3)] + [Process(tmp_path, "lost", ttl_s=0.2)]
    charged, presumed = 0, 0
    try:
        for victim in (processes[0], processes[1]):
            await asyncio.to_thread(victim.kill_after, chance.randrange(2, 25))
            spent, sent, _ = victim.numbers
            assert await store.recover_worker(victim.name, {("b", 0): Legacy(spent, sent)}) == sent
            charged, presumed = charged + spent + sent, presumed + sent
            processes.append(Process(tmp_path, f"after {victim.name}"))
        lost = processes[3]
        await asyncio.to_thread(lost.kill_after, chance.randrange(2, 25))
        async with asyncio.timeout(30):
            while (given_up := await store.recover_worker("lost", None)) is None:  # noqa: ASYNC110 - the store's clock
                await asyncio.sleep(0)
        presumed += given_up
        charged += sum(amount for name, _, amount in await lines_of(store) if name == "lost")
        assert charged >= sum(one.numbers[2] for one in (*processes[:2], lost))
        survivors = [processes[2], *processes[4:]]
        for one in survivors:
            await asyncio.to_thread(one.finish)
        totals = await assert_exact(store, "b", 0)
        assert totals.spent == charged + sum(one.numbers[0] for one in survivors) == LIMIT
        assert (totals.granted, totals.held, totals.presumed, totals.overrun) == (LIMIT, 0, presumed, 0)
        assert sum(one.numbers[2] for one in processes) <= LIMIT
        assert await store.list_workers() == []
        assert (await Borrower(store).lease(1, budget_id="b", window=0)).granted == 0
        for dead in ("p0", "p1", "lost"):
            assert (await Borrower(store, dead).call()).fenced
    finally:
        for one in processes:
            one.popen.kill()
            one.popen.wait(10)
            if one.popen.stdout is not None:
                one.popen.stdout.close()
        await store.close()
