"""Budget races at a small size: real processes on real stores, while workers and servers are killed and frozen.

The same code as `python -m bench soak`, which runs the large sizes. Each race is judged from the logs of its processes
by a ledger of its own; a verdict without faults means: overspend 0, false rejections 0, totals, presumed charges and
entries what they must be, no error but "the store does not answer", nothing held at rest.
"""

from __future__ import annotations

import pytest

from bench.soak import RESUME_WITHIN_S, Size, run_one

SMALL = Size(processes=3, tasks=8, budgets=3, reservations=300, kills=5, server_kills=2, minutes=1.0)
PACED = Size(processes=3, tasks=8, budgets=2, reservations=1_500, kills=5, server_kills=2, minutes=1.0)


@pytest.mark.parametrize("store", ["sqlite", "postgres", "redis"])
def test_processes_race_for_the_same_budgets_and_spend_them_exactly(store: str) -> None:
    verdict, _ = run_one("race", store, SMALL)
    assert verdict.faults == []
    assert (verdict.overspend, verdict.false_rejections, verdict.timeouts) == (0, 0, 0)
    assert verdict.reservations >= SMALL.budgets * SMALL.reservations * 0.9
    assert verdict.refusals == SMALL.processes * SMALL.tasks * SMALL.budgets
    assert verdict.used_share > 0.99


@pytest.mark.parametrize("store", ["sqlite", "postgres", "redis"])
def test_workers_killed_with_requests_under_way_owe_exactly_what_they_had_sent(store: str) -> None:
    verdict, _ = run_one("kills", store, PACED)
    assert verdict.faults == []
    assert (verdict.overspend, verdict.false_rejections) == (0, 0)
    assert verdict.kills >= 3
    assert 0 < verdict.presumed <= verdict.presumed_most
    assert verdict.recovered_s
    assert max(verdict.recovered_s) < 5.0


def test_workers_killed_without_a_black_box_are_presumed_to_have_spent_their_slices_after_their_lease() -> None:
    verdict, _ = run_one("orphans", "sqlite", PACED)
    assert verdict.faults == []
    assert verdict.overspend == 0
    assert verdict.presumed > 0
    assert verdict.recovered_s
    assert 2.0 < min(verdict.recovered_s) <= max(verdict.recovered_s) < 20.0


def test_a_worker_that_stands_still_for_longer_than_its_lease_overspends_nothing_when_it_wakes() -> None:
    verdict, _ = run_one("pauses", "sqlite", PACED)
    assert verdict.faults == []
    assert verdict.overspend == 0
    assert verdict.kills >= 1
    assert verdict.presumed > 0


@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_a_server_killed_and_frozen_costs_nothing_and_work_goes_on_when_it_is_back(store: str) -> None:
    verdict, _ = run_one("outages", store, PACED)
    assert verdict.faults == []
    assert (verdict.overspend, verdict.false_rejections, verdict.presumed) == (0, 0, 0)
    assert verdict.server_kills >= 1
    assert max(verdict.resumed_s, default=0.0) < RESUME_WITHIN_S
