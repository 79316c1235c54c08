"""A process full of workers that lease from a shared store, for tests of many processes and of killed servers.

Main entry: `lease_clients`, which starts processes and collects what their workers spent; `python -m
tests.support.lease_clients URL NAME WORKERS STEP SEED` is one process. Each worker asks for a little more than it
has spent, repeats an ask until it is answered, spends some of what it was granted, and ends when nothing more is
granted and all of its slice is spent: so that in the end the limit is spent to the last unit.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseGrant, LeaseWorker
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.infrastructure.state_store import open_store
from apikeyrouter.testing.store_borrower import WINDOW

__all__ = ["lease_clients"]


async def _answered(store: StateStore, worker: LeaseWorker, ask: LeaseAsk) -> tuple[LeaseGrant, int]:
    """The answer, and how often the ask failed before."""
    failures = 0
    while True:
        try:
            (grant,) = (await store.lease(worker, [ask])).grants
        except StateStoreError:
            failures += 1
            await asyncio.sleep(0.01)
        else:
            return grant, failures


async def _spend(store: StateStore, name: str, step: int, chance: random.Random) -> tuple[int, int]:
    worker = LeaseWorker(name, ttl_s=600.0)
    spent = granted = failures = seq = 0
    while True:
        seq += 1
        wanted = max(granted, spent + chance.randint(1, step))
        ask = LeaseAsk("b", WINDOW, WINDOW, seq, spent=spent, held=granted - spent, granted=wanted, have=granted)
        grant, failed = await _answered(store, worker, ask)
        failures += failed
        granted = grant.granted
        if grant.totals.granted > (grant.limit or 0):
            raise AssertionError(f"{grant.totals.granted} were granted of {grant.limit}")
        if granted == spent == ask.spent:
            return spent, failures
        spent += chance.randint(0, granted - spent) if granted < wanted else granted - spent


async def _main(url: str, name: str, workers: int, step: int, seed: int) -> None:
    store = open_store(url)
    chance = random.Random(seed)
    spending = [_spend(store, f"{name}-{n}", step, random.Random(chance.random())) for n in range(workers)]
    done = await asyncio.gather(*spending)
    await store.close()
    sys.stdout.write(f"{sum(spent for spent, _ in done)} {sum(failures for _, failures in done)}\n")


def lease_clients(
    url: str, *, processes: int, workers: int, step: int, meanwhile: Callable[[Callable[[], bool]], None] | None = None
) -> tuple[int, int]:
    """What all workers of all processes spent, and how many of their calls failed (and were repeated).

    `meanwhile` is called while they work, with a function that tells whether some still do.
    """
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.lease_clients", url, f"p{n}", str(workers), str(step), str(n)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    try:
        if meanwhile is not None:
            meanwhile(lambda: any(one.poll() is None for one in running))
        said = [one.communicate(timeout=300)[0].split() for one in running]
        assert [one.returncode for one in running] == [0] * processes
    finally:
        for one in running:
            one.kill()
            one.wait()
    return sum(int(one[0]) for one in said), sum(int(one[1]) for one in said)


if __name__ == "__main__":
    _url, _name, _workers, _step, _seed = sys.argv[1:]
    asyncio.run(_main(_url, _name, int(_workers), int(_step), int(_seed)))
