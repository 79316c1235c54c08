"""The rules of the shared ledger hold whatever arrives, in whatever order, however often, and whoever dies.

Workers here keep their word: they spend only what they know to have, count money that they return as gone from the
moment they say so, and number their asks. The wire does not: it repeats, delays, reorders and loses.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseGrant, LeaseRow, Legacy, WindowTotals
from apikeyrouter.domain.ledger.lease_rules import ALERT_PERCENTS, grant, recover

LIMIT = 100
WINDOWS = range(10, 13)
ROLLING_PARTS = 1
amounts = st.integers(0, 60)
windows = st.sampled_from(WINDOWS)


class Store:
    """The smallest store: it reads rows, calls the rules, writes rows."""

    def __init__(self, *, hard: bool) -> None:
        self.hard = hard
        self.rows: dict[tuple[str, int], LeaseRow] = {}
        self.totals = {window: WindowTotals("b", window) for window in WINDOWS}
        self.entries: dict[int, list[int]] = defaultdict(list)
        self.ended: dict[int, list[int]] = defaultdict(list)
        self.fenced: set[str] = set()

    def lease(self, worker_id: str, ask: LeaseAsk) -> LeaseGrant | None:
        if worker_id in self.fenced:
            return None
        others = [one for one in self.totals.values() if ask.oldest <= one.window != ask.window]
        counted = (sum(one.spent for one in others), sum(one.granted for one in others))
        row, totals, answer = grant(
            ask,
            self.rows.get((worker_id, ask.window)),
            self.totals[ask.window],
            worker_id=worker_id,
            limit=LIMIT,
            hard=self.hard,
            counted=counted if ask.oldest < ask.window else (0, 0),
        )
        self.entries[ask.window].append(totals.spent - self.totals[ask.window].spent)
        self.rows[worker_id, ask.window], self.totals[ask.window] = row, totals
        return answer

    def end(self, worker_id: str, journal: dict[int, Legacy] | None) -> int:
        self.fenced.add(worker_id)
        charged = 0
        for place in [one for one in self.rows if one[0] == worker_id]:
            row, window = self.rows.pop(place), place[1]
            totals, settled, presumed = recover(
                row, self.totals[window], None if journal is None else journal.get(window)
            )
            self.totals[window] = totals
            self.entries[window] += [settled, presumed]
            self.ended[window].append(row.spent + settled + presumed)
            charged += presumed
        return charged


@dataclass
class Books:
    """What a worker knows of its slice of one window."""

    have: int = 0
    spent: int = 0
    held: int = 0
    overrun: int = 0
    seq: int = 0


@dataclass
class Worker:
    worker_id: str
    books: dict[int, Books] = field(default_factory=lambda: defaultdict(Books))


class Wire(RuleBasedStateMachine):
    """Two workers, one budget, three windows of it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[Worker, LeaseAsk]] = []
        self.born = 0
        self.workers = [self.new_worker() for _ in range(2)]
        self.overran: dict[int, int] = defaultdict(int)
        self.told: dict[int, list[int]] = defaultdict(list)

    def new_worker(self) -> Worker:
        self.born += 1
        return Worker(f"w{self.born}")

    @initialize(hard=st.sampled_from([True, True, False]), rolling=st.booleans())
    def open(self, hard: bool, rolling: bool) -> None:
        self.store, self.rolling = Store(hard=hard), rolling

    def oldest(self, window: int) -> int:
        return window - ROLLING_PARTS if self.rolling else window

    @rule(who=st.integers(0, 1), window=windows, more=amounts, least=amounts)
    def ask(self, who: int, window: int, more: int, least: int) -> None:
        worker, books = self.workers[who], self.workers[who].books[window]
        books.seq += 1
        needed = books.spent + books.held
        wanted = needed + more
        oldest = self.oldest(window)
        least = min(least + needed, wanted)
        ask = LeaseAsk(
            "b", window, oldest, books.seq, books.spent, books.held, wanted, books.have, books.overrun, least
        )
        self.sent.append((worker, ask))
        # what it returns, or would have to return if it does not get its least, is not touched from here on
        books.have = min(books.have, wanted if least <= needed else needed)

    @rule(who=st.integers(0, 1), window=windows, more=amounts, share=st.integers(0, 4))
    def work(self, who: int, window: int, more: int, share: int) -> None:
        """What happens most of the time: ask, be answered, hold, settle a part of it."""
        self.ask(who, window, more, least=0)
        self.arrive(0, lost=False, again=False)
        self.spend(who, window, more)
        self.hold(who, window, more)
        self.spend(who, window, more * share // 4)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 10**6), lost=st.booleans(), again=st.booleans())
    def arrive(self, which: int, lost: bool, again: bool) -> None:
        """Something that was ever sent arrives: perhaps late, perhaps not for the first time."""
        worker, ask = self.sent[-1 - which % min(len(self.sent), 6)]
        known = self.store.rows.get((worker.worker_id, ask.window))
        before = self.store.totals[ask.window]
        answer = self.store.lease(worker.worker_id, ask)
        if answer is None:
            assert self.store.totals[ask.window] == before
            return
        if known is not None and ask.seq <= known.seq:
            assert (answer.totals, answer.granted, answer.crossed) == (before, known.granted, ())
        self.check(ask, answer, known)
        if again:
            repeated = self.store.lease(worker.worker_id, ask)
            assert repeated == replace(answer, crossed=())
        books = worker.books[ask.window]
        if not lost and ask.seq == books.seq:
            books.have = answer.granted

    def check(self, ask: LeaseAsk, answer: LeaseGrant, known: LeaseRow | None) -> None:
        self.told[ask.window] += answer.crossed
        fresh = known is None or ask.seq > known.seq
        if fresh and not self.rolling:
            reached = [one for one in ALERT_PERCENTS if answer.totals.spent * 100 >= LIMIT * one]
            assert self.told[ask.window] == reached, "each once, in order, as soon as anybody asks"
        had = max(known.granted if known else 0, ask.have)
        if fresh and self.store.hard and answer.granted > max(ask.spent + ask.held, ask.have):
            assert answer.granted >= min(ask.least, ask.granted, had), "not half of what a request needs"
        assert not fresh or answer.granted <= max(ask.granted, ask.spent)
        assert answer.limit == (LIMIT if self.store.hard else None)

    @rule(who=st.integers(0, 1), window=windows, amount=amounts)
    def hold(self, who: int, window: int, amount: int) -> None:
        books = self.workers[who].books[window]
        books.held = min(amount, max(0, books.have - books.spent)) if self.store.hard else amount

    @rule(who=st.integers(0, 1), window=windows, amount=amounts)
    def spend(self, who: int, window: int, amount: int) -> None:
        books = self.workers[who].books[window]
        amount = min(amount, books.held)
        books.held -= amount
        books.spent += amount

    @rule(who=st.integers(0, 1), window=windows, amount=st.integers(1, 5))
    def spend_above_all_holds(self, who: int, window: int, amount: int) -> None:
        books = self.workers[who].books[window]
        above = books.spent + books.held + amount - max(books.have, books.spent + books.held)
        books.spent, books.held = books.spent + books.held + amount, 0
        books.overrun += max(0, above)
        self.overran[window] += max(0, above)

    @rule(who=st.integers(0, 1), journal=st.booleans())
    def die(self, who: int, journal: bool) -> None:
        worker = self.workers[who]
        self.workers[who] = self.new_worker()
        rows = {window: row for (name, window), row in self.store.rows.items() if name == worker.worker_id}
        spent = {window: self.store.totals[window].spent for window in rows}
        known = {window: Legacy(books.spent, books.held) for window, books in worker.books.items()}
        presumed = self.store.end(worker.worker_id, known if journal else None)
        assert presumed == sum(known[one].sent if journal else row.granted - row.spent for one, row in rows.items())
        for window, row in rows.items():
            charged = self.store.totals[window].spent - spent[window] + row.spent
            assert charged == (known[window].spent + known[window].sent if journal else row.granted)
        assert not any(name == worker.worker_id for name, _ in self.store.rows)

    @invariant()
    def totals_are_the_sums_of_rows_and_of_ended_workers(self) -> None:
        if not hasattr(self, "store"):
            return
        for window, totals in self.store.totals.items():
            rows = [row for (_, start), row in self.store.rows.items() if start == window]
            ended = sum(self.store.ended[window])
            assert totals.spent == sum(row.spent for row in rows) + ended == sum(self.store.entries[window])
            assert totals.granted == sum(row.granted for row in rows) + ended
            assert totals.held == sum(row.held for row in rows)
            assert all(0 <= row.spent <= row.granted for row in rows)
            assert totals.overrun >= sum(row.overrun for row in rows)

    @invariant()
    def a_hard_limit_is_exceeded_by_overruns_only(self) -> None:
        """Neither by what the store counts, nor by what workers believe to have, which is what they may spend."""
        if not hasattr(self, "store") or not self.store.hard:
            return
        believed = {window: sum(self.store.ended[window]) for window in WINDOWS}
        for worker in self.workers:
            for window in WINDOWS:
                row, books = self.store.rows.get((worker.worker_id, window)), worker.books[window]
                believed[window] += max(row.granted if row else 0, books.have, books.spent + books.held)
        for newest in WINDOWS:
            stretch = [one for one in WINDOWS if self.oldest(newest) <= one <= newest]
            most = LIMIT + sum(self.overran[window] for window in stretch)
            assert sum(self.store.totals[window].granted for window in stretch) <= most
            assert sum(believed[window] for window in stretch) <= most

    @invariant()
    def without_overruns_no_worker_believes_to_have_more_than_the_store_counts(self) -> None:
        if not hasattr(self, "store") or sum(self.overran.values()) or self.rolling:
            return  # an overrun elsewhere, or a later window of a rolling budget, may have cut a slice
        for worker in self.workers:
            for window, books in worker.books.items():
                row = self.store.rows.get((worker.worker_id, window))
                assert books.have <= (row.granted if row else 0)


TestWire = Wire.TestCase
TestWire.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 30)), min_size=1, max_size=30),
    st.integers(0, 3),
)
def test_a_rolling_budget_tells_a_percentage_when_it_is_reached_and_not_with_every_new_window(
    steps: list[tuple[int, int]], late: int
) -> None:
    totals: dict[int, WindowTotals] = {}
    rows: dict[int, LeaseRow] = {}
    window, reached = 10, 0
    for number, (skip, amount) in enumerate(steps):
        window += skip // 5  # mostly the same window, now and then the next
        at = max(10, window - late) if number % 3 == 2 else window
        mine = totals.setdefault(at, WindowTotals("b", at))
        others = [one for start, one in totals.items() if start >= at - 50 and start != at]
        ask = LeaseAsk("b", at, at - 50, number + 1, spent=(rows[at].spent if at in rows else 0) + amount)
        counted = (sum(one.spent for one in others), sum(one.granted for one in others))
        rows[at], totals[at], answer = grant(
            ask, rows.get(at), mine, worker_id="w", limit=300, hard=True, counted=counted
        )
        spent = sum(one.spent for one in totals.values())
        now_reached = sum(spent * 100 >= 300 * percent for percent in ALERT_PERCENTS)
        assert answer.crossed == ALERT_PERCENTS[reached:now_reached]
        reached = now_reached


