"""What a reply says is left holds for the requests before it: settling them afterwards moves nothing, whether they were
served, refused or failed, in whatever order they end."""

from __future__ import annotations

import pytest

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.ledger.bucket import Bucket
from apikeyrouter.domain.ledger.holds import Hold
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.quota.charging import failed_charges, used_charges
from apikeyrouter.domain.quota.facts import MINUTE_S, Dimension, LimitFact, Refill, Source
from apikeyrouter.domain.quota.limits import LIKELY
from apikeyrouter.domain.quota.pools import PoolView, QuotaPool
from apikeyrouter.domain.resilience.durations import LimitFacts
from apikeyrouter.testing.virtual_time import ManualClock
from tests.support.dialects import TO_THE_CAP, QuietDialect

RPM, TPM = (Dimension.Requests, MINUTE_S), (Dimension.Tokens, MINUTE_S)
LIMIT = 60_000  # 1,000 tokens a second
NEEDS = (1, 2_000, 2_000, 4_000, 1, 0, 2_100, 100)
USAGE = Usage(input_tokens=1_500, output_tokens=20)


def tokens(left: int, refill: Refill = Refill.Continuous) -> LimitFact:
    return LimitFact(*TPM, LIMIT, left, refill=refill)


def requests(left: int) -> LimitFact:
    return LimitFact(*RPM, 600, left, refill=Refill.Continuous)


class Sent:
    """A request under way, as an attempt knows it."""

    def __init__(self, world: World) -> None:
        self.world = world
        hold = world.ledger.try_hold(world.view.lines(NEEDS))
        assert isinstance(hold, Hold)
        self.windows, self.hold = world.view.windows, hold
        self.marks = [(account, account.taken) for account, _ in hold.lines]
        hold.dispatch()

    def hears(self, left: int, *, refused: bool = False) -> None:
        now_s = self.world.clock.monotonic_s()
        missed = NEEDS if refused else None
        self.world.view.told([tokens(left)], self.marks, sent_at_s=now_s, now_s=now_s, missed=missed)

    def served(self) -> None:
        self.hold.settle(used_charges(self.windows, self.hold.lines, self.marks, USAGE, 0, TO_THE_CAP))

    def fails(self, *, refused: bool) -> None:
        self.hold.settle(failed_charges(self.windows, self.hold.lines, self.marks, TO_THE_CAP, refused=refused))


class World:
    """A pool whose provider counts what a request really takes: `window` is its tokens, of which `left` was told."""

    def __init__(self, left: int, refill: Refill = Refill.Continuous) -> None:
        self.clock = ManualClock()
        self.ledger = Ledger(self.clock)
        pool = QuotaPool("p/k", "p", self.clock.monotonic_s())
        self.view = pool.views["m"] = PoolView(pool, "m", QuietDialect(TO_THE_CAP))
        now_s = self.clock.monotonic_s()
        self.view.told([tokens(left, refill)], [], sent_at_s=now_s, now_s=now_s)
        self.window = self.view.own[TPM]
        self.window.kind = LIKELY[Dimension.Tokens]

    @property
    def level(self) -> float:
        account = self.window.account
        assert isinstance(account, Bucket)
        return account.exact(self.clock.monotonic_s())


def test_a_served_request_that_told_what_is_left_gives_nothing_back() -> None:
    world = World(10_000)
    one = Sent(world)
    one.hears(8_480)  # the provider took 1,520, not the 2,100 that are held
    told = world.level
    one.served()
    assert world.level == told <= 8_480


def test_a_served_request_that_told_nothing_costs_what_it_used() -> None:
    world = World(10_000)
    one = Sent(world)
    assert world.level == 10_000 - 2_100
    one.served()
    assert world.level == 10_000 - 1_520


@pytest.mark.parametrize("refused", [True, False])
def test_what_a_refusal_told_is_left_is_all_there_is(refused: bool) -> None:
    world = World(10_000)
    one = Sent(world)
    one.hears(1_400, refused=refused)
    one.fails(refused=refused)
    assert world.level == 1_400


def test_a_request_that_ends_after_a_later_one_told_moves_nothing() -> None:
    world = World(10_000)
    early, failing, late = Sent(world), Sent(world), Sent(world)
    late.hears(3_000)
    early.served()
    failing.fails(refused=False)
    late.served()
    assert world.level == 3_000
    early.hears(9_000)  # an older word, heard later
    assert world.level == 3_000


def test_what_is_taken_after_the_word_still_costs_what_it_used() -> None:
    world = World(10_000)
    early, late = Sent(world), Sent(world)
    early.hears(8_480)
    level = world.level
    late.served()
    assert world.level == level + 2_100 - 1_520
    early.served()
    assert world.level == level + 2_100 - 1_520


def test_what_a_refused_request_holds_is_not_what_others_took() -> None:
    losses = []
    for refused in (False, True):
        world = World(10_000)
        before = world.window.lost
        Sent(world).hears(5_000, refused=refused)
        losses.append(world.window.lost - before)
    assert losses == [10_000 - 2_100 - 5_000, 10_000 - 5_000]


def test_in_a_window_that_is_no_bucket_too_nothing_comes_back_of_what_a_refusal_told() -> None:
    world = World(10_000, Refill.Fixed)
    one = Sent(world)
    world.view.told([tokens(1_400, Refill.Fixed)], one.marks, sent_at_s=0.0, now_s=0.0, missed=NEEDS)
    assert world.window.lost == 10_000 - 1_400
    one.fails(refused=True)
    assert world.window.headroom(0.0) == 1_400


