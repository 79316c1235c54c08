"""Hedging with the whole router, in virtual time: slow replies are overtaken, both sends are in the ledger."""

from __future__ import annotations

import random
from decimal import Decimal

from apikeyrouter.domain.models.budget import BudgetScope, EnforcementMode, TimeWindow
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter.testing import run_virtual
from tests.support.faulty_world import Fate, Run, World, drive, router_in

SLOW_S, USUAL_S = 8.0, 0.2


def now_and_then_slow(_now_s: float, _key: int, rng: random.Random) -> Fate:
    return Fate(200, SLOW_S if rng.random() < 0.02 else USUAL_S)


def served(*, hedge: bool, budget: bool = False) -> tuple[Run, World, ApiKeyRouter, Decimal]:
    world = World(now_and_then_slow, seed=3)

    async def go() -> tuple[Run, ApiKeyRouter, Decimal]:
        # a second is worth far more than a reply costs, so that the rule is about time alone
        router = await router_in(world, 4, providers=2, hedge=hedge, value_latency_usd_per_s=1.0)
        spent = Decimal(0)
        try:
            if budget:
                await router.cost_controller.create_budget(
                    scope=BudgetScope.Global,
                    limit=Decimal(1000),
                    period=TimeWindow.Daily,
                    enforcement_mode=EnforcementMode.Hard,
                )
            run = await drive(router, per_s=10.0, for_s=200.0, objective="reliability")
            if budget:
                (row,) = await router.cost_controller.list_budgets()
                spent = row.current_spend
        finally:
            await router.aclose()
        assert router.ledger.open_holds == 0
        return run, router, spent

    run, router, spent = run_virtual(go())
    return run, world, router, spent


def p99_s(run: Run) -> float:
    times = sorted(one.took_s for one in run.endings if one.at_s > 60.0)
    return times[int(0.99 * len(times))]


def test_without_hedging_slow_replies_are_waited_for() -> None:
    run, world, _, _ = served(hedge=False)
    assert p99_s(run) > SLOW_S - 0.1
    assert world.sent() == len(run.endings)


def test_with_hedging_most_slow_replies_are_overtaken_for_two_percent_more_sends() -> None:
    run, world, _, _ = served(hedge=True)
    assert run.success() == 1.0
    assert p99_s(run) < 1.0
    assert len(run.endings) < world.sent() <= 1.03 * len(run.endings)


def test_the_send_that_lost_is_charged_as_well() -> None:
    run, world, router, spent = served(hedge=True, budget=True)
    decisions = [one for one in router.journal.newest(5_000) if len(one.attempts) == 2]
    assert decisions, "nothing was hedged"
    assert len(decisions) == world.sent() - len(run.endings)
    assert {tuple(sorted(attempt.outcome for attempt in one.attempts)) for one in decisions} == {("cancelled", "ok")}
    charged = sum((one.cost_usd or Decimal(0)) + one.presumed_usd for one in router.journal.newest(5_000))
    assert spent == charged
    for one in decisions:
        winner = next(attempt for attempt in one.attempts if attempt.outcome == "ok")
        assert one.selected_key_id == winner.key_id, "the decision names whoever answered"
    assert all(one.presumed_usd > 0 for one in decisions), "a send that was cut off may be billed"
