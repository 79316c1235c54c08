"""The ledger against a model of ten lines: holds in any order over several windows, while time passes.

The model keeps every hold for ever and counts by definition; the ledger keeps running totals. They must agree after
every step. It catches a hold that is kept at settle, a hold that is ignored, and an off by one at the limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from apikeyrouter.domain.ledger.accounts import Account, Window
from apikeyrouter.domain.ledger.holds import Hold, HoldState, LedgerError, Refused
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.models.quota_state import TimeWindow
from apikeyrouter.domain.quota.windows import Calendar, Concurrent, Rolling, Total
from apikeyrouter.testing.virtual_time import ManualClock

WIDTH_S = 10
PARTS = 6


@dataclass
class Taken:
    """One line of one hold, as the model remembers it: `used` is None while the hold is open."""

    at_s: float
    need: int
    used: int | None = None


@dataclass
class Model:
    """What an account should say, by definition."""

    account: Account
    lines: list[Taken] = field(default_factory=list)

    def counts(self, line: Taken, now_s: float) -> bool:
        match self.account.window:
            case Rolling():
                return line.at_s // WIDTH_S >= now_s // WIDTH_S - PARTS
            case Calendar():
                return line.at_s // 60 == now_s // 60
        return True

    def used(self, now_s: float) -> int:
        charges = not isinstance(self.account.window, Concurrent)
        return sum(line.used or 0 for line in self.lines if charges and self.counts(line, now_s))

    def held(self, now_s: float) -> int:
        return sum(line.need for line in self.lines if line.used is None and self.counts(line, now_s))

    def lacks_room(self, need: int, now_s: float) -> bool:
        account = self.account
        over = account.limit is not None and self.used(now_s) + self.held(now_s) + need > account.limit
        return need > 0 and account.hard and over


amounts = st.lists(st.integers(0, 7), min_size=5, max_size=5)


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()  # monotonic 0 is a full minute of its wall clock
        self.ledger = Ledger(self.clock)
        minute = Calendar(TimeWindow.Minute, self.clock)
        windows: list[tuple[Window, int | None, bool]] = [
            (Total(), 40, True),
            (Rolling(WIDTH_S * PARTS, PARTS), 12, True),
            (minute, 15, True),
            (Concurrent(), 9, True),
            (Total(), 10, False),
        ]
        self.models = [
            Model(Account(f"a{number}", "tokens", limit, window, hard=hard, now_s=0.0))
            for number, (window, limit, hard) in enumerate(windows)
        ]
        self.open: list[tuple[Hold, list[Taken]]] = []
        self.closed: list[Hold] = []

    @property
    def now_s(self) -> float:
        return self.clock.monotonic_s()

    @rule(needs=amounts, mask=st.integers(1, 31))
    def take(self, needs: list[int], mask: int) -> None:
        pairs = enumerate(zip(self.models, needs, strict=True))
        chosen = [(model, need) for place, (model, need) in pairs if mask >> place & 1]
        short = [model for model, need in chosen if model.lacks_room(need, self.now_s)]
        held = self.ledger.try_hold([(model.account, need) for model, need in chosen])
        if isinstance(held, Refused):
            assert short, "refused although everything fits"
            assert held.account is short[0].account
            return
        assert not short, "held although it does not fit"
        lines = [Taken(self.now_s, need) for _, need in chosen]
        for (model, _), line in zip(chosen, lines, strict=True):
            model.lines.append(line)
        self.open.append((held, lines))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def dispatch(self, data: st.DataObject) -> None:
        hold, _ = data.draw(st.sampled_from(self.open))
        if hold.state is HoldState.Reserved:
            hold.dispatch()
        else:
            with pytest.raises(LedgerError):
                hold.dispatch()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), actual=amounts)
    def settle(self, data: st.DataObject, actual: list[int]) -> None:
        hold, lines = data.draw(st.sampled_from(self.open))
        if hold.state is HoldState.Reserved:
            with pytest.raises(LedgerError):
                hold.settle(actual[: len(lines)])
            return
        hold.settle(actual[: len(lines)])
        self.close(hold, lines, actual)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def presume(self, data: st.DataObject) -> None:
        hold, lines = data.draw(st.sampled_from(self.open))
        if hold.state is HoldState.Dispatched:
            hold.presume()
            self.close(hold, lines, [line.need for line in lines])

    @precondition(lambda self: self.open)
    @rule(data=st.data(), unbilled=st.booleans())
    def release(self, data: st.DataObject, unbilled: bool) -> None:
        hold, lines = data.draw(st.sampled_from(self.open))
        if hold.state is HoldState.Dispatched and not unbilled:
            with pytest.raises(LedgerError):
                hold.release()
            return
        hold.release(unbilled=unbilled)
        self.close(hold, lines, [0] * len(lines))

    @precondition(lambda self: self.closed)
    @rule(data=st.data())
    def close_again(self, data: st.DataObject) -> None:
        hold = data.draw(st.sampled_from(self.closed))
        for close in (hold.presume, lambda: hold.release(unbilled=True), lambda: hold.settle([1] * len(hold.lines))):
            with pytest.raises(LedgerError):
                close()

    @rule(seconds=st.sampled_from([0.5, 3, 9, 10, 30, 60, 75]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def close(self, hold: Hold, lines: list[Taken], actual: list[int]) -> None:
        for line, amount in zip(lines, actual, strict=False):
            line.used = amount
        self.open.remove((hold, lines))
        self.closed.append(hold)

    @invariant()
    def books_balance(self) -> None:
        for model in self.models:
            free = model.account.free(self.now_s)
            used, held = model.used(self.now_s), model.held(self.now_s)
            assert (model.account.used, model.account.held) == (used, held), model.account
            assert model.account.limit is not None
            assert free == max(0, model.account.limit - used - held)

    @invariant()
    def open_holds_are_counted(self) -> None:
        assert self.ledger.open_holds == len(self.open)
        assert self.ledger.at_rest == (not self.open)

    def teardown(self) -> None:
        for hold, _ in self.open:
            hold.release(unbilled=True)
        assert self.ledger.at_rest
        assert [model.account.held for model in self.models] == [0] * len(self.models)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