def test_a_refusal_of_a_request_that_was_held_before_the_limit_was_known_is_taken_as_it_is() -> None:
    world = World(10_000)
    marks = [(account, mark) for account, mark in Sent(world).marks if account is not world.window.account]
    world.view.told([tokens(1_400)], marks, sent_at_s=0.0, now_s=0.0, missed=NEEDS)
    assert world.window.lost == 10_000 - 2_100  # what runs is all that may have come since: nothing is left


@pytest.mark.parametrize("refill", [Refill.Fixed, Refill.Rolling, Refill.Continuous])
def test_a_refusal_for_another_limit_leaves_all_that_it_says_is_left(refill: Refill) -> None:
    world = World(LIMIT, refill)
    one = Sent(world)
    world.view.told([tokens(LIMIT, refill)], one.marks, sent_at_s=0.0, now_s=0.0, missed=NEEDS)
    one.fails(refused=True)
    assert world.window.headroom(0.0) == LIMIT
    assert world.window.foreign_per_s == 0.0


def test_a_refused_request_that_counts_was_not_taken_by_others() -> None:
    world = World(10_000)
    now_s = world.clock.monotonic_s()
    world.view.told([requests(50)], [], sent_at_s=now_s, now_s=now_s)
    one = Sent(world)
    now_s = world.clock.monotonic_s()
    world.view.told([requests(49), tokens(500)], one.marks, sent_at_s=now_s, now_s=now_s, missed=NEEDS)
    assert world.view.own[RPM].lost == 0.0
    assert world.window.lost == 10_000 - 500
    one.fails(refused=True)
    account = world.view.own[RPM].account
    assert isinstance(account, Bucket)
    assert account.exact(now_s) == 49.0


def test_a_window_that_ended_since_holds_nothing_of_the_refused_request() -> None:
    world = World(10_000, Refill.Fixed)
    one = Sent(world)
    world.clock.advance(3_600.0)
    now_s = world.clock.monotonic_s()
    world.view.told([tokens(LIMIT, Refill.Fixed)], one.marks, sent_at_s=now_s, now_s=now_s, missed=NEEDS)
    assert world.window.lost == 0.0


def test_what_a_provider_gives_back_comes_back_though_a_later_request_told() -> None:
    world = World(10_000)
    world.window.corrected = True
    failing, late = Sent(world), Sent(world)
    late.hears(5_800)
    failing.fails(refused=False)
    assert world.level == 5_800 + 2_100


def test_more_than_was_held_is_charged_though_something_was_told_meanwhile() -> None:
    world = World(10_000)
    one = Sent(world)
    one.hears(9_000)
    level = world.level
    much = Usage(input_tokens=1_500, output_tokens=3_000)
    one.hold.settle(used_charges(one.windows, one.hold.lines, one.marks, much, 0, TO_THE_CAP))
    assert world.level == level - (4_500 - 2_100)


def test_that_no_slot_is_left_is_true_of_that_moment_only() -> None:
    world = World(LIMIT)
    slots = (Dimension.Concurrency, 0.0)
    world.view.told([LimitFact(*slots, 5, None, source=Source.Tier)], [], sent_at_s=0.0, now_s=0.0)
    world.view.told([LimitFact(*slots, 5, 0, source=Source.ErrorBody)], [], sent_at_s=1.0, now_s=1.0, missed=NEEDS)
    assert world.view.own[slots].headroom(2.0) == 5


# -- what a wait tells -------------------------------------------------------------------------------------------------


def refuse(view: PoolView, used: int, retry_s: float, now_s: float) -> None:
    fact = LimitFact(*RPM, 32, 32 - used, source=Source.ErrorBody)
    numbers = LimitFacts(32, used, 1, MINUTE_S)
    view.refused([fact], [], NEEDS, sent_at_s=now_s, now_s=now_s, numbers=numbers, retry_s=retry_s)


@pytest.mark.parametrize(("used", "left"), [(31, 0.6), (32, 0.4), (32, 0.0)])
def test_a_rounded_sentence_is_read_with_the_part_that_its_wait_tells(used: int, left: float) -> None:
    pool = QuotaPool("p/k", "p", 0.0)
    view = pool.views["m"] = PoolView(pool, "m", QuietDialect(TO_THE_CAP))
    rate_per_s = 32 / MINUTE_S
    wait_s = (1 - left) / rate_per_s
    refuse(view, used, wait_s, 0.0)
    assert view.own[RPM].refill is Refill.Continuous  # a wait of what is missing: a bucket
    refuse(view, used, wait_s, 0.0)
    account = view.own[RPM].account
    assert isinstance(account, Bucket)
    assert account.exact(0.0) == pytest.approx(left, abs=1e-9)
    assert account.free(wait_s - 0.01) == 0
    assert account.free(wait_s + 0.01) == 1


def test_a_wait_for_another_limit_takes_no_more_than_a_unit_of_what_was_told() -> None:
    pool = QuotaPool("p/k", "p", 0.0)
    view = pool.views["m"] = PoolView(pool, "m", QuietDialect(TO_THE_CAP))
    refuse(view, 32, 1.875, 0.0)
    refuse(view, 20, 30.0, 0.0)  # twelve are left: not the requests are short
    account = view.own[RPM].account
    assert isinstance(account, Bucket)
    assert account.exact(0.0) == 11.0
