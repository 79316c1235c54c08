"""Half of the capacity fails, is slow or flaps, with the whole router in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from apikeyrouter.testing import run_virtual
from tests.support.faulty_world import Fate, Run, World, drive, router_in

Behaviour = Callable[[float, int, random.Random], Fate]
GOOD = Fate(200, 0.2)
BEGINS_S = 30.0


def gray(now_s: float, key: int, rng: random.Random) -> Fate:
    return Fate(500, 0.1) if now_s >= BEGINS_S and key % 2 and rng.random() < 0.3 else GOOD


def dead(now_s: float, key: int, _rng: random.Random) -> Fate:
    return Fate(500, 0.05) if now_s >= BEGINS_S and key % 2 else GOOD


def slow(now_s: float, key: int, _rng: random.Random) -> Fate:
    return Fate(200, 2.0) if now_s >= BEGINS_S and key % 2 else GOOD


def flapping(now_s: float, key: int, _rng: random.Random) -> Fate:
    return Fate(500, 0.05) if key % 2 and int(now_s / 20.0) % 2 else GOOD


@pytest.mark.parametrize("providers", [1, 2])
@pytest.mark.parametrize("behave", [gray, dead, slow, flapping])
def test_half_of_the_capacity_failing_is_hardly_noticed(behave: Behaviour, providers: int) -> None:
    world = World(behave)

    async def go() -> Run:
        router = await router_in(world, 8, providers=providers)
        try:
            return await drive(router, per_s=24.0, for_s=200.0)
        finally:
            await router.aclose()

    run = run_virtual(go())
    assert run.success() >= (0.99 if (behave, providers) == (gray, 2) else 0.995)
    assert len(world.sends) / len(run.endings) <= 1.15
