"""Leases: slices of a budget, who waits for room, and what the store is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseGrant, LeaseRow, WindowTotals
from apikeyrouter.domain.ledger import lease_rules
from apikeyrouter.domain.ledger.holds import Hold
from apikeyrouter.domain.ledger.leases import Answer, Lease, Waiter
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.testing.virtual_time import ManualClock

WINDOW, OLDEST = 3600, 3000
LIMIT = 100_000
SMALLEST = LIMIT // 1000


class Shop:
    """A store with one budget: what it answers is what the shared rules say."""

    def __init__(self, limit: int = LIMIT, *, hard: bool = True, counted: tuple[int, int] = (0, 0)) -> None:
        self.limit = limit
        self.hard = hard
        self.counted = counted
        self.rows: dict[str, LeaseRow] = {}
        self.totals = WindowTotals("b", WINDOW)

    def grant(self, ask: LeaseAsk, worker_id: str = "w") -> LeaseGrant:
        row, self.totals, grant = lease_rules.grant(
            ask,
            self.rows.get(worker_id),
            self.totals,
            worker_id=worker_id,
            limit=self.limit,
            hard=self.hard,
            counted=self.counted,
        )
        self.rows[worker_id] = row
        return grant

    def others(self, granted: int, *, spent: int = 0, held: int = 0) -> None:
        """Another worker's slice."""
        seq = self.rows["o"].seq + 1 if "o" in self.rows else 1
        self.grant(LeaseAsk("b", WINDOW, OLDEST, seq, spent, held, granted), "o")


class Bench:
    """A lease, its ledger and its shop, at a time that is moved by hand."""

    def __init__(self, shop: Shop | None = None, *, at_s: float = 0.0) -> None:
        self.shop = shop or Shop()
        self.clock = ManualClock()
        self.clock.advance(at_s)
        self.ledger = Ledger(self.clock)
        self.lease = Lease("b", WINDOW, OLDEST, limit=self.shop.limit, hard=self.shop.hard, now_s=self.now_s)
        self.told: list[tuple[int, Answer]] = []

    @property
    def now_s(self) -> float:
        return self.clock.monotonic_s()

    def ask(self, after_s: float = 0.0) -> LeaseAsk | None:
        self.clock.advance(after_s)
        return self.lease.ask(self.now_s)

    def sync(self, after_s: float = 0.0) -> LeaseAsk | None:
        """Asks and hears the answer."""
        ask = self.ask(after_s)
        if ask is not None:
            self.lease.apply(ask, self.shop.grant(ask), self.now_s)
        return ask

    def hold(self, need: int) -> Hold:
        held = self.ledger.try_hold([(self.lease.account, need)])
        assert isinstance(held, Hold), f"{need} did not fit: {self.lease!r}"
        return held

    def refuses(self, need: int) -> bool:
        return not isinstance(self.ledger.try_hold([(self.lease.account, need)]), Hold)

    def spend(self, amount: int, need: int | None = None) -> None:
        hold = self.hold(amount if need is None else need)
        hold.dispatch()
        hold.settle([amount])

    def wait(self, need: int, *, first: bool = False) -> Waiter:
        waiter = Waiter(need, lambda answer: self.told.append((need, answer)))
        self.lease.enqueue(waiter, first=first)
        return waiter

    def fund(self, amount: int) -> None:
        """Gets a slice of at least this much."""
        waiter = self.wait(amount)
        self.sync()
        self.lease.leave(waiter)
        assert self.told.pop() == (amount, Answer.Room)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- slices


def test_a_new_lease_owns_nothing_and_asks_for_a_thousandth_of_the_limit(bench: Bench) -> None:
    assert bench.refuses(1)
    assert bench.sync() == LeaseAsk("b", WINDOW, OLDEST, 1, 0, 0, SMALLEST, 0, 0, 0)
    assert (bench.lease.granted, bench.lease.free) == (SMALLEST, SMALLEST)
    bench.hold(SMALLEST)
    assert bench.refuses(1)


