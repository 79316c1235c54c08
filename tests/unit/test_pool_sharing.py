"""Keys of one account that were registered as two are found out, and independent ones are not suspected."""

from __future__ import annotations

from random import Random

import pytest

from apikeyrouter.domain.ledger.holds import Hold
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.quota.facts import MINUTE_S, Dimension, LimitFact
from apikeyrouter.domain.quota.pools import PoolView, QuotaPool
from apikeyrouter.domain.quota.sharing import SharingDetector
from apikeyrouter.testing.virtual_time import ManualClock
from tests.support.dialects import QuietDialect

LIMIT = 120


class Account:
    """A provider's token bucket, as an account of several keys sees it."""

    def __init__(self) -> None:
        self.level = float(LIMIT)
        self.at_s = 0.0

    def request(self, now_s: float) -> int:
        self.level = min(LIMIT, self.level + (now_s - self.at_s) * LIMIT / 60.0)
        self.at_s = now_s
        self.level = max(0.0, self.level - 1.0)
        return int(self.level)


def run(accounts: list[Account], seconds: int, *, seed: int = 1) -> list[PoolView]:
    """One pool per entry of `accounts` (the same object twice: one account), used at random."""
    clock, rng = ManualClock(), Random(seed)
    ledger, detector = Ledger(clock), SharingDetector()
    views = []
    for place in range(len(accounts)):
        pool = QuotaPool(f"p/{place}", "p", clock.monotonic_s())
        view = pool.views["m"] = PoolView(pool, "m", QuietDialect())
        views.append(view)
    for _ in range(seconds):
        for place, view in enumerate(views):
            for _ in range(rng.choice((0, 1, 2, 3))):
                now_s = clock.monotonic_s()
                hold = ledger.try_hold(view.lines((1, 0, 0, 0, 1, 0, 0, 0)))
                if not isinstance(hold, Hold):
                    break  # nobody sends what would be refused
                hold.dispatch()
                held = [(account, account.taken) for account, _ in hold.lines]
                remaining = accounts[place].request(now_s)
                reset_s = (LIMIT - remaining) / LIMIT * 60.0
                fact = LimitFact(Dimension.Requests, MINUTE_S, LIMIT, remaining, reset_s=reset_s)
                view.told([fact], held, sent_at_s=now_s, now_s=now_s)
                hold.settle([need for _, need in hold.lines])
        clock.advance(1.0)
        detector.sample(views, clock.monotonic_s())
    return views


@pytest.mark.parametrize("seed", range(3))
def test_two_keys_of_one_account_are_suspected(seed: int) -> None:
    shared = Account()
    views = run([shared, shared], 600, seed=seed)
    assert [view.pool.suspected_same for view in views] == [{"p/1"}, {"p/0"}]


@pytest.mark.parametrize("seed", range(3))
def test_three_keys_of_one_account_are_suspected(seed: int) -> None:
    shared = Account()
    views = run([shared, shared, shared], 600, seed=seed)
    assert all(len(view.pool.suspected_same) == 2 for view in views)


@pytest.mark.parametrize("seed", range(3))
def test_keys_of_their_own_accounts_are_not(seed: int) -> None:
    views = run([Account(), Account(), Account()], 600, seed=seed)
    assert [view.pool.suspected_same for view in views] == [set(), set(), set()]
