"""A provider that tells no limit: its refusals name one ("on tokens per min (TPM)") and give no number, no header, no
`Retry-After`. What is refused once must not be refused for ever."""

from __future__ import annotations

from random import Random

import pytest

from apikeyrouter.simulation.world.arena import run_one
from apikeyrouter.simulation.world.spec import World
from apikeyrouter.simulation.world.traffic import fit_pools, poisson


@pytest.mark.parametrize(("load", "least"), [(0.95, 0.99), (1.2, 0.9)])
def test_a_limit_that_is_only_named_is_learned_and_not_taken_for_none(load: float, least: float) -> None:
    traffic = poisson(10.0, 3_000, Random(1))
    pools = fit_pools(traffic, [1, 1, 2, 4], load, rpm_slack=1.5)
    run = run_one("ours", World(pools, headers=False, retry_after=False, error_text=False), traffic, seed=1)
    assert sum(run.served) >= least * len(traffic)
    assert not any("413" in reason or "503" in reason for reason in run.reasons)