def test_who_told_everything_and_wants_nothing_does_not_ask(bench: Bench) -> None:
    bench.sync()
    assert bench.ask() is None
    bench.spend(1)
    told = bench.sync(1.0)
    assert told is not None
    assert (told.seq, told.spent, told.held, told.have) == (2, 1, 0, SMALLEST)
    assert bench.ask() is None


def test_a_slice_covers_five_seconds_of_spending_and_at_most_a_twentieth_of_what_is_left(bench: Bench) -> None:
    bench.fund(600)
    bench.spend(600)
    ask = bench.ask(1.0)
    assert ask is not None
    assert ask.granted == 600 + 5 * 600
    bench.lease.apply(ask, bench.shop.grant(ask), bench.now_s)
    bench.fund(50_000)
    bench.spend(50_000)
    ask = bench.ask(1.0)
    assert ask is not None
    assert ask.granted == 50_600 + (LIMIT - 50_600) // 20


def test_spending_that_fades_is_forgotten_by_three_tenths_a_look(bench: Bench) -> None:
    bench.fund(600)
    bench.spend(600)
    bench.sync(1.0)
    assert bench.ask(1.0) is None, "not yet less than half of what it has"
    ask = bench.ask(1.0)
    assert ask is not None
    assert ask.granted == 600 + 5 * 294  # 0.7 * 0.7 * 600


def test_spending_that_slows_down_counts_for_three_tenths(bench: Bench) -> None:
    bench.fund(600)
    bench.spend(600)
    bench.sync(1.0)
    bench.spend(200)
    assert bench.sync(1.0) is not None
    bench.fund(9_000)
    ask = bench.ask()
    assert ask is not None
    assert ask.granted == 800 + 5 * 480, "0.7 of 600 and 0.3 of 200 a second"


def test_two_looks_within_a_tenth_of_a_second_are_one(bench: Bench) -> None:
    bench.fund(600)
    bench.spend(90)
    ask = bench.ask(0.05)
    assert ask is not None
    assert ask.granted == 90 + SMALLEST, "no rate is known yet"
    ask = bench.ask(0.05)
    assert ask is not None
    assert ask.granted == 90 + 5 * 900


