"""A provider whose replies tell nothing and whose refusals say what its limits are: once it has said so of each limit,
over how many seconds it counts holds for all of them, and hardly anything is refused any more."""

from __future__ import annotations

from random import Random

import pytest

from apikeyrouter.simulation.world.arena import run_one
from apikeyrouter.simulation.world.spec import World
from apikeyrouter.simulation.world.traffic import fit_pools, poisson


@pytest.mark.parametrize("refused_count", [False, True])
@pytest.mark.parametrize("foreign_ratio", [0.0, 0.25])
def test_without_headers_few_are_refused_and_all_are_served(foreign_ratio: float, refused_count: bool) -> None:
    traffic = poisson(6.0, 1_200, Random(1))
    pools = fit_pools(traffic, [1, 1, 2, 4], 0.8, foreign_ratio=foreign_ratio)
    world = World(pools, headers=False, horizon_s=6.0, foreign_ratio=foreign_ratio, refused_count=refused_count)
    run = run_one("ours", world, traffic, seed=1)
    assert sum(run.served) >= 0.98 * len(traffic)
    assert run.statuses[429] <= 0.06 * len(traffic)
