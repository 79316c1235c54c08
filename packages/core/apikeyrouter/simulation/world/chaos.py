"""Random worlds: everything that can vary does, by one seed. What the laws are checked in.

Main entry: `random_world`; `check_seed` runs the production router in it and returns what it broke. Law: a seed alone
replays its world, its traffic and its run.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from apikeyrouter.simulation.world.ours import Ours, run_ours
from apikeyrouter.simulation.world.run import Run
from apikeyrouter.simulation.world.spec import Charge, Enforcement, Fault, FaultKind, PoolSpec, World
from apikeyrouter.simulation.world.traffic import Sizes, Traffic, bursts, fit_pools, poisson, steady

__all__ = ["REQUESTS", "check_seed", "random_world", "replay_line"]

REQUESTS = 1000
_OBJECTIVES = (None, None, "cost", "reliability", "latency", "balanced")


def random_world(seed: int, requests: int = REQUESTS) -> tuple[World, Traffic, Ours]:
    """The world, traffic and set-up of a seed."""
    rng = Random(seed * 2_750_159 + 17)
    rate = rng.choice((2.0, 10.0, 40.0, 100.0))
    make = rng.choice((poisson, poisson, steady, bursts))
    sizes = Sizes(rng.choice((50.0, 800.0, 3000.0)), rng.uniform(0.2, 1.2), rng.choice((10.0, 130.0, 600.0)))
    traffic = make(rate, requests, rng, sizes, tenants=rng.choice((1, 1, 3)))
    load = rng.uniform(0.3, 1.3)
    world = World(
        pools=_pools(rng, traffic, load),
        enforcement=rng.choice((Enforcement.Bucket, Enforcement.Bucket, Enforcement.Rolling, Enforcement.Minute)),
        horizon_s=rng.choice((1.0, 6.0, 10.0, 60.0)),
        refused_count=rng.random() < 0.5,
        headers=rng.random() < 0.6,
        horizon_told=rng.random() < 0.5,
        retry_after=rng.random() < 0.7,
        error_text=rng.random() < 0.5,
        charge=rng.choice((Charge.Use, Charge.Use, Charge.Cap, Charge.Metered)),
        foreign_ratio=rng.choice((0.0, 0.0, 0.25, 0.5)),
        foreign_bursts=rng.random() < 0.5,
        limits_known=rng.random() < 0.5,
        skew_s=rng.choice((0.0, 0.0, -30.0, 3600.0)),
        breaks_ratio=rng.choice((0.0, 0.0, 0.01)),
        bad_ratio=rng.choice((0.0, 0.01)),
    )
    return (
        replace(world, faults=_faults(rng, world, traffic.duration_s)),
        traffic,
        Ours(rng.choice(_OBJECTIVES), check=True),
    )


def _pools(rng: Random, traffic: Traffic, load: float) -> tuple[PoolSpec, ...]:
    weights = [rng.choice((1.0, 1.0, 2.0, 4.0)) for _ in range(rng.choice((1, 2, 4, 8)))]
    providers = rng.choice(("a", "ab"))
    pools = fit_pools(traffic, weights, load, rpm_slack=rng.choice((1.0, 2.0)))
    made = []
    for pool in pools:
        keys = rng.choice((1, 1, 2, 3))
        dead = rng.choice((0, 0, 0, 1))
        made.append(
            replace(
                pool,
                rpm=max(1.0, pool.rpm or 1.0) if rng.random() < 0.9 else None,
                tpm=max(100.0, pool.tpm or 1.0) if rng.random() < 0.9 else None,
                concurrency=rng.choice((None, None, None, 4, 32)),
                keys=keys,
                dead_keys=dead,
                provider=rng.choice(providers),
                usd_per_mtok=rng.choice((0.5, 1.0, 2.5)),
            )
        )
    return tuple(made)


def _faults(rng: Random, world: World, duration_s: float) -> tuple[Fault, ...]:
    values = {
        FaultKind.Gray: (0.1, 0.3, 1.0), FaultKind.Slow: (3.0, 10.0), FaultKind.Flap: (5.0, 20.0),
        FaultKind.Tier: (0.3, 0.5, 2.0),
    }  # fmt: skip
    found = []
    for _ in range(rng.choice((0, 0, 1, 2, 3))):
        kind = rng.choice(list(FaultKind))
        begin_s = rng.uniform(0.0, duration_s)
        names = tuple(pool.name for pool in world.pools if rng.random() < 0.5)
        end_s = begin_s + rng.uniform(1.0, duration_s + 1.0)
        found.append(Fault(kind, begin_s, end_s, rng.choice(values.get(kind, (1.0,))), names))
    return tuple(found)


def check_seed(seed: int, requests: int = REQUESTS) -> Run:
    """The production router in the world of a seed; `violations` of the run says what it broke."""
    world, traffic, ours = random_world(seed, requests)
    return run_ours(world, traffic, seed=seed, ours=ours)


def replay_line(seed: int, requests: int = REQUESTS) -> str:
    """The command that runs a seed again."""
    return f"apikeyrouter simulate --check --seed {seed}" + (f" --requests {requests}" if requests != REQUESTS else "")