def test_a_slice_that_is_near_enough_is_left_alone(bench: Bench) -> None:
    bench.sync()
    hold = bench.hold(SMALLEST // 2)  # half of it is left
    told = bench.sync()
    assert told is not None
    assert told.granted == SMALLEST
    other = bench.hold(1)
    told = bench.sync()
    assert told is not None
    assert told.granted == SMALLEST // 2 + 1 + SMALLEST
    hold.release()
    told = bench.sync()
    assert told is not None
    assert told.granted == 1 + SMALLEST // 2 + SMALLEST, "one and a half is not too much"
    other.release()
    bench.fund(3 * SMALLEST)
    told = bench.sync()
    assert told is not None
    assert told.granted == SMALLEST, "more than twice is"


def test_an_idle_slice_goes_back_after_five_seconds(bench: Bench) -> None:
    bench.sync()
    assert bench.ask(5.0) is None
    gone = bench.sync(0.001)
    assert gone is not None
    assert (gone.granted, bench.lease.granted, bench.shop.totals.granted) == (0, 0, 0)
    assert bench.refuses(1)


def test_a_slice_in_use_is_kept_at_any_time_of_day() -> None:
    bench = Bench(at_s=50_000)
    bench.sync()
    bench.spend(60)
    assert bench.sync(1.0) is not None
    ask = bench.ask(4.0)
    assert ask is None or ask.granted > 60
    gone = bench.sync(1.001)
    assert gone is not None
    assert gone.granted == 60


def test_a_budget_that_is_used_up_has_no_slices(bench: Bench) -> None:
    bench.fund(LIMIT)
    bench.spend(LIMIT - 5)
    bench.hold(5)
    told = bench.sync()
    assert told is not None
    assert told.granted == LIMIT
    bench.wait(1)
    ask = bench.ask()
    assert ask is not None
    assert ask.granted == LIMIT + 1


def test_a_call_is_answered_once(bench: Bench) -> None:
    bench.sync()
    holds = [bench.hold(1) for _ in range(4)]
    bench.shop.others(LIMIT)
    bench.sync()
    bench.shop.others(0)
    ask = None
    while len(holds) > 1:
        holds.pop().release()
        ask = bench.sync(1.0)
    assert ask is not None
    assert ask.granted > 1, "frugal for two seconds, however often it hears of the same call"


def test_who_hears_a_call_keeps_only_what_requests_need_for_two_seconds(bench: Bench) -> None:
    bench.sync()
    bench.hold(10)
    bench.shop.others(LIMIT)  # finds less than it wants, and calls
    assert bench.sync() is not None
    bench.shop.others(0)
    back = bench.sync()
    assert back is not None
    assert back.granted == 10
    assert bench.ask(1.999) is None
    again = bench.sync(0.001)
    assert again is not None
    assert again.granted == 10 + SMALLEST


def test_what_goes_back_cannot_be_taken_while_the_store_is_asked(bench: Bench) -> None:
    bench.fund(1000)
    bench.hold(10)
    ask = bench.ask()
    assert ask is not None
    assert ask.granted == 10 + SMALLEST < 1000
    assert bench.refuses(SMALLEST + 1)
    bench.hold(SMALLEST)
    bench.lease.apply(ask, bench.shop.grant(ask), bench.now_s)
    assert bench.refuses(1)


def test_an_unanswered_ask_is_asked_again(bench: Bench) -> None:
    bench.sync()
    hold = bench.hold(10)
    lost = bench.ask()
    assert lost is not None
    bench.shop.grant(lost)  # it arrives, and the answer is lost
    hold.release()
    again = bench.sync()
    assert again is not None
    assert (again.seq, again.held) == (lost.seq + 1, 0)
    assert bench.shop.totals.held == 0


def test_an_overrun_is_told_and_blocks(bench: Bench) -> None:
    bench.fund(1000)
    bench.spend(1500, 1000)
    assert bench.lease.unreported_overrun == 500
    assert bench.refuses(1)
    ask = bench.sync()
    assert ask is not None
    assert (ask.spent, ask.overrun) == (1500, 500)
    assert bench.lease.unreported_overrun == 0
    assert bench.shop.totals.spent == 1500


def test_rolling_budgets_leave_room_for_what_earlier_windows_spent() -> None:
    bench = Bench(Shop(counted=(60_000, 80_000)))
    bench.sync()
    assert bench.lease.spent == 60_000
    assert bench.lease.elsewhere == 20_000
    bench.fund(19_000)
    bench.spend(19_000)
    ask = bench.ask(1.0)
    assert ask is not None
    assert ask.granted == 19_000 + (LIMIT - 80_000 - 19_000) // 20


def test_a_request_that_waits_takes_all_else_off_the_slice_while_the_store_is_asked(bench: Bench) -> None:
    bench.fund(1000)
    bench.spend(100)
    bench.hold(200)
    bench.wait(5_000)
    ask = bench.ask()
    assert ask is not None
    assert bench.lease.account.limit == 300
    assert bench.refuses(1)
    bench.lease.apply(ask, bench.shop.grant(ask), bench.now_s)
    assert bench.lease.account.limit == bench.lease.granted


def test_what_runs_keeps_its_room_when_the_store_grants_less(bench: Bench) -> None:
    bench.fund(1000)
    bench.spend(100)
    bench.hold(200)
    ask = bench.ask()
    assert ask is not None
    bench.hold(SMALLEST)
    grant = bench.shop.grant(ask)
    grant.granted = 50
    bench.lease.apply(ask, grant, bench.now_s)
    assert bench.lease.account.limit == 300 + SMALLEST


# -- what is known


def test_a_new_lease_knows_of_nothing(bench: Bench) -> None:
    lease = bench.lease
    assert (lease.granted, lease.spent, lease.elsewhere, lease.held_elsewhere, lease.promised) == (0, 0, 0, 0, 0)
    assert (lease.unreported_spend, lease.unreported_hold, lease.unreported_overrun) == (0, 0, 0)
    assert not lease.heard
    bench.fund(1000)
    bench.spend(400)
    bench.hold(100)
    bench.sync()
    assert (lease.spent, lease.elsewhere, lease.held_elsewhere) == (400, 0, 0), "nobody else is there"


def test_a_lease_knows_what_others_have_and_what_it_did_not_tell_yet(bench: Bench) -> None:
    bench.shop.others(5_000, spent=2_000, held=700)
    bench.sync()
    lease = bench.lease
    assert (lease.spent, lease.elsewhere, lease.held_elsewhere) == (2_000, 3_000, 700)
    bench.spend(40)
    hold = bench.hold(30)
    assert (lease.spent, lease.elsewhere, lease.held_elsewhere) == (2_040, 3_000, 700)
    assert (lease.unreported_spend, lease.unreported_hold) == (40, 30)
    bench.sync()
    assert (lease.unreported_spend, lease.unreported_hold, lease.held_elsewhere) == (0, 0, 700)
    hold.release()
    assert lease.unreported_hold == -30
    assert lease.spent == 2_040


def test_what_this_worker_spent_and_told_is_not_counted_among_the_others(bench: Bench) -> None:
    bench.shop.others(5_000, spent=2_000)
    bench.fund(1_000)
    bench.spend(400)
    bench.sync()
    assert (bench.lease.elsewhere, bench.lease.spent) == (3_000, 2_400)


def test_room_is_judged_to_the_nano_dollar(bench: Bench) -> None:
    bench.shop.others(5_000, spent=2_000)
    bench.fund(1_000)
    bench.hold(600)
    lease = bench.lease
    assert lease.has_room(LIMIT - 5_000 - 600)
    assert not lease.has_room(LIMIT - 5_000 - 600 + 1)
    assert lease.can_ever_fit(LIMIT - 2_000)
    assert not lease.can_ever_fit(LIMIT - 2_000 + 1)


# -- waiting


def test_who_waits_is_asked_for_and_told(bench: Bench) -> None:
    bench.hold(0)
    bench.wait(700)
    bench.wait(300)
    ask = bench.ask()
    assert ask is not None
    assert (ask.granted, ask.least) == (1000 + SMALLEST, 700)
    assert bench.told == []
    bench.lease.apply(ask, bench.shop.grant(ask), bench.now_s)
    assert bench.told == [(700, Answer.Room), (300, Answer.Room)]


def test_least_is_what_the_first_in_line_needs_beside_all_that_is_held(bench: Bench) -> None:
    bench.fund(1000)
    bench.spend(100)
    bench.hold(200)
    bench.wait(5_000)
    bench.wait(1)
    ask = bench.ask()
    assert ask is not None
    assert ask.least == 100 + 200 + 5_000


def test_while_somebody_waits_the_store_is_asked_each_time(bench: Bench) -> None:
    bench.shop.others(LIMIT, held=LIMIT)
    bench.wait(700)
    assert bench.sync() is not None
    assert bench.sync() is not None
    assert bench.told == []
    bench.shop.others(LIMIT - 700, held=LIMIT - 700)
    assert bench.sync() is not None
    assert bench.told == [(700, Answer.Room)]


def test_those_who_wait_are_served_in_order_and_the_first_may_come_back_first(bench: Bench) -> None:
    bench.shop.others(LIMIT - 500, held=LIMIT - 500)
    bench.wait(600)
    bench.wait(100)
    bench.sync()
    assert bench.told == [], "a small one does not overtake"
    bench.wait(400, first=True)
    bench.sync()
    assert bench.told == [(400, Answer.Room)]


def test_spent_is_said_when_nothing_that_is_held_could_help(bench: Bench) -> None:
    bench.shop.others(LIMIT, spent=LIMIT - 1000)
    bench.wait(1001)
    bench.wait(1000)
    bench.sync()
    assert bench.told == [(1001, Answer.Spent)]
    assert len(bench.lease.waiters) == 1


def test_promised_room_is_kept_until_the_request_has_tried(bench: Bench) -> None:
    waiter = bench.wait(700)
    bench.sync()
    assert (bench.lease.promised, waiter.promised) == (700, True)
    assert bench.lease.free == SMALLEST
    told = bench.ask()
    assert told is not None
    assert (told.held, told.granted) == (700, 700 + SMALLEST), "it counts as held"
    bench.lease.leave(waiter)
    assert (bench.lease.promised, bench.lease.free) == (0, 700 + SMALLEST)
    bench.lease.leave(waiter)
    assert bench.lease.promised == 0


def test_a_promise_that_another_request_took_is_not_kept(bench: Bench) -> None:
    bench.wait(700)
    bench.sync()
    bench.hold(600)
    ask = bench.ask()
    assert ask is not None
    assert ask.held == 600 + SMALLEST + 100, "what is left of the slice, and no more"


def test_whoever_gives_up_is_not_told_and_not_asked_for(bench: Bench) -> None:
    bench.shop.others(LIMIT, held=LIMIT)
    gone, _ = bench.wait(700), bench.wait(10)
    bench.lease.leave(gone)
    ask = bench.sync()
    assert ask is not None
    assert ask.least == 10
    bench.shop.others(0)
    bench.sync()
    assert bench.told == [(10, Answer.Room)]


def test_a_hold_that_closes_here_makes_room_here(bench: Bench) -> None:
    bench.fund(1000)
    small, running = bench.hold(SMALLEST), bench.hold(1000)
    bench.wait(800)
    running.dispatch()
    running.settle([300])
    assert bench.told == []
    small.release()
    assert bench.told == [(800, Answer.Room)]
    assert bench.lease.account.on_free is None, "nobody waits any more"


def test_a_hold_that_closes_makes_room_for_the_next_when_the_first_gave_up(bench: Bench) -> None:
    bench.fund(1000)
    running = bench.hold(1000 + SMALLEST)
    bench.lease.leave(bench.wait(9_000))
    bench.wait(800)
    running.release()
    assert bench.told == [(800, Answer.Room)]


def test_a_failing_store_is_told_to_all_who_wait(bench: Bench) -> None:
    bench.wait(1)
    bench.wait(2)
    bench.lease.fail()
    assert bench.told == [(1, Answer.Failed), (2, Answer.Failed)]
    assert bench.lease.account.on_free is None
    assert not bench.lease.waiters


def test_soft_budgets_make_nobody_wait() -> None:
    bench = Bench(Shop(hard=False))
    bench.hold(3 * LIMIT)
    assert bench.lease.has_room(LIMIT)
    assert bench.lease.can_ever_fit(9 * LIMIT)
    bench.wait(5)
    bench.lease.wake()
    assert bench.told == [(5, Answer.Room)]
    ask = bench.ask()
    assert ask is not None
    assert (ask.held, ask.granted) == (3 * LIMIT, 3 * LIMIT)


# -- changes


def test_a_frozen_lease_lets_running_requests_settle_and_takes_no_more(bench: Bench) -> None:
    bench.fund(1000)
    hold = bench.hold(400)
    bench.lease.freeze()
    assert bench.refuses(1)
    hold.dispatch()
    hold.settle([100])
    bench.hold(300)  # within what was held when it froze
    assert bench.refuses(1)
    bench.sync()
    bench.hold(1)


def test_soft_budgets_freeze_only_when_told_to() -> None:
    bench = Bench(Shop(hard=False))
    bench.sync()
    bench.lease.freeze()
    bench.hold(5)
    bench.lease.freeze(soft_too=True)
    assert bench.refuses(1)
    assert bench.sync() is not None
    bench.hold(2 * LIMIT)
    assert bench.lease.account.limit == LIMIT


def test_a_lower_limit_binds_at_once_and_is_asked_about(bench: Bench) -> None:
    bench.fund(50_000)
    bench.hold(20_000)
    bench.shop.limit = 30_000
    bench.lease.redefine(30_000, hard=True)
    assert bench.refuses(1)
    ask = bench.sync()
    assert ask is not None
    assert bench.lease.limit == 30_000
    assert bench.lease.granted <= 30_000


def test_a_higher_limit_may_let_somebody_in(bench: Bench) -> None:
    bench.shop.others(LIMIT, spent=LIMIT)
    bench.sync()
    bench.shop.limit = 2 * LIMIT
    bench.lease.redefine(2 * LIMIT, hard=True)
    bench.wait(LIMIT)
    assert bench.sync() is not None
    assert bench.told == [(LIMIT, Answer.Room)]


def test_any_change_of_the_limit_is_asked_about(bench: Bench) -> None:
    bench.sync()
    assert bench.ask() is None
    bench.lease.redefine(LIMIT + 1, hard=True)
    assert not bench.lease.heard
    assert bench.ask() is not None


def test_a_lower_limit_leaves_what_was_spent_and_what_runs(bench: Bench) -> None:
    bench.fund(1000)
    bench.spend(100)
    bench.hold(200)
    bench.lease.redefine(LIMIT - 1, hard=True)
    assert bench.lease.account.limit == 300


def test_a_soft_budget_warns_by_its_new_limit_at_once() -> None:
    bench = Bench(Shop(hard=False))
    bench.sync()
    bench.lease.redefine(50, hard=False)
    assert not bench.hold(50).warnings
    assert bench.hold(1).warnings == (bench.lease.account,)
    assert bench.ask() is not None
    assert bench.lease.account.limit == 50, "asking takes nothing off"


def test_the_same_definition_again_changes_nothing(bench: Bench) -> None:
    bench.sync()
    bench.lease.redefine(LIMIT, hard=True)
    assert bench.ask() is None
    assert bench.lease.free == SMALLEST


def test_a_budget_may_become_soft_and_hard_again(bench: Bench) -> None:
    bench.sync()
    waiting = bench.wait(5 * LIMIT)
    bench.lease.redefine(LIMIT, hard=False)
    assert bench.told == [(5 * LIMIT, Answer.Room)]
    bench.lease.leave(waiting)
    hold = bench.hold(5 * LIMIT)
    assert hold.warnings == (bench.lease.account,)
    hold.release()
    bench.shop.hard = False
    bench.sync()
    bench.lease.redefine(LIMIT, hard=True)
    bench.shop.hard = True
    assert bench.refuses(1), "what a soft budget was granted is no slice"
    bench.sync()
    bench.hold(SMALLEST)
    assert bench.refuses(1)


def test_the_limit_of_the_store_is_taken_over(bench: Bench) -> None:
    bench.shop.limit = 40_000
    bench.sync()
    assert bench.lease.limit == 40_000


def test_a_draining_lease_gives_everything_back_and_is_settled_when_the_store_knows(bench: Bench) -> None:
    bench.fund(1000)
    hold = bench.hold(400)
    waiter = bench.wait(5_000)
    bench.lease.retire()
    assert bench.told == [(5_000, Answer.Room)], "it may look at the lease in its place"
    bench.lease.leave(waiter)
    assert bench.refuses(1)
    assert not bench.lease.settled
    ask = bench.sync()
    assert ask is not None
    assert ask.granted == 400
    hold.dispatch()
    hold.settle([500])
    assert not bench.lease.settled, "the store does not know yet"
    lost = bench.ask()
    assert lost is not None
    assert not bench.lease.settled
    bench.sync()
    assert bench.lease.settled
    assert (bench.shop.totals.spent, bench.shop.totals.granted, bench.shop.totals.overrun) == (500, 500, 100)
    assert bench.ask() is None


def test_a_lease_with_a_slice_left_is_not_settled(bench: Bench) -> None:
    bench.sync()
    bench.lease.draining = True
    assert not bench.lease.settled
    bench.sync()
    assert bench.lease.settled


def test_a_waiter_is_told_once() -> None:
    told: list[Answer] = []
    tell: Callable[[Answer], None] = told.append
    waiter = Waiter(1, tell)
    waiter.answer(Answer.Room)
    waiter.answer(Answer.Spent)
    assert told == [Answer.Room]


def test_a_lease_says_what_it_is(bench: Bench) -> None:
    assert repr(bench.lease) == f"<Lease b@{WINDOW} <Account b 0+0/0 nano_usd> of {LIMIT}>"
