"""Three workers on one store against a small model: no order of holds, losses, deaths and waits breaks the books.

Each worker is a real `BudgetBook` with its `Ledger`; they share a memory store over links that lose requests and
answers, or deliver them late. Workers are killed at any moment; their black boxes survive, where they had one. The
model keeps every request for ever and adds up by definition, knowing nothing of leases:

- L1: when a hold is taken, all that may have been spent in the windows that count is within every hard limit;
- L4: at rest nothing is held, in no worker and not in the store, and the store has charged what the model says;
- L5: "spent" is said only when posted spend leaves no room; what fits is found within a few rounds, wherever it idles.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from apikeyrouter.domain.components.budget_book import BudgetBook
from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseReply, LeaseWorker, Legacy, WindowTotals
from apikeyrouter.domain.interfaces.state_store import StateStore, StoreBatch, StoredBudget
from apikeyrouter.domain.ledger.holds import Hold, HoldState
from apikeyrouter.domain.ledger.leases import Answer, Lease, Waiter
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.models.quota_state import TimeWindow
from apikeyrouter.domain.quota.budget_windows import BudgetWindow
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.virtual_time import ManualClock

T = TypeVar("T")
WORKERS = 3
ROUNDS = 4
"""Within so many rounds of 0.25 s of every worker a request that waits must have what idles elsewhere."""

WINDOWS = {
    "hour": BudgetWindow(TimeWindow.Hourly),
    "rolling": BudgetWindow(TimeWindow.Minute, rolling=True),
    "soft": BudgetWindow(TimeWindow.Total),
}
HARD = ("hour", "rolling")
fates = st.sampled_from(["arrives", "arrives", "arrives", "lost", "unheard"])
needs = st.sampled_from([0, 1, 2, 3, 5, 8, 13, 19])


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits: nothing here does."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waited")


@dataclass(eq=False)
class Request:
    """What the model remembers of a hold. `lines`: (budget, window, need). `worker_id`: on whose books it is."""

    hold: Hold
    worker_id: str
    lines: list[tuple[str, int, int]]
    actual: tuple[int, ...] | None = None
    dead: bool = False

    def charge(self, place: int) -> int:
        """What the books must show as spent for a line."""
        if self.actual is not None:
            return self.actual[place]
        return self.lines[place][2] if self.dead and self.hold.state is HoldState.Dispatched else 0

    def held(self, place: int) -> int:
        return self.lines[place][2] if self.actual is None and not self.dead else 0

    def at_stake(self, place: int) -> int:
        """The most that the provider may charge for a line, overruns aside."""
        need = self.lines[place][2]
        return min(need, self.actual[place]) if self.actual is not None else self.charge(place) + self.held(place)


class Machine:
    """Black boxes that outlive their workers, without the file: by worker, then by window, [spent, sent]."""

    def __init__(self) -> None:
        self.boxes: dict[str, dict[tuple[str, int], list[int]]] = {}
        self.dead: set[str] = set()


class Boxes:
    """One worker's boxes on a machine, as `domain.components.lessee.Boxes` wants them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.worker_id = ""

    def begin(self, worker_id: str) -> None:
        self.end()
        self.worker_id = worker_id
        self.machine.boxes[worker_id] = {}

    def open_cells(self, budget_id: str, window: int) -> list[int] | None:
        box = self.machine.boxes.get(self.worker_id)
        return None if box is None else box.setdefault((budget_id, window), [0, 0])

    def close_cells(self, budget_id: str, window: int) -> None:
        self.machine.boxes.get(self.worker_id, {}).pop((budget_id, window), None)

    async def rescue(self, store: StateStore) -> int:
        ended = 0
        for worker_id in sorted(self.machine.dead & set(self.machine.boxes)):
            box = self.machine.boxes[worker_id]
            legacy = {place: Legacy(spent, sent) for place, (spent, sent) in box.items()}
            ended += await store.recover_worker(worker_id, legacy) is not None
            del self.machine.boxes[worker_id]
        return ended

    def end(self) -> None:
        self.machine.boxes.pop(self.worker_id, None)


