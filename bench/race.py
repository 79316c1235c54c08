"""The budget race: many processes, many tasks each, against the same budgets, while nobody is safe.

    python -m bench race --store sqlite --processes 8 --tasks 64 --budgets 20 --reservations 10000

Each worker process opens the store as a router does (leases, black box, change feed) and takes, sends and settles holds
of random amounts until every budget refuses it. It writes what it does to logs, line by line, which survive `kill -9`;
`bench.race_judge` reads them and judges. Main entries: `Plan`, `make_budgets`, `Racers` (processes that may be killed
and replaced), `run_race`. Amounts are nano-USD, times are of the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from apikeyrouter.domain.components.budget_book import BudgetBook
from apikeyrouter.domain.components.lessee import RESCUE_EVERY_S, wait_for_room
from apikeyrouter.domain.cost.budgets import define_budget
from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.ledger.holds import Hold, Refused
from apikeyrouter.domain.ledger.leases import Answer
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.feed import ChangeFeed
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.ledger_boxes import LedgerBoxes
from apikeyrouter.infrastructure.state_store import open_store
from bench.race_judge import Race, Verdict, judge

__all__ = ["Plan", "Racers", "Worker", "main", "make_budgets", "run_race"]

ROOT = Path(__file__).parents[1]
NEED_MAX = 1_000_000
RELEASED_ONE_IN = 20
"""So many holds are given back without being sent."""

_STOP_LOOK_S = 0.05


@dataclass(slots=True)
class Plan:
    """A race. `reservations`: about so many holds of the mean charge fit into each budget. `pace_s`: mean time of a
    request, 0 for as fast as can be. `wait_s`: the longest wait for room. `ttl_s`: of leases. `boxes`: whether workers
    keep black boxes. `exact`: whether the judge can know what is charged for the dead. Workers stop early when the file
    "stop" is in the folder."""

    url: str
    folder: Path
    processes: int = 2
    tasks: int = 8
    budgets: int = 3
    reservations: int = 100
    seed: int = 1
    wait_s: float = 60.0
    pace_s: float = 0.0
    ttl_s: float = 15.0
    boxes: bool = True
    exact: bool = True

    @property
    def limit(self) -> int:
        """Nano-USD of each budget."""
        return self.reservations * NEED_MAX // 4

    def new_boxes(self) -> LedgerBoxes:
        """Of one process. Without `boxes` in a place where none can be made."""
        return LedgerBoxes(self.folder / ("boxes" if self.boxes else "plan.json/boxes"), "race")

    def write(self) -> Path:
        """For worker processes."""
        path = self.folder / "plan.json"
        path.write_text(json.dumps({**asdict(self), "folder": str(self.folder)}))
        return path

    @classmethod
    def read(cls, path: Path) -> Plan:
        """What `write` wrote."""
        facts = json.loads(path.read_text())
        return cls(**{**facts, "folder": Path(facts["folder"])})


class Worker:
    """One process's part. Its log of each budget is a file of its own, `<budget>/<number>-<pid>.log`; what belongs to
    no budget stands in `process/<number>-<pid>.log`."""

    def __init__(self, plan: Plan, number: int) -> None:
        self._plan = plan
        self._rng = random.Random(f"{plan.seed}/{number}/{os.getpid()}")
        self._clock = SystemClock()
        self._ledger = Ledger(self._clock)
        self._name = f"{number}-{os.getpid()}.log"
        self._process_log = self._open_log("process")
        self._log = -1
        self._holds = 0
        self._stopped = False
        self._store = open_store(plan.url)
        self._book = BudgetBook(
            self._store, self._clock, on_alert=lambda _: None, boxes=plan.new_boxes(), ttl_s=plan.ttl_s
        )
        self._feed = ChangeFeed(self._store, self._clock)

    async def run(self, first: int) -> None:
        """Races through the budgets from number `first` on, then gives everything back."""
        plan, lessee = self._plan, self._book.lessee
        await self._patiently(self._store.open)
        await self._patiently(self._book.reload)
        lessee.begin()
        self._feed.subscribe("lease", self._called)
        await self._patiently(self._feed.start)
        background = [asyncio.create_task(lessee.run()), asyncio.create_task(self._watch())]
        for number in range(first, plan.budgets):
            if self._stopped:
                break
            self._log = self._open_log(str(number))
            await asyncio.gather(*(self._task(str(number)) for _ in range(plan.tasks)))
            os.close(self._log)
        for task in background:
            task.cancel()
        for result in await asyncio.gather(*background, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                self._say("fault", f"a task of the engine ended: {result!r}")
        await self._feed.stop()
        await self._patiently(self._close)
        self._say("end", lessee.round_trips)
        await self._store.close()

    async def _close(self) -> None:
        """Gives back until the store has heard it: a process that ends by itself owes nothing."""
        await self._book.lessee.aclose()
        if any(True for _ in self._book.lessee.leases()):
            raise self._book.lessee.failure or StateStoreError("not everything was taken back yet")

    async def _called(self, ids: frozenset[str] | None) -> None:
        self._book.lessee.called(ids)

    async def _watch(self) -> None:
        """Says under which id this worker runs, when the store fails it and when that is over."""
        lessee, worker_id, failed = self._book.lessee, "", False
        while True:
            if worker_id != lessee.worker.worker_id:
                worker_id = lessee.worker.worker_id
                self._say("worker", worker_id)
            if failed != (lessee.failure is not None):
                failed = not failed
                self._say("down" if failed else "up")
            self._stopped = self._stopped or (self._plan.folder / "stop").exists()
            await self._clock.sleep(_STOP_LOOK_S)

    async def _task(self, budget: str) -> None:
        while not self._stopped:
            need = self._rng.randrange(1, NEED_MAX)
            if await self._request(budget, need) == "refused":
                return

    async def _request(self, budget: str, need: int) -> str:
        hold = await self._hold(budget, need)
        if not isinstance(hold, Hold):
            self._write(hold, need)
            return hold
        self._holds += 1
        number = self._holds
        self._write("held", need, number)
        await self._pause()
        if self._rng.randrange(RELEASED_ONE_IN) == 0:
            self._write("released", need, number)
            hold.release()
            return "released"
        actual = self._rng.randrange(0, need + 1)
        self._write("sending", need, number)
        hold.dispatch()
        self._write("sent", need, number)
        await self._pause()
        self._write("settling", actual, number)
        hold.settle([actual] * len(hold.lines))
        self._write("settled", actual, number)
        return "settled"

    async def _hold(self, budget: str, need: int) -> Hold | str:
        """A hold, or why there is none."""
        book, tags = self._book, {"race": budget}
        until_s = self._clock.monotonic_s() + self._plan.wait_s
        first = False
        while True:
            now_s = self._clock.monotonic_s()
            accounts = book.accounts_for("p", "k", "m", tags, now_s=now_s)
            if not accounts:
                raise AssertionError(f"no budget covers {tags}: its money would not be counted")
            hold = self._ledger.try_hold([(account, need) for account in accounts])
            if not isinstance(hold, Refused):
                return hold
            leases = [lease for account in accounts if (lease := book.lease_of(account)) is not None]
            if not all(lease.can_ever_fit(need) for lease in leases):
                return "refused"
            answer = await wait_for_room(book.lessee, self._clock, leases, need, wait_s=until_s - now_s, first=first)
            first = True
            if answer is Answer.Spent:
                return "refused"
            if answer is Answer.Failed:
                self._write("failed", need)
                await self._clock.sleep(0.05)
            elif answer is None:
                return "timeout"

    async def _pause(self) -> None:
        if self._plan.pace_s:
            await self._clock.sleep(self._plan.pace_s * self._rng.random())
        else:
            for _ in range(self._rng.randrange(3)):
                await self._clock.sleep(0.0)

    def _open_log(self, folder: str) -> int:
        path = self._plan.folder / "logs" / folder / self._name
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _write(self, what: str, amount: int, number: int = 0) -> None:
        os.write(self._log, f"{self._clock.monotonic_s()!r} {what} {amount} {number}\n".encode())

    def _say(self, what: str, fact: object = "") -> None:
        os.write(self._process_log, f"{self._clock.monotonic_s()!r} {what} {fact}\n".encode())

    async def _patiently(self, call: Callable[[], Awaitable[object]]) -> None:
        """Tries again while the store is down: the race goes on when it is back."""
        until_s = self._clock.monotonic_s() + 60.0
        while True:
            try:
                await call()
            except StateStoreError:
                if self._clock.monotonic_s() > until_s:
                    raise
                await self._clock.sleep(0.1)
            else:
                return


class Racers:
    """The worker processes of a plan. `codes`: of those that ended by themselves, in any order."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._path = plan.write()
        self.running: dict[int, asyncio.subprocess.Process] = {}
        self.faults: list[str] = []

    async def start(self, number: int) -> asyncio.subprocess.Process:
        """One more, or one in the place of a killed one: it goes on at the newest budget."""
        logs = self._plan.folder / "logs"
        first = max([int(one.name) for one in logs.glob("[0-9]*")], default=0) if logs.exists() else 0
        words = ["-m", "bench.race", str(self._path), str(number), str(first)]
        self.running[number] = process = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=ROOT)
        return process

    async def start_all(self) -> None:
        """Every process of the plan."""
        for number in range(self._plan.processes):
            await self.start(number)

    async def kill(self, number: int) -> asyncio.subprocess.Process | None:
        """SIGKILL; None when it had ended by itself before."""
        process = self.running.pop(number)
        if process.returncode is not None:
            self._note(number, process.returncode)
            return None
        process.kill()
        await process.wait()
        return process

    def stop(self) -> None:
        """They end soon, in order."""
        (self._plan.folder / "stop").touch()

    async def wait(self) -> None:
        """Until all have ended by themselves."""
        for number, process in list(self.running.items()):
            self._note(number, await process.wait())
        self.running.clear()

    def end(self) -> None:
        """Kills those that are left, whatever happened."""
        for process in self.running.values():
            if process.returncode is None:
                process.kill()

    def _note(self, number: int, code: int) -> None:
        if code:
            self.faults.append(f"worker {number} ended with {code}")


