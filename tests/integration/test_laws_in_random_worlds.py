"""The laws of the ledger, of keys and of decisions, in random worlds: a slice of `make simulate-ci` (R1)."""

from __future__ import annotations

import pytest

from apikeyrouter.simulation.world.chaos import check_seed, replay_line


@pytest.mark.parametrize("seed", range(9_000, 9_024))
def test_no_law_is_broken(seed: int) -> None:
    run = check_seed(seed, 400)
    assert run.open == 0, f"requests were never answered; replay: {replay_line(seed, 400)}"
    assert run.violations == [], f"replay: {replay_line(seed, 400)}"