@given(st.integers(0, 150), st.integers(0, 150), st.integers(0, 150), st.integers(0, 150), st.integers(0, 150))
def test_a_store_that_forgot_takes_back_what_the_limit_leaves_or_running_requests_need(
    others: int, have: int, spent: int, held: int, more: int
) -> None:
    spent = min(spent, have)
    held = min(held, have - spent)
    totals = WindowTotals("b", 10, granted=min(others, LIMIT))
    ask = LeaseAsk("b", 10, 10, 7, spent=spent, held=held, granted=have + more, have=have)
    row, after, answer = grant(ask, None, totals, worker_id="w", limit=LIMIT, hard=True)
    left = LIMIT - totals.granted
    assert answer.granted == row.granted == max(min(have + more, left), spent + held)
    assert after.granted == totals.granted + row.granted


@given(amounts, amounts, amounts, amounts, amounts, amounts)
def test_a_slice_grows_to_least_or_goes_back_to_what_it_needs(
    others: int, spent: int, held: int, idle: int, more: int, least: int
) -> None:
    granted = min(spent + held + idle, LIMIT - others)
    spent = min(spent, granted)
    held = min(held, granted - spent)
    row = LeaseRow("b", 10, "w", 1, spent, held, granted)
    totals = WindowTotals("b", 10, spent=spent, held=held, granted=granted + others)
    ask = LeaseAsk("b", 10, 10, 2, spent, held, granted + more, granted, least=least)
    after, summed, _ = grant(ask, row, totals, worker_id="w", limit=LIMIT, hard=True)
    most = min(granted + more, LIMIT - others)
    assert after.granted == (most if most >= min(least, granted + more) else spent + held)
    again = grant(ask, after, summed, worker_id="w", limit=LIMIT + 50, hard=True)
    assert again[:2] == (after, summed), "an answer is final: room that comes later is for the next ask"


