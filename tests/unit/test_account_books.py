"""Accounts: what outlives the process, who is told when room comes back, marks, corrections and times."""

from __future__ import annotations

import pytest

from apikeyrouter.domain.ledger.accounts import NEVER, Account
from apikeyrouter.domain.ledger.holds import Hold, Refused
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.quota.windows import Concurrent, Rolling, Total
from apikeyrouter.testing.virtual_time import ManualClock


class Cells:
    """Two integers that remember every write, in order."""

    def __init__(self) -> None:
        self.values = [0, 0]
        self.seen: list[tuple[int, int]] = []

    def __setitem__(self, index: int, value: int, /) -> None:
        self.values[index] = value
        self.seen.append((self.values[0], self.values[1]))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(clock: ManualClock) -> Ledger:
    return Ledger(clock)


def total(limit: int | None = 100, *, hard: bool = True, cells: Cells | None = None) -> Account:
    account = Account("a", "nano_usd", limit, Total(), hard=hard, now_s=0.0)
    account.cells = cells
    return account


def rolling(limit: int, *, parts: int = 3) -> Account:
    """Parts of ten seconds."""
    return Account("r", "tokens", limit, Rolling(10.0 * parts, parts), now_s=0.0)


def held(ledger: Ledger, *lines: tuple[Account, int]) -> Hold:
    hold = ledger.try_hold(lines)
    assert isinstance(hold, Hold)
    return hold


def refused(ledger: Ledger, *lines: tuple[Account, int]) -> Refused:
    no = ledger.try_hold(lines)
    assert isinstance(no, Refused)
    return no


# -- what outlives the process


def test_cells_say_at_every_instant_at_least_what_may_have_been_spent(ledger: Ledger) -> None:
    cells = Cells()
    account = total(cells=cells)
    first, second = held(ledger, (account, 10)), held(ledger, (account, 5))
    assert cells.seen == [], "what was not sent costs nothing"
    first.dispatch()
    second.dispatch()
    assert cells.values == [0, 15]
    assert account.sent == 15
    first.settle([7])
    assert cells.values == [7, 5]
    assert cells.seen[2:] == [(7, 15), (7, 5)], "spent goes up before sent goes down"
    second.presume()
    assert cells.seen[4:] == [(12, 5), (12, 0)]
    assert (account.sent, account.presumed) == (0, 5)


def test_what_was_sent_and_provably_not_billed_leaves_the_cells(ledger: Ledger) -> None:
    cells = Cells()
    account = total(cells=cells)
    hold, other = held(ledger, (account, 10)), held(ledger, (account, 4))
    hold.dispatch()
    other.release()
    assert cells.values == [0, 10], "what was never sent was never there"
    hold.release(unbilled=True)
    assert (cells.values, account.sent) == ([0, 0], 0)


def test_only_accounts_with_cells_keep_what_was_sent(ledger: Ledger) -> None:
    account = total()
    hold = held(ledger, (account, 10))
    hold.dispatch()
    assert account.sent == 0
    hold.settle([3])
    assert account.sent == 0


def test_presumed_is_counted_where_money_is_charged_and_not_for_slots(ledger: Ledger) -> None:
    money, slots = total(), Account("s", "slots", 5, Concurrent(), now_s=0.0)
    hold = held(ledger, (money, 10), (slots, 1))
    hold.dispatch()
    hold.presume()
    assert (money.presumed, slots.presumed, slots.used) == (10, 0, 0)


# -- who is told


def test_whoever_waits_is_told_after_every_line_is_closed(ledger: Ledger) -> None:
    told: list[tuple[str, int, int]] = []
    first, second = total(), total()
    first.on_free = second.on_free = lambda account: told.append((account.id, first.held, second.held))
    hold = held(ledger, (first, 10), (second, 20))
    assert told == []
    hold.release()
    assert told == [("a", 0, 0), ("a", 0, 0)]
    hold = held(ledger, (first, 10), (second, 20))
    hold.dispatch()
    hold.settle([1, 2])
    assert len(told) == 4
    second.on_free = None
    held(ledger, (first, 1), (second, 1)).release()
    assert len(told) == 5


def test_a_mark_is_reached_at_its_amount_and_only_marked_accounts_are_watched(ledger: Ledger) -> None:
    told: list[int] = []

    def watch(account: Account) -> int:
        told.append(account.used)
        return NEVER

    marked, plain = total(), total()
    marked.watch, marked.watermark = watch, 10
    plain.watermark = 1  # nobody watches
    for amount, expected in ((9, []), (1, [10]), (50, [10])):
        hold = held(ledger, (plain, amount), (marked, amount))
        hold.dispatch()
        hold.settle([amount, amount])
        assert told == expected


