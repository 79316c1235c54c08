"""Outages with the whole router, in virtual time: few calls while it lasts, quick refusals, back soon after."""

from __future__ import annotations

import random

import pytest

from apikeyrouter.testing import run_virtual
from tests.support.faulty_world import Fate, Run, World, drive, router_in

BEGINS_S = 20.0


def outage(
    *, lasts_s: float, per_s: float, status: int, after_s: float, providers: int = 1, reply_s: float = 0.2
) -> tuple[Run, World]:
    def behave(now_s: float, _key: int, _rng: random.Random) -> Fate:
        down = BEGINS_S <= now_s < BEGINS_S + lasts_s
        return Fate(status, after_s) if down else Fate(200, reply_s)

    world = World(behave)

    async def go() -> Run:
        router = await router_in(world, 4, providers=providers)
        try:
            run = await drive(router, per_s=per_s, for_s=BEGINS_S + lasts_s + 30.0)
        finally:
            await router.aclose()
        assert router.ledger.open_holds == 0
        return run

    return run_virtual(go()), world


def took_s(run: Run, share: float, from_s: float, to_s: float) -> float:
    times = sorted(e.took_s for e in run.endings if from_s <= e.at_s < to_s)
    return times[int(share * len(times))]


@pytest.mark.parametrize(
    ("lasts_s", "per_s", "status", "after_s", "providers"),
    [(600.0, 20.0, 500, 0.03, 1), (120.0, 50.0, 503, 0.03, 2), (120.0, 50.0, 0, 0.03, 1), (20.0, 50.0, 500, 0.03, 1)],
)
def test_an_outage_of_everything_costs_few_calls_and_is_soon_over_after_its_end(
    lasts_s: float, per_s: float, status: int, after_s: float, providers: int
) -> None:
    run, world = outage(lasts_s=lasts_s, per_s=per_s, status=status, after_s=after_s, providers=providers)
    ends_s = BEGINS_S + lasts_s
    assert run.success(0.0, BEGINS_S) == 1.0
    assert world.sent(BEGINS_S, ends_s) / (lasts_s * per_s) <= 0.05
    assert took_s(run, 0.99, BEGINS_S + 5.0, ends_s) <= 0.05
    assert run.success(BEGINS_S + 1.0, ends_s) == 0.0
    assert run.success(ends_s + 10.0) >= 0.99


def test_slow_failures_and_slow_replies_are_over_within_ten_seconds_and_two_replies() -> None:
    run, world = outage(lasts_s=120.0, per_s=20.0, status=503, after_s=2.0, reply_s=2.0)
    assert world.sent(BEGINS_S, BEGINS_S + 120.0) / 2_400 <= 0.06
    assert run.success(BEGINS_S + 120.0 + 14.0) >= 0.99


def test_a_provider_that_hangs_does_not_hold_up_its_own_return() -> None:
    def behave(now_s: float, _key: int, _rng: random.Random) -> Fate:
        if not BEGINS_S <= now_s < 140.0:
            return Fate(200, 0.2)
        return Fate(500, 0.05) if now_s < 30.0 else Fate(500, 90.0)

    world = World(behave)

    async def go() -> Run:
        router = await router_in(world, 4)
        try:
            return await drive(router, per_s=20.0, for_s=180.0)
        finally:
            await router.aclose()

    run = run_virtual(go())
    assert world.sent(30.0, 140.0) <= 60, "one probe in three seconds"
    assert run.success(150.0) >= 0.99