@given(amounts, amounts, amounts, st.integers(1, 200))
def test_under_a_lowered_limit_a_slice_keeps_what_it_needs_and_what_the_limit_leaves(
    spent: int, held: int, idle: int, limit: int
) -> None:
    row = LeaseRow("b", 10, "w", 1, spent, held, spent + held + idle)
    totals = WindowTotals("b", 10, spent=spent, held=held, granted=row.granted + 40)
    ask = LeaseAsk("b", 10, 10, 2, spent=spent, held=held, granted=row.granted, have=row.granted)
    after, summed, _ = grant(ask, row, totals, worker_id="w", limit=limit, hard=True)
    assert after.granted == min(row.granted, max(spent + held, limit - 40))
    assert summed.granted == after.granted + 40


def test_a_call_is_made_when_others_are_idle_and_only_then() -> None:
    idle = WindowTotals("b", 10, spent=10, held=20, granted=100)
    ask = LeaseAsk("b", 10, 10, 1, granted=5)
    assert grant(ask, None, idle, worker_id="w", limit=LIMIT, hard=True)[1].calls == 1
    busy = replace(idle, held=90)
    assert grant(ask, None, busy, worker_id="w", limit=LIMIT, hard=True)[1].calls == 0
    mine = LeaseRow("b", 10, "w", 0, spent=10, held=20, granted=100)
    own = replace(ask, granted=105, spent=10, held=20)
    assert grant(own, mine, idle, worker_id="w", limit=LIMIT, hard=True)[1].calls == 0, (
        "one's own idle money is no reason"
    )
    assert grant(ask, None, idle, worker_id="w", limit=LIMIT + 5, hard=True)[1].calls == 0, "there was room"
    assert grant(ask, None, idle, worker_id="w", limit=LIMIT, hard=False)[1].calls == 0, "soft budgets need no room"


@pytest.mark.parametrize(("spent", "sent", "charged"), [(30, 15, 45), (20, 0, 20), (10, 5, 25), (70, 9, 79)])
def test_a_journal_decides_what_a_dead_worker_is_charged(spent: int, sent: int, charged: int) -> None:
    row = LeaseRow("b", 10, "w", 3, spent=20, held=30, granted=60)
    totals = WindowTotals("b", 10, spent=50, held=40, granted=95, presumed=2)
    after, settled, presumed = recover(row, totals, Legacy(spent, sent))
    assert (settled, presumed) == (max(0, spent - 20), sent)
    assert after == replace(totals, spent=30 + charged, held=10, granted=35 + charged, presumed=2 + sent)
