"""Choosing by quota, prompt caches and turns; refusals that say when; what-if and shadow."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from random import Random

import pytest

from apikeyrouter import RoutingObjective
from apikeyrouter.domain.models.quota_state import CapacityState
from apikeyrouter.domain.routing.affinity import KEPT_S, Affinity, within_bound
from apikeyrouter.domain.routing.candidates import Group
from apikeyrouter.domain.routing.explain import Rejection
from apikeyrouter.domain.routing.objectives import Values, compile_objective, scarcity
from apikeyrouter.domain.routing.policy import read_policy
from apikeyrouter.domain.routing.refusals import refused_error, waitable_at
from apikeyrouter.domain.routing.shadow import Shadow
from apikeyrouter.domain.routing.sift import Sieve
from tests.support.choosing import Chooses, call_of, candidate, choosing, demand

LONG = "Some long text that providers cache. " * 200
SMALL_FRONT = {"considered_max": 2}


def weights_of(world: Chooses, objective: str, requests: int) -> Counter[int]:
    counts: Counter[int] = Counter()
    for _ in range(requests):
        taken = world.choose(objective)
        counts[world.place(taken)] += 1
        assert taken is not None
        world.spend(taken)
    return counts


# -- quota ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["reliability", "latency", "balanced", "quality"])
def test_pools_of_unequal_size_are_used_in_proportion(objective: str) -> None:
    with choosing([{"rpm": size * 100} for size in (1, 1, 2, 4)]) as world:
        counts = weights_of(world, objective, 400)
        assert [round(counts[place] / 50) for place in range(4)] == [1, 1, 2, 4]


@pytest.mark.parametrize("objective", ["fairness", "cost", "reliability", "balanced"])
def test_all_of_every_pool_is_used_before_anybody_is_refused(objective: str) -> None:
    with choosing([{"rpm": size * 10} for size in (1, 1, 2, 4)]) as world:
        counts = weights_of(world, objective, 80)
        assert [counts[place] for place in range(4)] == [10, 10, 20, 40]
        assert world.choose(objective) is None


def test_the_cheapest_serves_until_its_pool_nears_its_end() -> None:
    with choosing([{"cost_per_1k": "0.001", "rpm": 100}, {"cost_per_1k": "0.002", "rpm": 100}]) as world:
        first = [world.choose("cost") for _ in range(85)]
        assert {world.place(taken) for taken in first} == {0}
        assert {world.place(world.choose("cost")) for _ in range(20)} == {0, 1}


def test_a_pool_that_will_not_last_is_left_for_others() -> None:
    with choosing([{}, {}]) as world:
        keys = world.router.key_manager
        view = world.router.pools.view(keys.get(world.ids[0]), "openai", "gpt-4o-mini")
        view.pressure = 1.5
        assert world.place(world.choose("balanced")) == 1


def test_a_request_of_more_than_half_a_pool_goes_elsewhere_unless_there_is_nobody_else() -> None:
    with choosing([{"tpm": 450}, {"tpm": 100_000}]) as world:
        for objective in ("fairness", "cost", "reliability"):
            assert {world.place(world.choose(objective, max_tokens=600)) for _ in range(3)} == {1}
    with choosing([{"tpm": 450}]) as world:
        assert world.place(world.choose(max_tokens=600)) == 0


def test_turns_pass_over_a_pool_that_runs_dry_and_do_not_flood_it_afterwards() -> None:
    for config in ({}, SMALL_FRONT):
        with choosing([{}, {}, {}], **config) as world:
            keys = world.router.key_manager
            view = world.router.pools.view(keys.get(world.ids[0]), "openai", "gpt-4o-mini")
            view.state = CapacityState.Critical
            assert {world.place(world.choose()) for _ in range(20)} == {1, 2}
            view.state = CapacityState.Constrained
            after = Counter(world.place(world.choose()) for _ in range(9))
            assert 2 <= after[0] <= 4


def test_turns_take_a_pool_that_runs_dry_when_nobody_else_is_left() -> None:
    with choosing([{}]) as world:
        view = world.router.pools.view(world.router.key_manager.get(world.ids[0]), "openai", "gpt-4o-mini")
        view.state = CapacityState.Exhausted
        assert world.place(world.choose()) == 0
        assert world.decision().selected is not None


def test_a_price_falls_with_room_and_grows_with_pressure() -> None:
    objective = compile_objective("balanced", "cost", Values())
    rooms = [1.0, 0.8, 0.5, 0.1, 0.05, 0.0]
    by_room = [scarcity(objective, room, 0.0) for room in rooms]
    assert by_room == sorted(by_room)
    assert by_room[0] == 0.0
    by_pressure = [scarcity(objective, 0.5, pressure) for pressure in (0.0, 1.0, 1.2, 2.0, 9.0)]
    assert by_pressure == sorted(by_pressure)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_a_refusal_for_want_of_room_says_when_there_will_be() -> None:
    with choosing([{"rpm": 1}]) as world:
        taken = world.choose()
        assert taken is not None
        world.spend(taken)
        assert world.choose() is None
        now_s = world.clock.monotonic_s()
        assert world.last is not None
        (refused,) = world.last.rejections
        assert refused.code == "headroom"
        at_s = waitable_at(world.last.rejections, now_s)
        assert at_s == refused.until_s
        assert at_s is not None
        assert 60.0 <= at_s - now_s <= 62.0
        world.clock.advance(at_s - now_s - 0.01)
        assert world.choose() is None
        world.clock.advance(0.02)
        assert world.choose() is not None


def test_what_no_time_mends_is_not_waited_for() -> None:
    with choosing([{"tpm": 50}]) as world:
        assert world.choose(max_tokens=100) is None
        assert world.last is not None
        assert [r.code for r in world.last.rejections] == ["over_limit"]
        assert waitable_at(world.last.rejections, 0.0) is None
        error = refused_error("m", world.last.rejections, (), 0.0)
        assert (error.status, error.provider_code, error.retry_after) == (413, "request_too_large", None)


def test_a_reason_that_ends_in_a_full_stop_does_not_get_a_second() -> None:
    reason = Rejection("k", "a", "p", "headroom", "Rate limit reached.", 3.0)
    assert refused_error("m", [reason], (), 0.0).message.endswith("now: a: Rate limit reached. Try again in 3.0 s.")


def test_the_earliest_of_what_waiting_mends_counts() -> None:
    def rejected(code: str, until_s: float | None) -> Rejection:
        return Rejection("k", "k", "p", code, "why", until_s)

    assert waitable_at([rejected("disabled", None), rejected("policy", None), rejected("budget", 5.0)], 10.0) is None
    assert waitable_at([rejected("headroom", 30.0), rejected("rate_limited", 20.0)], 10.0) == 20.0
    assert waitable_at([rejected("headroom", None)], 10.0) == 11.0
    assert waitable_at([rejected("breaker_open", 9.0)], 10.0) == 10.0


def test_a_full_pool_does_not_hide_others_in_a_large_group() -> None:
    with choosing([{"rpm": 1, "cost_per_1k": "0.001"}] * 6 + [{"cost_per_1k": "0.1"}], **SMALL_FRONT) as world:
        counts = weights_of(world, "cost", 30)
        assert counts[6] >= 24
        assert sum(counts.values()) == 30


def test_the_order_by_price_of_a_large_group_begins_with_its_first_use() -> None:
    prices = ["0.006", "0.001", "0.005", "0.002", "0.004", "0.003"]
    with choosing([{"cost_per_1k": price} for price in prices], **SMALL_FRONT) as world:
        keys = world.router.key_manager
        world.loop.run_until_complete(keys.disable(world.ids[1]))
        assert {world.place(world.choose("fairness")) for _ in range(10)} == {0, 2, 3, 4, 5}  # who rests is parked
        assert [world.place(world.choose("cost")) for _ in range(3)] == [3, 3, 3]
        world.loop.run_until_complete(keys.enable(world.ids[1]))
        assert {world.place(world.choose("fairness")) for _ in range(24)} == set(range(6))
        assert [world.place(world.choose("cost")) for _ in range(3)] == [1, 1, 1]
        assert [one.key_id for one in world.decision().alternatives_considered] == [world.ids[3]]  # each of them once


def test_what_one_caller_may_not_use_is_there_for_the_next_one_in_a_large_group() -> None:
    with choosing([{}] * 6, **SMALL_FRONT) as world:
        only_last = RoutingObjective(primary="fairness", constraints={"allowed_keys": ["key-5"]})
        for _ in range(3):
            assert world.place(world.choose(only_last)) == 5
        assert {world.place(world.choose()) for _ in range(6)} >= {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        ({"allowed_regions": ["eu"]}, {0}),
        ({"allowed_tags": ["cheap", "fast"]}, {0, 1}),
        ({"blocked_tags": "fast"}, {0, 2}),
        ({"blocked_keys": ["key-1"], "blocked_tags": ["cheap"]}, {2}),
    ],
)
def test_regions_and_tags_are_hard_constraints(constraints: dict[str, object], expected: set[int]) -> None:
    keys = [{"region": "eu", "tags": ["cheap"]}, {"region": "us", "tags": ["fast", "cheap"]}, {}]
    with choosing(keys) as world:
        wanted = RoutingObjective(primary="fairness", constraints=constraints)
        assert {world.place(world.choose(wanted)) for _ in range(6)} == expected
        assert {one.code for one in world.decision().rejections} == {"policy"}


def test_a_key_that_passed_is_asked_again_under_another_objective_and_under_another_name() -> None:
    with choosing([{"tags": ["cheap"], "cost_per_1k": "0.001"}, {"cost_per_1k": "0.002"}]) as world:
        router = world.router
        cheap = router.objective(RoutingObjective(primary="cost", constraints={"allowed_tags": ["cheap"]}))
        dear = router.objective(RoutingObjective(primary="cost", constraints={"blocked_tags": ["cheap"]}))
        not_spare = router.objective(RoutingObjective(primary="cost", constraints={"blocked_keys": ["spare"]}))
        for _ in range(2):
            assert world.place(world.choose_as(cheap)) == 0
            assert world.place(world.choose_as(dear)) == 1
            assert world.place(world.choose_as(not_spare)) == 0
        world.loop.run_until_complete(router.key_manager.update(world.ids[0], label="spare"))
        assert world.place(world.choose_as(not_spare)) == 1


def test_what_a_policy_allows_a_provider_to_cost_is_asked_of_each_request() -> None:
    with choosing([{"cost_per_1k": "0.01"}]) as world:
        engine, cost = world.router.policy_engine, world.router.objective("cost")
        engine.configure([read_policy({"id": "p", "scope": "provider", "scope_id": "openai", "max_cost": 0.05})])
        ruled = engine.apply(cost, call_of())
        for _ in range(2):
            assert world.place(world.choose_as(ruled, max_tokens=100)) == 0
            assert world.choose_as(ruled, max_tokens=10_000) is None
            assert [one.code for one in world.decision().rejections] == ["max_cost"]
        engine.configure([read_policy({"id": "p", "blocked_providers": "openai"})])
        assert world.choose_as(engine.apply(cost, call_of())) is None


def test_one_look_at_all_prices_refuses_nobody_less_than_a_look_at_each() -> None:
    prices = [{"cost_per_1k": "0.001"}, {"cost_per_1k": "0.01"}, {"cost_per_1k": "0.1"}]
    with choosing(prices) as world:
        for most, served in ((100.0, {0, 1, 2}), (0.05, {0, 1}), (0.005, {0}), (0.0001, set())):
            limited = RoutingObjective(primary="balanced", constraints={"max_cost": most})
            taken = world.choose(limited, max_tokens=1_000)
            assert (taken is not None) is bool(served)
            refused = world.decision().rejections
            assert {one.code for one in refused} <= {"max_cost"}
            assert {world.ids.index(one.key_id) for one in refused} == {0, 1, 2} - served
        # a longer reply costs more, and one that has no end as much as the model can write
        limited = RoutingObjective(primary="balanced", constraints={"max_cost": 100.0})
        assert world.choose(limited, max_tokens=1_100_000) is not None
        assert [world.ids.index(one.key_id) for one in world.decision().rejections] == [2]


def test_a_key_without_a_price_is_refused_however_cheap_the_others_are() -> None:
    with choosing([{}, {}]) as world:
        group = world.router.directory.group_for(None, "gpt-4o-mini")
        assert group.ceiling is not None
        unknown = Group("m", [candidate(0), candidate(1)], considered_max=100, generation=0)
        unknown.candidates[1].price = None
        assert unknown.ceiling is None
        sieve = Sieve(
            unknown, demand(), world.router.objective(RoutingObjective(primary="cost", constraints={"max_cost": 1e9})),
            tried=set(), now_s=0.0,
        )  # fmt: skip
        sieve.sift(unknown.candidates, 100)
        assert [one.index for one in sieve.kept] == [0]
        assert [one.code for one in sieve.rejections] == ["price_unknown"]


# -- prompt caches ----------------------------------------------------------------------------------------------------


def test_a_conversation_stays_where_its_beginning_is_cached() -> None:
    with choosing([{}] * 4) as world:
        system = {"role": "system", "content": LONG}
        first = world.choose("cost", messages=[system, {"role": "user", "content": "one"}])
        assert first is not None
        for turn in range(5):
            first.hold.release()
            again = world.choose("cost", messages=[system, {"role": "user", "content": f"number {turn}"}])
            assert world.place(again) == world.place(first)
            assert again is not None
            first = again
        decision = world.decision()
        assert decision.selected is not None
        assert "affinity" not in decision.selected.terms_usd
        saved = {one.terms_usd.get("affinity") for one in decision.alternatives_considered}
        assert len(saved) == 1
        assert saved.pop() > Decimal(0)


def test_short_prompts_and_other_tenants_share_nothing() -> None:
    affinity = Affinity()
    home = candidate(0)
    assert affinity.find(demand("short", session="session"), 0.0) is None
    mine = affinity.find(demand(LONG, tenant="a"), 0.0)
    assert mine is not None
    affinity.sent(mine, home, 0.0)
    again = affinity.find(demand(LONG, tenant="a"), 1.0)
    theirs = affinity.find(demand(LONG, tenant="b"), 1.0)
    assert again is not None
    assert theirs is not None
    assert again.pool is home.quota.pool
    assert again.tokens >= 1024
    assert theirs.pool is None
    late = affinity.find(demand(LONG, tenant="a"), KEPT_S + 1.0)
    assert late is not None
    assert late.pool is None


def test_a_session_named_by_the_caller_is_followed_whatever_its_text() -> None:
    affinity = Affinity()
    first = affinity.find(demand(LONG, session="chat-7"), 0.0)
    assert first is not None
    affinity.sent(first, candidate(3), 0.0)
    later = affinity.find(demand("Quite another text. " * 400, session="chat-7"), 10.0)
    assert later is not None
    assert (later.index, later.tokens) == (3, first.length)


def test_memory_of_prompts_is_bounded() -> None:
    affinity = Affinity(entries_max=10)
    for number in range(50):
        prefix = affinity.find(demand(LONG, session=f"session-{number}"), 0.0)
        assert prefix is not None
        affinity.sent(prefix, candidate(0), 0.0)
    assert len(affinity) == 10
    newest = affinity.find(demand(LONG, session="session-49"), 0.0)
    assert newest is not None
    assert newest.pool is not None


def test_one_hot_prompt_never_loads_a_key_beyond_its_bound() -> None:
    with choosing([{}] * 4) as world:
        keys = world.router.key_manager
        rng, stayed = Random(7), 0
        for _ in range(200):
            loads = [keys.get(key_id).in_flight for key_id in world.ids]
            taken = world.choose("cost", text=LONG)
            place = world.place(taken)
            if any("affinity" in one.terms_usd for one in world.decision().alternatives_considered):
                assert within_bound(loads[place], sum(loads), 4)
                stayed += 1
            keys.get(world.ids[place]).in_flight += 1
            if rng.random() < 0.7:
                busy = rng.choice([i for i in world.ids if keys.get(i).in_flight])
                keys.get(busy).in_flight -= 1
        assert stayed > 20


# -- what-if and shadow -----------------------------------------------------------------------------------------------


def test_what_if_says_what_changes() -> None:
    with choosing([{"cost_per_1k": "0.010"}, {"cost_per_1k": "0.006"}], default_objective="cost") as world:
        engine = world.router.routing_engine
        intent = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
        run = world.loop.run_until_complete
        changed, told = run(engine.what_if(intent, without=["key-1"]))
        assert changed.selected_key_id == world.ids[0]
        assert (told.selected_key_id, told.same, told.objective) == (world.ids[1], False, "cost")
        assert told.cost_usd is not None
        assert told.cost_usd > 0
        assert "dollars more" in told.explanation
        assert changed.rejections[0].code == "policy"
        _, same = run(engine.what_if(intent, keys=[world.ids[1]]))
        assert same.same
        nobody, none = run(engine.what_if(intent, keys=["no such key"]))
        assert nobody.selected_key_id is None
        assert none.explanation.startswith("Nobody could serve it")
        # nothing was spent by asking
        assert world.place(world.choose()) == 1


def test_a_shadow_is_asked_and_not_obeyed() -> None:
    with choosing([{"cost_per_1k": "0.010"}, {"cost_per_1k": "0.006"}]) as world:
        shadow = world.router.chooser.shadow = Shadow(world.router.objective("cost"))
        taken = [world.place(world.choose()) for _ in range(10)]
        assert Counter(taken) == {0: 5, 1: 5}
        summary = shadow.summary()
        assert (summary.decisions, summary.differed) == (10, 5)
        assert summary.cost_usd < 0
        assert world.place(world.choose()) == 0
        told = world.decision().shadow
        assert told is not None
        assert (told.objective, told.label, told.same) == ("cost", "key-1", False)
        assert told.cost_usd < 0
        assert "would have served" in world.router.routing_engine.explain_decision(world.decision())
        before = shadow.summary().decisions
        dry = world.choose(outcome="dry_run")
        assert dry is not None
        assert shadow.summary().decisions == before