async def make_budgets(store: StateStore, plan: Plan) -> list[str]:
    """The budgets of a plan, in order."""
    book = BudgetBook(store, SystemClock(), on_alert=lambda _: None)
    limit = to_decimal_usd(plan.limit)
    return [
        (await book.create(define_budget("per_tag", f"race={number}", limit, "total", "hard"))).id
        for number in range(plan.budgets)
    ]


async def run_race(plan: Plan, trouble: Callable[[Racers, StateStore], Awaitable[set[str]]] | None = None) -> Verdict:
    """Runs every process to its end and judges. `trouble` runs meanwhile; it tells the logs of those that it killed."""
    store = open_store(plan.url)
    racers = Racers(plan)
    try:
        ids = await make_budgets(store, plan)
        await racers.start_all()
        killed = await trouble(racers, store) if trouble is not None else set()
        await racers.wait()
        await sweep(plan, store)
        verdict = await judge(Race(plan.folder / "logs", plan.limit, ids, frozenset(killed), exact=plan.exact), store)
    finally:
        racers.end()
        await store.close()
    verdict.faults += racers.faults
    return verdict


async def sweep(plan: Plan, store: StateStore) -> None:
    """What the next process to start does: settles workers that died last."""
    boxes = plan.new_boxes()
    clock = SystemClock()
    until_s = clock.monotonic_s() + 3 * plan.ttl_s + 30.0
    while await store.list_workers():
        if clock.monotonic_s() > until_s:
            return
        if not await boxes.rescue(store):
            await clock.sleep(RESCUE_EVERY_S)


def main(argv: Sequence[str]) -> int:
    """`python -m bench race`: one race, nobody is harmed; options as of `python -m bench soak`."""
    from bench import soak

    return soak.main(["--only", "race", *argv])


def _main(arguments: Sequence[str]) -> None:
    path, number, first = arguments
    logging.getLogger("apikeyrouter").setLevel(logging.ERROR)  # deaths and outages are what is wanted here
    asyncio.run(Worker(Plan.read(Path(path)), int(number)).run(int(first)))


if __name__ == "__main__":
    _main(sys.argv[1:])
