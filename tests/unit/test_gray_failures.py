"""Half of the keys fail: breaker, ejection and retry budget together, without a router around them.

`Fleet` takes turns over the keys as a fair router does, one request after the other, and retries as the pipeline does.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from apikeyrouter.domain.keys.effects import Among
from apikeyrouter.domain.keys.eligibility import EJECTED, blocked
from apikeyrouter.domain.keys.learning import begin, fail, succeed
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.resilience.breaker import Breaker, Phase, Verdict
from apikeyrouter.domain.resilience.failures import FailureClass
from apikeyrouter.domain.resilience.retry import RetryBudget
from tests.support.keys import failure, record

Fails = Callable[[float, int, random.Random], bool]
FAULT = failure(FailureClass.Server)


class Fleet:
    """Eight keys in turn; `fails` says what a send to one of them meets."""

    def __init__(self, fails: Fails, seed: int) -> None:
        self.keys = [record(f"key_{i}") for i in range(8)]
        self.breaker = Breaker()
        self.budget = RetryBudget()
        self.fails = fails
        self.rng = random.Random(seed)
        self.turns = [0.0] * 8
        self.sends = self.served = self.requests = 0

    def candidates(self, now_s: float, tried: set[int]) -> list[int]:
        open_to = [i for i in range(8) if i not in tried and self.admits(now_s, i)]
        kept = [i for i in open_to if blocked(self.keys[i], "m", now_s) is None]
        if kept:
            least = min(self.turns[i] for i in kept)
            self.turns = [max(turn, least) for turn in self.turns]
            return kept
        return [i for i in open_to if self.ejected(self.keys[i], now_s)]

    def admits(self, now_s: float, i: int) -> bool:
        return self.breaker.verdict(now_s, self.keys[i].key_id) is not Verdict.Reject

    def ejected(self, key: KeyRecord, now_s: float) -> bool:
        block = blocked(key, "m", now_s)
        return block is not None and block.code == EJECTED and not key.probing

    def request(self, now_s: float) -> bool:
        self.requests += 1
        self.budget.deposit(now_s)
        tried: set[int] = set()
        while len(tried) < 3 and (left := self.candidates(now_s, tried)):
            if tried and not self.budget.try_withdraw(now_s):
                return False
            chosen = min(left, key=lambda i: (self.turns[i], i))
            self.turns[chosen] += 1.0
            tried.add(chosen)
            self.sends += 1
            if self.send(now_s, chosen):
                self.served += 1
                return True
        return False

    def send(self, now_s: float, i: int) -> bool:
        key = self.keys[i]
        ticket, _ = begin(key, "m", now_s)
        place = self.breaker.begin(now_s, key.key_id)
        if not self.fails(now_s, i, self.rng):
            self.breaker.succeed(now_s, place, key.key_id)
            succeed(ticket, now_s)
            return True
        self.breaker.fail(now_s, place, self.rng, key.key_id)
        fail(ticket, FAULT, now_s, self.rng, Among(self.keys, self.breaker.blame))
        return False

    def run(self, per_s: float, for_s: float, from_s: float = 1_000.0) -> None:
        for n in range(int(per_s * for_s)):
            self.request(from_s + n / per_s)


def gray(now_s: float, i: int, rng: random.Random) -> bool:
    return now_s >= 1_030.0 and i % 2 == 1 and rng.random() < 0.3


def dead(now_s: float, i: int, _rng: random.Random) -> bool:
    return now_s >= 1_030.0 and i % 2 == 1


def dead_in_a_row(now_s: float, i: int, _rng: random.Random) -> bool:
    return now_s >= 1_030.0 and i < 4


def flapping(now_s: float, i: int, _rng: random.Random) -> bool:
    return i % 2 == 1 and int(now_s / 20.0) % 2 == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fails", [gray, dead, dead_in_a_row, flapping])
def test_half_of_the_keys_failing_costs_clients_next_to_nothing(fails: Fails, seed: int) -> None:
    fleet = Fleet(fails, seed)
    fleet.run(per_s=24.0, for_s=300.0)
    assert fleet.served / fleet.requests >= 0.995
    assert fleet.sends / fleet.requests <= 1.15
    assert fleet.breaker.trips == 0


@pytest.mark.parametrize("seed", range(5))
def test_gray_keys_are_set_aside_but_never_more_than_half_and_good_ones_never_for_long(seed: int) -> None:
    fleet = Fleet(gray, seed)
    fleet.run(per_s=24.0, for_s=200.0)
    out = [i for i, key in enumerate(fleet.keys) if fleet.ejected(key, 1_200.0)]
    assert len(out) <= 4
    assert all(i % 2 == 1 for i in out)
    assert len(out) >= 2


def test_one_good_key_of_eight_serves_within_seconds() -> None:
    fleet = Fleet(lambda now_s, i, _: now_s >= 1_030.0 and i != 3, 1)
    fleet.run(per_s=24.0, for_s=60.0)
    before = fleet.served, fleet.requests
    fleet.run(per_s=24.0, for_s=60.0, from_s=1_060.0)
    assert (fleet.served - before[0]) / (fleet.requests - before[1]) >= 0.98


def test_an_outage_of_all_ejects_hardly_anybody_so_that_all_are_there_when_it_ends() -> None:
    fleet = Fleet(lambda now_s, _i, _rng: 1_030.0 <= now_s < 1_630.0, 1)
    fleet.run(per_s=24.0, for_s=630.0)
    assert fleet.breaker.phase in (Phase.Open, Phase.HalfOpen)
    assert sum(fleet.ejected(key, 1_630.0) for key in fleet.keys) <= 1
    sent = fleet.sends
    assert sent - 30 * 24 <= 0.05 * 600 * 24
    served, requests = fleet.served, fleet.requests
    fleet.run(per_s=24.0, for_s=10.0, from_s=1_630.0)
    fleet.run(per_s=24.0, for_s=60.0, from_s=1_640.0)
    assert (fleet.served - served) / (fleet.requests - requests) >= 0.9


def test_the_last_key_in_service_is_never_ejected() -> None:
    fleet = Fleet(lambda _now_s, _i, _rng: True, 1)
    fleet.keys = fleet.keys[:1]
    for n in range(50):
        ticket, _ = begin(fleet.keys[0], "m", 1_000.0 + n)
        fail(ticket, FAULT, 1_000.0 + n, fleet.rng, Among(fleet.keys))
    assert blocked(fleet.keys[0], "m", 1_050.0) is None
