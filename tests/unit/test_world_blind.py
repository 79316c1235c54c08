"""The oracle that knows everything but when others come: what it knows, and that it never peeks."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from apikeyrouter.simulation.world.blind import run_blind
from apikeyrouter.simulation.world.oracle import run_oracle
from apikeyrouter.simulation.world.pool import foreign_load, foreign_rate
from apikeyrouter.simulation.world.spec import Enforcement, PoolSpec, World
from apikeyrouter.simulation.world.traffic import Traffic, fit_pools


def crowded(foreign_ratio: float = 0.25) -> tuple[World, Traffic]:
    rng, at_s, times = Random(7), 0.0, []
    for _ in range(900):
        at_s += rng.expovariate(4.0)
        times.append(at_s)
    sizes = [(rng.randrange(200, 3_000), rng.randrange(10, 400)) for _ in times]
    traffic = Traffic(times, [one for one, _ in sizes], [one for _, one in sizes], [0] * len(sizes))
    pools = fit_pools(traffic, (1.0, 2.0), 1.3, foreign_ratio=foreign_ratio)
    return World(pools, horizon_s=6.0, refused_count=True, foreign_ratio=foreign_ratio), traffic


def test_without_others_there_is_nothing_to_be_blind_to() -> None:
    world, traffic = crowded(foreign_ratio=0.0)
    blind, seeing = run_blind(world, traffic, seed=1), run_oracle(world, traffic, seed=1, order="arrival")
    assert blind.statuses[429] == 0
    assert abs(sum(blind.served) - sum(seeing.served)) <= 0.01 * len(traffic)


def test_it_errs_where_others_come_unseen_and_serves_about_what_the_seeing_one_does() -> None:
    world, traffic = crowded()
    blind, seeing = run_blind(world, traffic, seed=1), run_oracle(world, traffic, seed=1)
    assert seeing.statuses[429] == 0 < blind.statuses[429] < 0.4 * len(traffic)
    assert 0.8 * sum(seeing.served) < sum(blind.served) <= 1.02 * sum(seeing.served)
    assert blind.open == 0
    assert not blind.violations


def test_who_must_be_surer_is_refused_less() -> None:
    world, traffic = crowded()
    bold, sure = (run_blind(world, traffic, seed=2, shares=[share]) for share in (0.5, 0.95))
    assert sure.statuses[429] < bold.statuses[429]


def test_the_same_seed_gives_the_same_run() -> None:
    world, traffic = crowded()
    one, other = (run_blind(world, traffic, seed=3) for _ in range(2))
    assert one.attempts == other.attempts
    assert bytes(one.served) == bytes(other.served)


def test_windows_that_are_no_buckets_are_refused_and_not_guessed() -> None:
    world, traffic = crowded()
    with pytest.raises(ValueError, match="token buckets only"):
        run_blind(replace(world, enforcement=Enforcement.Minute), traffic, seed=1)
    with pytest.raises(ValueError, match="needs a share"):
        run_blind(world, traffic, seed=1, shares=[])


def test_the_rate_it_knows_of_others_is_theirs() -> None:
    spec, sizes = PoolSpec("p", rpm=600.0, tpm=120_000.0), [(1_000, 200), (300, 100)]
    rate = foreign_rate(spec, 0.5, sizes)
    assert rate == pytest.approx(0.5 * 120_000 / 60 / 800)
    load = foreign_load(spec, 0.5, sizes, Random(1))
    last_s = [next(load)[0] for _ in range(5_000)][-1]
    assert 5_000 / last_s == pytest.approx(rate, rel=0.05)
    assert foreign_rate(spec, 0.0, sizes) == 0.0


def test_it_lives_by_what_replies_tell_and_knows_less_when_they_come_late() -> None:
    world, traffic = crowded()
    slow = replace(world, latency=replace(world.latency, ttft_s=60.0))
    soon, late = (run_blind(one, traffic, seed=4, shares=[0.7]) for one in (world, slow))
    assert sum(late.served) < sum(soon.served)
