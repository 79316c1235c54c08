"""A tenant that asks for far more than there is, beside one that asks for less than its share: the whole router in a
simulated world whose keys differ in size and whose requests differ a hundredfold."""

from __future__ import annotations

from apikeyrouter.simulation.world.arena import run_one
from apikeyrouter.simulation.world.run import percentile
from apikeyrouter.simulation.world.scenarios import aggressor

_BURST_S = 15.0
"""So long there is more than both ask for: what the limits had saved."""


def test_a_greedy_neighbour_is_hardly_felt_by_one_that_asks_for_less_than_its_share() -> None:
    scenario = aggressor(1, rate_per_s=8.0)
    traffic = scenario.traffic.head(5_500)
    run = run_one("ours", scenario.world, traffic, seed=1)
    modest = [n for n in range(len(traffic)) if traffic.tenants[n] == 0 and traffic.at_s[n] > _BURST_S]
    waits = sorted(run.wait_s[n] for n in modest)
    assert all(run.served[n] for n in modest)
    # a large request needs a second of the largest key's flow, whoever else asks
    assert percentile(waits, 0.5) <= 0.15
    assert percentile(waits, 0.9) <= 0.75
    assert percentile(waits, 0.99) <= 2.2