def test_a_correction_may_reach_a_mark_too() -> None:
    told: list[int] = []

    def watch(account: Account) -> int:
        told.append(account.used)
        return 50

    account = total()
    account.adjust_used(5, 0.0)
    account.watermark = 10
    account.adjust_used(20, 0.0)
    account.watch = watch
    account.adjust_used(-16, 0.0)
    assert told == []
    account.adjust_used(1, 0.0)
    assert (told, account.watermark) == ([10], 50)
    account.adjust_used(39, 0.0)
    assert told == [10]
    account.adjust_used(1, 0.0)
    assert told == [10, 50]


def test_a_new_window_asks_for_the_next_mark() -> None:
    account = Account("m", "nano_usd", 100, Rolling(10.0, 1), now_s=0.0)
    account.watch = lambda one: one.used + 7
    account.refresh(9.0)
    assert account.watermark == NEVER
    account.refresh(10.0)
    assert account.watermark == 7


# -- corrections


def test_more_use_counts_as_taken_now_and_less_is_taken_off_the_oldest(clock: ManualClock) -> None:
    account = rolling(100)
    account.adjust_used(10, 0.0)
    account.adjust_used(20, 10.0)
    account.adjust_used(0, 10.0)
    account.adjust_used(-13, 20.0)
    account.refresh(39.9)
    assert account.used == 17
    account.refresh(40.0)
    assert account.used == 17, "the ten of the first part were taken off first"
    account.refresh(50.0)
    assert account.used == 0


def test_corrections_leave_what_is_held_where_it_is(ledger: Ledger) -> None:
    account = rolling(100)
    hold = held(ledger, (account, 30))
    account.adjust_used(5, 0.0)
    account.adjust_used(-99, 0.0)
    assert (account.used, account.held) == (0, 30)
    hold.release()
    assert (account.used, account.held) == (0, 0)


# -- times


def test_what_fits_to_the_last_unit_fits_now() -> None:
    account = rolling(10)
    account.adjust_used(4, 0.0)
    assert account.free_at_s(6, 3.0) == 3.0
    assert account.free_at_s(7, 3.0) == 40.0
    assert account.free_at_s(10, 3.0) == 40.0
    assert account.free_at_s(11, 3.0) is None


def test_without_a_limit_everything_fits_now(ledger: Ledger) -> None:
    account = total(None)
    held(ledger, (account, 10**12))
    assert account.free(0.0) is None
    assert account.free_at_s(10**15, 2.5) == 2.5


def test_time_may_have_made_room_before_anybody_looks() -> None:
    account = rolling(10)
    account.adjust_used(10, 0.0)
    assert account.free_at_s(1, 45.0) == 45.0
    assert account.free(45.0) == 10


def test_room_comes_back_part_by_part_with_what_is_held_in_each(ledger: Ledger, clock: ManualClock) -> None:
    account = rolling(10)
    held(ledger, (account, 3))
    account.adjust_used(2, 0.0)
    clock.advance(10)
    held(ledger, (account, 4))
    assert account.free_at_s(6, 10.0) == 40.0
    assert account.free_at_s(7, 10.0) == 50.0
    assert account.free_at_s(1, 10.0) == 10.0


def test_one_part_makes_a_rolling_window_still_count_two(ledger: Ledger, clock: ManualClock) -> None:
    account = rolling(10, parts=1)
    held(ledger, (account, 10))
    clock.advance(10)
    assert refused(ledger, (account, 1)).available_at_s == 20.0
    clock.advance(10)
    held(ledger, (account, 10))


def test_a_refusal_says_what_is_free_now(ledger: Ledger) -> None:
    account = total(10)
    held(ledger, (account, 10))
    assert refused(ledger, (account, 1)).free == 0


def test_a_soft_account_is_exceeded_only_above_its_limit_and_not_by_nothing(ledger: Ledger) -> None:
    account = total(10, hard=False)
    assert held(ledger, (account, 10)).warnings == ()
    assert held(ledger, (account, 1)).warnings == (account,)
    assert held(ledger, (account, 0)).warnings == ()


def test_settling_exactly_what_was_held_is_no_overrun(ledger: Ledger) -> None:
    account = total(10)
    hold = held(ledger, (account, 4))
    hold.dispatch()
    hold.settle([4])
    assert (account.overrun, ledger.overruns) == (0, 0)


def test_a_plain_account_that_never_rolled_counts_nothing_as_late(ledger: Ledger) -> None:
    account = total(10)
    hold = held(ledger, (account, 4))
    hold.dispatch()
    hold.settle([4])
    assert (account.late, account.presumed, account.sent) == (0, 0, 0)