class Link(MemoryStateStore):
    """A worker's way to the store. `fate` of the next call: "arrives", "lost" (it may come late) or "unheard"."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.fate = "arrives"
        self.late: list[tuple[LeaseWorker, Sequence[LeaseAsk]]] = []

    async def _carry(self, call: Coroutine[Any, Any, T]) -> T:
        fate, self.fate = self.fate, "arrives"
        if fate == "lost":
            call.close()
            raise StateStoreError("the request was lost")
        answer = await call
        if fate == "unheard":
            raise StateStoreError("the answer was lost")
        return answer

    async def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        if self.fate == "lost":
            self.late.append((worker, asks))
        return await self._carry(self.world.lease(worker, asks))

    async def recover_worker(self, worker_id: str, legacy: Mapping[tuple[str, int], Legacy] | None) -> int | None:
        return await self._carry(self.world.recover(worker_id, legacy))

    async def apply(self, batch: StoreBatch) -> None:
        await self._carry(self.world.store.apply(batch))

    async def load_budgets(self) -> list[StoredBudget]:
        return await self._carry(self.world.store.load_budgets())

    async def load_windows(self, windows: Sequence[tuple[str, int, int]]) -> list[WindowTotals]:
        return await self._carry(self.world.store.load_windows(windows))


class World:
    """The store, and what it granted and to whom it put an end: seen here even when no answer arrives."""

    def __init__(self, clock: ManualClock) -> None:
        self.store = MemoryStateStore(clock=clock)
        self.granted: dict[tuple[str, str, int], int] = {}
        self.heard: set[str] = set()
        self.exact: set[str] = set()
        self.presumed: set[str] = set()

    async def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk]) -> LeaseReply:
        reply = await self.store.lease(worker, asks)
        self.heard.add(worker.worker_id)
        for grant in reply.grants:
            self.granted[worker.worker_id, grant.budget_id, grant.window] = grant.granted
        return reply

    async def recover(self, worker_id: str, legacy: Mapping[tuple[str, int], Legacy] | None) -> int | None:
        ended = await self.store.recover_worker(worker_id, legacy)
        if ended is not None:
            (self.presumed if legacy is None else self.exact).add(worker_id)
        return ended

    def is_over(self, worker_id: str) -> bool:
        return worker_id in self.exact or worker_id in self.presumed


@dataclass
class Life:
    """One process: a worker until it is killed."""

    book: BudgetBook
    ledger: Ledger
    link: Link
    boxes: Boxes | None
    cursor: int
    requests: list[Request] = field(default_factory=list)

    @property
    def worker_id(self) -> str:
        return self.book.lessee.worker.worker_id


class SharedLedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.world = World(self.clock)
        self.machine = Machine()
        self.requests: list[Request] = []
        self.killed: list[tuple[str, bool]] = []
        self.lives: list[Life] = []

    @initialize(limits=st.tuples(*[st.integers(15, 60)] * 3), unit=st.sampled_from([1, 1000]))
    def begin(self, limits: tuple[int, int, int], unit: int) -> None:
        """`unit`: slices of a budget of 30 nano-USD are whole requests, those of 30,000 are not."""
        self.unit = unit
        self.limits = {budget_id: limit * unit for budget_id, limit in zip(WINDOWS, limits, strict=True)}
        self.ceilings = dict(self.limits)
        for budget_id in WINDOWS:
            now(self.world.store.apply(StoreBatch(budgets=[self.row(budget_id)])))
        self.lives = [self.life(boxed=number != 1) for number in range(WORKERS)]

    def row(self, budget_id: str) -> StoredBudget:
        window = WINDOWS[budget_id]
        mode = "hard" if budget_id in HARD else "soft"
        limit = self.limits[budget_id]
        return StoredBudget(budget_id, "global", None, limit, window.period.value, mode, 0.0, rolling=window.rolling)

    def life(self, *, boxed: bool) -> Life:
        link = Link(self.world)
        boxes = Boxes(self.machine) if boxed else None
        book = BudgetBook(link, self.clock, on_alert=lambda _: None, boxes=boxes)
        if boxes is not None:
            boxes.begin(book.lessee.worker.worker_id)
        now(book.reload())
        cursor = now(self.world.store.changes(None, 0)).cursor
        return Life(book, Ledger(self.clock), link, boxes, cursor)

    # -- the model --------------------------------------------------------------------------------------------------

    @property
    def utc_s(self) -> float:
        return self.clock.utc_now().timestamp()

    def counts(self, budget_id: str, window: int) -> bool:
        return window >= WINDOWS[budget_id].at(self.utc_s).oldest

    def at_stake(self, budget_id: str) -> int:
        """The most that everybody may have spent in the windows that count."""
        return sum(
            request.at_stake(place)
            for request in self.requests
            for place, (one, window, _) in enumerate(request.lines)
            if one == budget_id and self.counts(one, window)
        )

    def spent(self, budget_id: str, window: int) -> int:
        """What the store must have charged once it has heard everything. A worker that dies before the store has ever
        heard of it had only soft budgets to spend from, and is forgotten."""
        lines = [
            request.charge(place)
            for request in self.requests
            for place, (one, at, _) in enumerate(request.lines)
            if (one, at) == (budget_id, window)
            and request.worker_id not in self.world.presumed
            and (request.worker_id in self.world.heard or not request.dead)
        ]
        return sum(lines) + self.presumed(budget_id, window)

    def presumed(self, budget_id: str, window: int) -> int:
        """What workers without a word were charged: all that they had been granted."""
        return sum(
            granted
            for (worker_id, one, at), granted in self.world.granted.items()
            if (one, at) == (budget_id, window) and worker_id in self.world.presumed
        )

    def posted(self, budget_id: str) -> int:
        """Spend of the windows that count, by everybody, the dead included."""
        windows = {at for request in self.requests for one, at, _ in request.lines if one == budget_id}
        windows |= {at for _, one, at in self.world.granted if one == budget_id}
        return sum(self.spent(budget_id, window) for window in windows if self.counts(budget_id, window))

    # -- requests ---------------------------------------------------------------------------------------------------

    @rule(worker=st.integers(0, WORKERS - 1), amounts=st.tuples(needs, needs, needs), patience=st.integers(0, 4))
    def take(self, worker: int, amounts: tuple[int, int, int], patience: int) -> None:
        """A request: held at once, or after asking the store for room a few times, or not at all."""
        self.request(worker, amounts, patience)

    @rule(worker=st.integers(0, WORKERS - 1), amounts=st.tuples(needs, needs, needs), ratio=st.integers(2, 4))
    def spend(self, worker: int, amounts: tuple[int, int, int], ratio: int) -> None:
        """A whole request at once."""
        request = self.request(worker, amounts, 3)
        if request is not None:
            request.hold.dispatch()
            actual = tuple(need * ratio // 4 for _, _, need in request.lines)
            request.hold.settle(actual)
            self.closed(self.lives[worker], request, actual)

    def request(self, worker: int, amounts: tuple[int, int, int], patience: int) -> Request | None:
        life = self.lives[worker]
        wanted = {budget_id: amount * self.unit for budget_id, amount in zip(WINDOWS, amounts, strict=True)}
        for _ in range(patience + 1):
            accounts = life.book.accounts_for("p", "k", "m", now_s=self.clock.monotonic_s())
            held = life.ledger.try_hold([(account, wanted[account.id]) for account in accounts])
            if isinstance(held, Hold):
                return self.taken(life, held)
            account = held.account
            assert account.id in HARD
            assert account.limit is not None
            assert account.used + account.held + held.need > account.limit
            waiting = []
            for account in accounts:
                lease = life.book.lease_of(account)
                assert lease is not None
                free = account.free(self.clock.monotonic_s())
                if account.id in HARD and free is not None and free < wanted[account.id]:
                    waiter = Waiter(wanted[account.id], lambda _: None)
                    waiting.append((lease, waiter))
                    lease.enqueue(waiter)
            now(life.book.lessee.step())
            for lease, waiter in waiting:
                lease.leave(waiter)
        return None

    def taken(self, life: Life, held: Hold) -> Request:
        placed = []
        for account, need in held.lines:
            lease = life.book.lease_of(account)
            assert lease is not None
            placed.append((account.id, lease.window, need))
        request = Request(held, life.worker_id, placed)
        self.requests.append(request)
        life.requests.append(request)
        for budget_id, _, need in placed:
            if budget_id in HARD and need:
                assert self.at_stake(budget_id) <= self.ceilings[budget_id], f"{budget_id}: more held than there is"
        return request

    def open_request(self, data: st.DataObject, *states: HoldState) -> tuple[Life, Request] | None:
        found = [(life, one) for life in self.lives for one in life.requests if one.hold.state in states]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(data=st.data())
    def dispatch(self, data: st.DataObject) -> None:
        if chosen := self.open_request(data, HoldState.Reserved):
            chosen[1].hold.dispatch()

    @rule(data=st.data(), ratios=st.tuples(*[st.sampled_from([0, 1, 2, 3, 4, 4, 4, 5])] * len(WINDOWS)))
    def settle(self, data: st.DataObject, ratios: tuple[int, ...]) -> None:
        """At none, some or all of the hold; a fifth quarter is an overrun."""
        if chosen := self.open_request(data, HoldState.Dispatched):
            lines = chosen[1].lines
            actual = tuple(need * ratio // 4 for (_, _, need), ratio in zip(lines, ratios, strict=False))
            chosen[1].hold.settle(actual)
            self.closed(*chosen, actual)

    @rule(data=st.data())
    def presume(self, data: st.DataObject) -> None:
        if chosen := self.open_request(data, HoldState.Dispatched):
            chosen[1].hold.presume()
            self.closed(*chosen, tuple(need for _, _, need in chosen[1].lines))

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if chosen := self.open_request(data, HoldState.Reserved, HoldState.Dispatched):
            chosen[1].hold.release(unbilled=True)
            self.closed(*chosen, (0,) * len(chosen[1].lines))

    def closed(self, life: Life, request: Request, actual: tuple[int, ...]) -> None:
        request.actual = actual
        life.requests.remove(request)

    # -- the store --------------------------------------------------------------------------------------------------

    @rule(
        worker=st.integers(0, WORKERS - 1), fate=st.sampled_from(["arrives", "arrives", "arrives", "lost", "unheard"])
    )
    def sync(self, worker: int, fate: str) -> None:
        life = self.lives[worker]
        life.link.fate = fate
        now(life.book.lessee.step())
        life.link.fate = "arrives"

    @rule(
        worker=st.integers(0, WORKERS - 1),
        budget_id=st.sampled_from(list(WINDOWS)),
        limit=st.integers(15, 60),
        fate=st.sampled_from(["arrives", "lost"]),
    )
    def change_a_limit(self, worker: int, budget_id: str, limit: int, fate: str) -> None:
        """A lower limit binds those who have heard of it; `ceilings` are the highest that somebody may still go by."""
        life = self.lives[worker]
        life.link.fate = fate
        try:
            now(life.book.update(budget_id, limit=Decimal(limit * self.unit).scaleb(-9)))
            self.limits[budget_id] = limit * self.unit
            self.ceilings[budget_id] = max(self.ceilings[budget_id], self.limits[budget_id])
        except StateStoreError:
            assert fate == "lost"
        life.link.fate = "arrives"

    @rule()
    def everybody_is_in_touch(self) -> None:
        for _ in range(2):
            for life in self.lives:
                self.hear(life)
                now(life.book.lessee.step())
        self.ceilings = dict(self.limits)

    def hear(self, life: Life) -> None:
        """The store's changes arrive, as the router's feed brings them."""
        heard = now(self.world.store.changes(life.cursor, 0))
        life.cursor = heard.cursor
        if any(change.kind == "budget" for change in heard.changes):
            now(life.book.reload())
        called = {change.entity_id for change in heard.changes if change.kind == "lease"}
        if called or heard.lost:
            life.book.lessee.called(None if heard.lost else called)

    @precondition(lambda self: any(life.link.late for life in self.lives))
    @rule(data=st.data())
    def a_lost_request_arrives_late(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from([life.link for life in self.lives if life.link.late]))
        now(self.world.lease(*link.late.pop(data.draw(st.integers(0, len(link.late) - 1)))))

    @rule(worker=st.integers(0, WORKERS - 1))
    def kill(self, worker: int) -> None:
        life = self.lives[worker]
        for request in self.requests:
            request.dead = request.dead or request in life.requests or request.worker_id == life.worker_id
        self.killed.append((life.worker_id, life.boxes is not None))
        self.machine.dead.add(life.worker_id)
        self.lives[worker] = self.life(boxed=life.boxes is not None)

    @rule(worker=st.sampled_from([0, 2]), fate=fates)
    def rescue(self, worker: int, fate: str) -> None:
        life = self.lives[worker]
        life.link.fate = fate
        if life.boxes is not None:
            try:
                now(life.boxes.rescue(life.link))
            except StateStoreError:
                assert fate != "arrives"
        life.link.fate = "arrives"

    @rule()
    def end_expired_workers(self) -> None:
        for row in now(self.world.store.list_workers()):
            if row.expired:
                assert now(self.world.recover(row.worker_id, None)) is not None

    @rule(seconds=st.sampled_from([0.1, 0.3, 1, 2.5, 5, 6, 14, 16, 61, 1800, 3600]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # -- waiting ----------------------------------------------------------------------------------------------------

    @rule(worker=st.integers(0, WORKERS - 1), budget_id=st.sampled_from(HARD), need=needs.filter(bool))
    def insist(self, worker: int, budget_id: str, need: int) -> None:
        """A request that waits while everybody is in touch: it gets room, or a true "spent", or waits for holds."""
        need *= self.unit
        life = self.lives[worker]
        told: list[Answer] = []
        for _ in range(ROUNDS):
            lease = self.lease(life, budget_id)
            waiter = Waiter(need, told.append)
            lease.enqueue(waiter)
            for other in [life, *self.lives, life]:
                self.hear(other)
                now(other.book.lessee.step())
            self.ceilings = dict(self.limits)
            lease.leave(waiter)
            if told:
                break
            self.clock.advance(0.25)
        limit = self.limits[budget_id]
        posted, stuck = self.posted(budget_id), self.stuck(budget_id)
        if told == [Answer.Spent]:
            assert posted + need > limit, "said to be spent, and is not"
        elif told == [Answer.Room]:
            pass  # a hold may follow; `take` judges it
        else:
            assert told == []
            assert posted + stuck + need > limit, "nobody needs it, and yet it is not found"

    def lease(self, life: Life, budget_id: str) -> Lease:
        accounts = life.book.accounts_for("p", "k", "m", now_s=self.clock.monotonic_s())
        found = life.book.lease_of(next(account for account in accounts if account.id == budget_id))
        assert found is not None
        return found

    def stuck(self, budget_id: str) -> int:
        """What running requests hold, and what dead workers that nobody ended might have spent besides."""
        held = spent_by_dead = 0
        unended = {one for one in self.world.heard if not self.world.is_over(one)}
        unended -= {life.worker_id for life in self.lives}
        for request in self.requests:
            for place, (one, at, _) in enumerate(request.lines):
                if one == budget_id and self.counts(one, at):
                    held += request.held(place)
                    spent_by_dead += request.charge(place) if request.worker_id in unended else 0
        granted_to_dead = sum(
            granted
            for (worker_id, one, at), granted in self.world.granted.items()
            if one == budget_id and self.counts(one, at) and worker_id in unended
        )
        return held + max(0, granted_to_dead - spent_by_dead)

    # -- always -----------------------------------------------------------------------------------------------------

    @invariant()
    def the_books_of_every_worker_balance(self) -> None:
        for life in self.lives:
            assert life.ledger.open_holds == len(life.requests)
            for lease in life.book.lessee.leases():
                place = (lease.budget_id, lease.window)
                mine = [
                    (request, number)
                    for request in self.requests
                    if request.worker_id == life.worker_id
                    for number, line in enumerate(request.lines)
                    if line[:2] == place
                ]
                account = lease.account
                assert account.used == sum(request.charge(number) for request, number in mine)
                assert account.held == sum(request.held(number) for request, number in mine)
                if life.boxes is not None:
                    sent = [request.held(n) for request, n in mine if request.hold.state is HoldState.Dispatched]
                    assert self.machine.boxes[life.worker_id][place] == [account.used, sum(sent)]

    @invariant()
    def the_stores_lines_add_up(self) -> None:
        for budget_id in WINDOWS:
            for totals in now(self.world.store.load_windows([(budget_id, 0, 2**40)])):
                lines = now(self.world.store.query_entries(budget_id, totals.window, limit=10**6))
                assert sum(line.amount for line in lines) == totals.spent

    def teardown(self) -> None:
        if not self.lives:
            return
        for life in self.lives:
            for request in list(life.requests):
                request.hold.release(unbilled=True)
                self.closed(life, request, (0,) * len(request.lines))
            assert life.ledger.at_rest
        for _ in range(3):
            for life in self.lives:
                now(life.book.lessee.step())
        now(Boxes(self.machine).rescue(self.lives[0].link))
        for life in self.lives:
            now(life.book.lessee.aclose())
        self.clock.advance(100)
        self.end_expired_workers()
        windows = {(one, at) for request in self.requests for one, at, _ in request.lines}
        for budget_id, window in windows | {(one, at) for _, one, at in self.world.granted}:
            (totals,) = now(self.world.store.load_windows([(budget_id, window, window)])) or [None]
            spent = self.spent(budget_id, window)
            if totals is None:
                assert spent == 0
                continue
            assert (totals.spent, totals.held) == (spent, 0)
            assert totals.granted == spent, "a slice was never given back"


TestSharedLedgerMachine = SharedLedgerMachine.TestCase
TestSharedLedgerMachine.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
