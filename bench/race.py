"""The budget race: many processes, many tasks each, against the same budgets; checked by an independent naive ledger.

    python -m bench race --store sqlite --processes 8 --tasks 64 --budgets 1000 --reservations 200

Each worker process opens the store as a router does (leases, black box, change feed) and takes, dispatches and settles
holds of random amounts until each budget refuses it. It writes what it does to a log, line by line, which survives
`kill -9`. Afterwards a few lines of arithmetic over all logs, which share no code with the ledger, say whether any
instant had more spent and held than the limit (overspend), and whether anybody was refused what fitted (false
rejection). Amounts are nano-USD, times are of the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apikeyrouter.domain.components.budget_book import BudgetBook
from apikeyrouter.domain.components.lessee import wait_for_room
from apikeyrouter.domain.cost.budgets import define_budget
from apikeyrouter.domain.cost.prices import to_decimal_usd
from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.ledger.holds import Refused
from apikeyrouter.domain.ledger.leases import Answer, Lease
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.ledger_boxes import LedgerBoxes
from apikeyrouter.infrastructure.state_store import open_store

__all__ = ["Plan", "Verdict", "Worker", "judge", "make_budgets", "run_race"]

NEED_MAX = 1_000_000


@dataclass(slots=True)
class Plan:
    """A race. `limit`: nano-USD of each budget; `boxes`: where black boxes lie."""

    url: str
    folder: Path
    processes: int = 2
    tasks: int = 8
    budgets: int = 3
    reservations: int = 100
    seed: int = 1
    wait_s: float = 60.0
    identity: str = "race"

    @property
    def limit(self) -> int:
        """About `reservations` holds of the mean charge fit."""
        return self.reservations * NEED_MAX // 4

    @property
    def boxes(self) -> Path:
        """Where black boxes lie."""
        return self.folder / "boxes"

    def write(self) -> Path:
        """For worker processes."""
        path = self.folder / "plan.json"
        facts = {name: getattr(self, name) for name in self.__slots__}
        path.write_text(json.dumps({**facts, "folder": str(self.folder)}))
        return path


@dataclass(slots=True)
class Verdict:
    """What the naive ledger found. `posted`: per budget, what the store says was spent."""

    reservations: int = 0
    refusals: int = 0
    timeouts: int = 0
    store_errors: int = 0
    overspend: int = 0
    false_rejections: int = 0
    unsettled: int = 0
    used_share: float = 0.0
    faults: list[str] = field(default_factory=list)


class Worker:
    """One process's part."""

    def __init__(self, plan: Plan, number: int) -> None:
        self._plan = plan
        self._rng = random.Random(f"{plan.seed}/{number}/{os.getpid()}")
        self._clock = SystemClock()
        self._ledger = Ledger(self._clock)
        self._log = os.open(
            plan.folder / f"log-{number}-{os.getpid()}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
        self._holds = 0
        self._number = number

    async def run(self) -> None:
        """Races through every budget, then gives everything back."""
        plan = self._plan
        store = open_store(plan.url)
        book = BudgetBook(store, self._clock, on_alert=lambda _: None, boxes=LedgerBoxes(plan.boxes, plan.identity))
        await _patiently(store.open)
        await _patiently(book.reload)
        book.lessee.begin()
        lessee = asyncio.create_task(book.lessee.run())
        feed = asyncio.create_task(self._follow(book, store))
        names = [f"race={number}" for number in range(plan.budgets)]
        for name in names:
            await asyncio.gather(*(self._task(book, name) for _ in range(plan.tasks)))
        for task in (feed, lessee):
            task.cancel()
        await asyncio.gather(feed, lessee, return_exceptions=True)
        await _patiently(book.lessee.aclose)
        self._write("end", book.lessee.round_trips)
        await store.close()

    async def _follow(self, book: BudgetBook, store: object) -> None:
        from apikeyrouter.feed import ChangeFeed

        async def called(_ids: object) -> None:
            book.lessee.kick()

        feed = ChangeFeed(store, self._clock)  # type: ignore[arg-type]
        feed.subscribe("lease", called)
        await _patiently(feed.start)
        try:
            await asyncio.Event().wait()
        finally:
            await feed.stop()

    async def _task(self, book: BudgetBook, name: str) -> None:
        tags = {"race": name.partition("=")[2]}
        while True:
            need = self._rng.randrange(1, NEED_MAX)
            actual = self._rng.randrange(0, need + 1)
            outcome = await self._request(book, name, tags, need, actual)
            if outcome == "refused":
                return

    async def _request(self, book: BudgetBook, name: str, tags: dict[str, str], need: int, actual: int) -> str:
        until_s = self._clock.monotonic_s() + self._plan.wait_s
        waits = 0
        while True:
            now_s = self._clock.monotonic_s()
            accounts = book.accounts_for("p", "k", "m", tags, now_s=now_s)
            hold = self._ledger.try_hold([(account, need) for account in accounts])
            if not isinstance(hold, Refused):
                break
            leases = [lease for account in accounts if (lease := book.lease_of(account)) is not None]
            outcome = await self._wait(book, leases, need, until_s - now_s, first=waits > 0)
            waits += 1
            if outcome is Answer.Failed:
                self._write("failed", name)
                await self._clock.sleep(0.05)
            elif outcome is None:
                self._write("timeout", name, need)
                return "timeout"
            elif outcome is Answer.Spent:
                self._write("refused", name, need)
                return "refused"
        self._holds += 1
        number = self._holds
        self._write("held", name, need, number)
        hold.dispatch()
        for _ in range(self._rng.randrange(4)):
            await asyncio.sleep(0)
        self._write("settling", name, actual, number)
        hold.settle([actual])
        self._write("settled", name, actual, number)
        return "settled"

    async def _wait(
        self, book: BudgetBook, leases: Sequence[Lease], need: int, wait_s: float, *, first: bool
    ) -> Answer | None:
        if not all(lease.can_ever_fit(need) for lease in leases):
            return Answer.Spent
        return await wait_for_room(book.lessee, self._clock, leases, need, wait_s=wait_s, first=first)

    def _write(self, what: str, *facts: object) -> None:
        line = json.dumps([self._clock.monotonic_s(), what, *facts], separators=(",", ":"))
        os.write(self._log, line.encode() + b"\n")


async def _patiently(call: object) -> None:
    """Tries again while the store is down: the race goes on when it is back."""
    for _ in range(600):
        try:
            await call()  # type: ignore[operator]
        except StateStoreError:
            await asyncio.sleep(0.1)
        else:
            return
    raise TimeoutError("the store did not come back within a minute")


async def make_budgets(plan: Plan) -> list[str]:
    """The budgets of a plan, in order."""
    store = open_store(plan.url)
    book = BudgetBook(store, SystemClock(), on_alert=lambda _: None)
    try:
        limit = to_decimal_usd(plan.limit)
        return [
            (await book.create(define_budget("per_tag", f"race={number}", limit, "total", "hard"))).id
            for number in range(plan.budgets)
        ]
    finally:
        await store.close()


async def run_race(plan: Plan) -> Verdict:
    """Runs every process to its end and judges."""
    ids = await make_budgets(plan)
    path = plan.write()
    workers = [
        await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.race", str(path), str(number))
        for number in range(plan.processes)
    ]
    codes = await asyncio.gather(*(worker.wait() for worker in workers))
    verdict = await judge(plan, ids)
    verdict.faults += [f"worker {number} ended with {code}" for number, code in enumerate(codes) if code]
    return verdict


async def judge(plan: Plan, ids: Sequence[str], *, killed: bool = False) -> Verdict:
    """Reads the logs and the store. `killed`: processes were killed, so what was under way then may count either way."""
    verdict = Verdict()
    lines: dict[str, list[tuple[float, str, str, int, int]]] = defaultdict(list)
    for log in sorted(plan.folder.glob("log-*.jsonl")):
        for text in log.read_text().splitlines():
            at_s, what, *facts = json.loads(text)
            if what in ("end",):
                continue
            name, amount, number = [*facts, 0, 0][:3]
            lines[name].append((at_s, what, log.name, amount, number))
    store = open_store(plan.url)
    shares = []
    for place, budget_id in enumerate(ids):
        name = f"race={place}"
        sure, unsure = _replay(plan, sorted(lines[name]), name, verdict)
        (totals,) = await store.load_windows([(budget_id, 0, 0)])
        if totals.held or totals.granted != totals.spent:
            verdict.faults.append(f"{name}: not at rest: {totals}")
        if not sure <= totals.spent <= sure + (unsure if killed else 0):
            verdict.faults.append(f"{name}: {sure} (+{unsure} under way) settled, the store says {totals.spent}")
        if totals.spent > plan.limit:
            verdict.overspend += totals.spent - plan.limit
        entries = await store.query_entries(budget_id, 0, 1_000_000)
        if sum(entry.amount for entry in entries) != totals.spent:
            verdict.faults.append(f"{name}: entries do not add up to {totals.spent}")
        shares.append(totals.spent / plan.limit)
    verdict.used_share = sum(shares) / len(shares)
    await store.close()
    return verdict


def _replay(plan: Plan, events: list[tuple[float, str, str, int, int]], name: str, verdict: Verdict) -> tuple[int, int]:
    """(settled for certain, under way when its process ended) of one budget."""
    spent = sure = 0
    pending: dict[tuple[str, int], int] = {}
    unsure: dict[tuple[str, int], int] = {}
    for _, what, log, amount, number in events:
        key = (log, number)
        if what == "held":
            pending[key] = unsure[key] = amount
            verdict.reservations += 1
        elif what == "settling":
            del pending[key]
            spent += amount
        elif what == "settled":
            del unsure[key]
            sure += amount
        elif what == "refused":
            verdict.refusals += 1
            if spent + sum(unsure[one] for one in unsure if one not in pending) + amount <= plan.limit:
                verdict.false_rejections += 1
                verdict.faults.append(f"{name}: {amount} refused with {spent} of {plan.limit} spent")
        elif what == "timeout":
            verdict.timeouts += 1
        elif what == "failed":
            verdict.store_errors += 1
        if spent + sum(pending.values()) > plan.limit:
            verdict.overspend = max(verdict.overspend, spent + sum(pending.values()) - plan.limit)
    verdict.unsettled += len(unsure)
    return sure, sum(unsure.values())


def _main(arguments: Sequence[str]) -> None:
    facts = json.loads(Path(arguments[0]).read_text())
    plan = Plan(**{**facts, "folder": Path(facts["folder"])})
    asyncio.run(Worker(plan, int(arguments[1])).run())


if __name__ == "__main__":
    _main(sys.argv[1:])
