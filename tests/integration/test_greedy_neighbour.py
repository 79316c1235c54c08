"""A tenant that asks for far more than there is, beside one that asks for less than its share: the whole router in
simulated worlds whose keys differ in size and whose requests differ a hundredfold. One run is chance; the bar (R15) is
held by several together."""

from __future__ import annotations

from dataclasses import replace

from apikeyrouter.simulation.world.arena import run_one
from apikeyrouter.simulation.world.run import Run, percentile
from apikeyrouter.simulation.world.scenarios import aggressor

_BURST_S = 15.0
"""So long there is more than both ask for: what the limits had saved."""

_RUSH_S = 20.0
"""So long after that it may take until what is kept back is there."""


def test_a_greedy_neighbour_is_hardly_felt_by_one_that_asks_for_less_than_its_share() -> None:
    first_s: list[float] = []
    alone_s: list[float] = []
    later_s: list[float] = []
    for seed in (1, 2, 3):
        scenario = aggressor(seed, rate_per_s=8.0)
        assert scenario.solo is not None
        beside = run_one("ours", scenario.world, scenario.traffic.head(5_500), seed=seed)
        modest = _modest_after(beside, _BURST_S)
        assert all(beside.served[n] for n in modest)
        first_s += [beside.first_s[n] for n in modest]
        later_s += [beside.wait_s[n] for n in _modest_after(beside, _BURST_S + _RUSH_S)]
        alone = run_one("ours", scenario.world, scenario.solo.head(500), seed=seed)
        alone_s += alone.first_s
    assert percentile(sorted(first_s), 0.99) <= 2.0 * percentile(sorted(alone_s), 0.99)
    assert percentile(sorted(later_s), 0.9) == 0.0
    assert percentile(sorted(later_s), 0.95) <= 0.15, "with nothing kept back: 0.6"


def test_where_limits_are_counted_over_seconds_as_well() -> None:
    scenario = aggressor(1, rate_per_s=8.0)
    world = replace(scenario.world, horizon_s=6.0)
    run = run_one("ours", world, scenario.traffic.head(5_500), seed=1)
    modest = _modest_after(run, _BURST_S)
    assert all(run.served[n] for n in modest)
    assert percentile(sorted(run.wait_s[n] for n in modest), 0.95) <= 0.3


def _modest_after(run: Run, at_s: float) -> list[int]:
    traffic = run.traffic
    return [n for n in range(len(traffic)) if traffic.tenants[n] == 0 and traffic.at_s[n] > at_s]
