"""Holds, accounts and windows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.holds import Hold, HoldState, LedgerError, Refused
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.models.quota_state import TimeWindow
from apikeyrouter.domain.quota.windows import (
    Calendar,
    Concurrent,
    Rolling,
    Total,
    calendar_id,
    calendar_number,
    calendar_start,
)
from apikeyrouter.testing.virtual_time import ManualClock


class SteppedWallClock(ManualClock):
    """A clock whose time of day can jump while its monotonic time does not: NTP, or a machine that slept."""

    shift = timedelta(0)

    def utc_now(self) -> datetime:
        return super().utc_now() + self.shift


def total(limit: int | None, *, hard: bool = True, name: str = "a") -> Account:
    return Account(name, "nano_usd", limit, Total(), hard=hard, now_s=0.0)


def held(result: Hold | Refused) -> Hold:
    assert isinstance(result, Hold)
    return result


def refused(result: Hold | Refused) -> Refused:
    assert isinstance(result, Refused)
    return result


def test_a_hold_takes_exactly_up_to_the_limit_and_not_one_more() -> None:
    ledger, account = Ledger(ManualClock()), total(10)
    held(ledger.try_hold([(account, 9)]))
    no = refused(ledger.try_hold([(account, 2)]))
    assert (no.need, no.free, bool(no)) == (2, 1, False)
    held(ledger.try_hold([(account, 1)]))
    assert account.free(0.0) == 0


def test_a_refusal_leaves_every_account_as_it_was() -> None:
    ledger = Ledger(ManualClock())
    first = Account("first", "tokens", 100, Rolling(60), now_s=0.0)
    second, third = total(None), total(5)
    no = refused(ledger.try_hold([(first, 50), (second, 7), (third, 6)]))
    assert no.account is third
    assert [a.held for a in (first, second, third)] == [0, 0, 0]
    assert ledger.at_rest
    held(ledger.try_hold([(first, 100)]))


def test_the_same_account_twice_in_one_hold_must_have_room_for_both() -> None:
    ledger, account = Ledger(ManualClock()), total(10)
    no = refused(ledger.try_hold([(account, 6), (account, 6)]))
    assert (no.need, account.held) == (12, 0)
    held(ledger.try_hold([(account, 5), (account, 5)])).release()
    assert account.held == 0


def test_settling_charges_what_was_used_and_frees_the_rest() -> None:
    ledger, account = Ledger(ManualClock()), total(10)
    hold = held(ledger.try_hold([(account, 10)]))
    hold.dispatch()
    hold.settle([3])
    assert (account.used, account.held, account.free(0.0), hold.state) == (3, 0, 7, HoldState.Settled)


def test_settling_above_the_hold_is_recorded_as_an_overrun_and_blocks() -> None:
    ledger, account = Ledger(ManualClock()), total(10)
    hold = held(ledger.try_hold([(account, 10)]))
    hold.dispatch()
    hold.settle([14])
    assert (account.used, account.overrun, ledger.overruns, account.free(0.0)) == (14, 4, 1, 0)
    refused(ledger.try_hold([(account, 1)]))


def test_presuming_charges_the_whole_hold() -> None:
    ledger, account = Ledger(ManualClock()), total(10)
    hold = held(ledger.try_hold([(account, 8)]))
    hold.dispatch()
    hold.presume()
    assert (account.used, account.held, hold.state, hold.is_open) == (8, 0, HoldState.Presumed, False)


def test_a_dispatched_hold_is_given_back_only_when_it_is_known_to_be_unbilled() -> None:
    ledger, account = Ledger(ManualClock()), total(10)
    hold = held(ledger.try_hold([(account, 8)]))
    hold.dispatch()
    with pytest.raises(LedgerError, match="unbilled=True"):
        hold.release()
    assert account.held == 8
    hold.release(unbilled=True)
    assert (account.held, account.used, hold.state) == (0, 0, HoldState.Voided)


@pytest.mark.parametrize("actual", [[1], [1, 2, 3], [1, -1]])
def test_a_settlement_that_makes_no_sense_changes_nothing(actual: list[int]) -> None:
    ledger, account, other = Ledger(ManualClock()), total(10), total(10)
    hold = held(ledger.try_hold([(account, 4), (other, 4)]))
    hold.dispatch()
    with pytest.raises(LedgerError):
        hold.settle(actual)
    assert hold.is_open
    assert [(a.used, a.held) for a in (account, other)] == [(0, 4), (0, 4)]


def test_what_was_never_sent_cannot_be_settled_or_presumed() -> None:
    ledger, account = Ledger(ManualClock()), total(10)
    hold = held(ledger.try_hold([(account, 4)]))
    for close in (hold.presume, lambda: hold.settle([1])):
        with pytest.raises(LedgerError, match="only a dispatched one"):
            close()
    assert account.held == 4


def test_a_negative_hold_is_an_error_and_takes_nothing() -> None:
    ledger, account, other = Ledger(ManualClock()), total(10), total(None)
    with pytest.raises(LedgerError, match="negative"):
        ledger.try_hold([(account, 4), (other, -1)])
    assert (account.held, other.held, ledger.at_rest) == (0, 0, True)


def test_a_line_of_nothing_fits_even_a_full_account() -> None:
    ledger, account = Ledger(ManualClock()), total(10)
    held(ledger.try_hold([(account, 10)]))
    held(ledger.try_hold([(account, 0)]))


def test_a_soft_account_lets_everything_pass_and_says_so() -> None:
    ledger, soft = Ledger(ManualClock()), total(10, hard=False)
    assert held(ledger.try_hold([(soft, 10)])).warnings == ()
    assert held(ledger.try_hold([(soft, 1)])).warnings == (soft,)


def test_a_concurrency_slot_is_free_again_after_settling() -> None:
    ledger = Ledger(ManualClock())
    slots = Account("slots", "slots", 2, Concurrent(), now_s=0.0)
    first = held(ledger.try_hold([(slots, 1)]))
    held(ledger.try_hold([(slots, 1)]))
    assert refused(ledger.try_hold([(slots, 1)])).available_at_s is None
    first.dispatch()
    first.settle([1])
    assert (slots.used, slots.held) == (0, 1)
    held(ledger.try_hold([(slots, 1)]))


def test_a_rolling_window_never_has_more_than_the_limit_in_any_period() -> None:
    clock = ManualClock()
    ledger, account = Ledger(clock), Account("rpm", "requests", 5, Rolling(60, 6), now_s=0.0)
    taken_at: list[float] = []
    for _ in range(1200):
        hold = ledger.try_hold([(account, 1)])
        if isinstance(hold, Hold):
            taken_at.append(clock.monotonic_s())
            hold.dispatch()
            hold.settle([1])
        clock.advance(0.5)
    assert len(taken_at) >= 5 * 600 / 70
    assert all(later - earlier > 60 for earlier, later in zip(taken_at, taken_at[5:], strict=False))


def test_a_refusal_by_a_rolling_window_tells_when_it_will_fit() -> None:
    clock = ManualClock()
    ledger, account = Ledger(clock), Account("tpm", "tokens", 100, Rolling(60, 6), now_s=0.0)
    for amount, pause_s in ((40, 25.0), (60, 5.0)):
        hold = held(ledger.try_hold([(account, amount)]))
        hold.dispatch()
        hold.settle([amount])
        clock.advance(pause_s)
    no = refused(ledger.try_hold([(account, 40)]))
    assert no.available_at_s == 70.0
    assert refused(ledger.try_hold([(account, 41)])).available_at_s == 90.0
    assert refused(ledger.try_hold([(account, 101)])).available_at_s is None
    clock.advance(70.0 - clock.monotonic_s() - 0.001)
    refused(ledger.try_hold([(account, 40)]))
    clock.advance(0.001)
    held(ledger.try_hold([(account, 40)]))


def test_a_long_request_leaves_a_rolling_window_when_its_time_has_passed() -> None:
    clock = ManualClock()
    ledger, account = Ledger(clock), Account("rpm", "requests", 1, Rolling(60, 6), now_s=0.0)
    stream = held(ledger.try_hold([(account, 1)]))
    stream.dispatch()
    clock.advance(300)
    held(ledger.try_hold([(account, 1)])).release()
    stream.settle([1])
    assert (account.used, account.held, account.late, ledger.at_rest) == (0, 0, 1, True)


def test_a_hold_settles_into_the_day_it_was_taken_in() -> None:
    clock = ManualClock(utc=datetime(2026, 11, 21, 23, 59, 50, tzinfo=UTC))
    ledger = Ledger(clock)
    account = Account("day", "nano_usd", 100, Calendar(TimeWindow.Daily, clock), now_s=clock.monotonic_s())
    hold = held(ledger.try_hold([(account, 100)]))
    hold.dispatch()
    no = refused(ledger.try_hold([(account, 1)]))
    assert no.available_at_s == clock.monotonic_s() + 10
    clock.advance(10)
    fresh = held(ledger.try_hold([(account, 100)]))
    hold.settle([90])
    assert (account.used, account.held, account.late) == (0, 100, 90)
    fresh.release()
    assert account.held == 0


def test_a_daily_window_ends_on_time_after_the_machine_has_slept() -> None:
    clock = SteppedWallClock(utc=datetime(2026, 11, 21, 20, 0, tzinfo=UTC))
    account = Account("day", "nano_usd", 10, Calendar(TimeWindow.Daily, clock), now_s=0.0)
    account.adjust_used(10, 0.0)
    clock.shift = timedelta(hours=9)
    clock.advance(60)
    assert account.free(clock.monotonic_s()) == 10


def test_a_wall_clock_that_goes_back_does_not_reopen_a_window() -> None:
    clock = SteppedWallClock(utc=datetime(2026, 11, 22, 0, 30, tzinfo=UTC))
    account = Account("day", "nano_usd", 10, Calendar(TimeWindow.Daily, clock), now_s=0.0)
    account.adjust_used(7, 0.0)
    clock.shift = timedelta(hours=-1)
    clock.advance(120)
    assert account.free(clock.monotonic_s()) == 3
    clock.shift = timedelta(0)
    clock.advance(120)
    assert account.free(clock.monotonic_s()) == 3


def test_corrections_never_make_use_negative_and_forget_the_oldest_first() -> None:
    account = Account("tpm", "tokens", 100, Rolling(60, 6), now_s=0.0)
    account.adjust_used(30, 0.0)
    account.adjust_used(20, 15.0)
    account.adjust_used(-35, 20.0)
    assert account.used == 15
    assert account.free(70.0) == 85
    assert account.free(80.0) == 100
    account.adjust_used(-99, 80.0)
    assert account.used == 0


def test_a_watcher_sees_balanced_books_and_is_called_again_only_at_its_next_mark() -> None:
    ledger, account, other = Ledger(ManualClock()), total(100, name="watched"), total(None)
    seen: list[tuple[int, int, int]] = []

    def watch(watched: Account) -> int:
        seen.append((watched.used, watched.held, other.held))
        return watched.used + 50

    account.watch, account.watermark = watch, 10
    for amount in (9, 1, 40, 20):
        hold = held(ledger.try_hold([(account, 40), (other, 1)]))
        hold.dispatch()
        hold.settle([amount, 1])
    assert seen == [(10, 0, 0), (70, 0, 0)]  # 50 lies below the next mark, 60


@pytest.mark.parametrize(
    ("period", "utc", "name", "ends"),
    [
        (TimeWindow.Minute, datetime(2026, 11, 21, 13, 5, 59, tzinfo=UTC), "2026-11-21T13:05", "2026-11-21T13:06"),
        (TimeWindow.Hourly, datetime(2026, 11, 21, 23, 5, tzinfo=UTC), "2026-11-21T23", "2026-11-22T00:00"),
        (TimeWindow.Daily, datetime(2028, 2, 28, 12, tzinfo=UTC), "2028-02-28", "2028-02-29T00:00"),
        (TimeWindow.Weekly, datetime(2026, 11, 22, 23, 59, tzinfo=UTC), "2026-W47", "2026-11-23T00:00"),
        (TimeWindow.Weekly, datetime(2027, 1, 1, tzinfo=UTC), "2026-W53", "2027-01-04T00:00"),
        (TimeWindow.Monthly, datetime(2026, 12, 31, tzinfo=UTC), "2026-12", "2027-01-01T00:00"),
        (TimeWindow.Monthly, datetime(2028, 2, 29, tzinfo=UTC), "2028-02", "2028-03-01T00:00"),
    ],
)
def test_calendar_periods_have_stable_names_and_true_ends(
    period: TimeWindow, utc: datetime, name: str, ends: str
) -> None:
    number = calendar_number(period, utc)
    assert calendar_id(period, number) == name
    assert calendar_start(period, number) <= utc < calendar_start(period, number + 1)
    assert calendar_start(period, number + 1) == datetime.fromisoformat(ends).replace(tzinfo=UTC)


def test_windows_refuse_lengths_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="period_s"):
        Rolling(0)
    with pytest.raises(ValueError, match="sub_buckets"):
        Rolling(60, 0)
    with pytest.raises(ValueError, match="Total"):
        Calendar(TimeWindow.Total, ManualClock())
    with pytest.raises(ValueError, match="negative"):
        total(-1)
