"""Policies: what may be written, who is kept out, which objective holds, and that every process hears of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.components.deployment_keeper import DeploymentKeeper
from apikeyrouter.domain.components.policy_engine import PolicyEngine, PolicyScope
from apikeyrouter.domain.errors import ConfigurationError, SystemError
from apikeyrouter.domain.models.call import Call, Operation, peek
from apikeyrouter.domain.models.routing_decision import RoutingObjective
from apikeyrouter.domain.routing.candidates import Candidate
from apikeyrouter.domain.routing.demand import Demand, demand_of
from apikeyrouter.domain.routing.objectives import Objective, Values, compile_objective
from apikeyrouter.domain.routing.policy import read_policies, read_policy
from apikeyrouter.feed import ChangeFeed
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore

BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}],"max_tokens":100}'


def compiled(objective: RoutingObjective | str | None) -> Objective:
    return compile_objective(objective, "fairness", Values())


def engine_on(store: MemoryStateStore | None = None, *configured: dict[str, Any]) -> PolicyEngine:
    return PolicyEngine(store or MemoryStateStore(), SystemClock(), compiled, [read_policy(one) for one in configured])


def call_for(model: str = "gpt-4o-mini", **tags: Any) -> Call:
    return Call("r", Operation.Chat, model, BODY, peek(BODY), started_s=0.0, deadline_s=60.0, tags=tags)


def demand() -> Demand:
    costs = ApiKeyRouter(environ={}).cost_controller
    return demand_of(call_for(), costs.lengths, costs.ratios)


async def candidates(*keys: dict[str, Any]) -> list[Candidate]:
    """One of each key: `provider`, `model` besides metadata."""
    async with ApiKeyRouter(environ={}) as router:
        found = []
        for number, key in enumerate(keys):
            provider, model = key.pop("provider", "openai"), key.pop("model", "gpt-4o-mini")
            if provider not in router.providers:
                await router.register_provider(provider, OpenAIAdapter("http://127.0.0.1:9/v1"))
            made = await router.register_key(f"key-material-{number}", provider, key, f"k{number}")
            group = router.directory.group_for(provider, model)
            found += [one for one in group.candidates if one.record.key_id == made.id]
        return found


def told(objective: Objective, candidate: Candidate) -> str | None:
    """The reason why policies keep the candidate out."""
    assert objective.ruling is not None
    block = objective.ruling.block(candidate, demand(), 0.0)
    return None if block is None else f"{block.code}: {block.reason}"


# -- reading --------------------------------------------------------------------------------------------------------


def test_a_policy_is_read_as_it_is_written() -> None:
    policy = read_policy(
        {
            "id": "eu",
            "scope": "team",
            "scope_id": "research",
            "priority": 7,
            "allowed_regions": "eu-*, ch",
            "blocked_tags": ["trial"],
            "max_cost": "0.05",
            "min_reliability": 0.9,
            "objective": {"primary": "cost", "weights": {"cost": 0.7, "reliability": 0.3}},
            "override": True,
            "fallbacks": False,
        }
    )
    assert (policy.scope, policy.scope_id, policy.priority) == (PolicyScope.PerTeam, "research", 7)
    assert policy.allowed == {"regions": {"eu-*", "ch"}}
    assert policy.blocked == {"tags": {"trial"}}
    assert (policy.max_cost_usd, policy.min_reliability, policy.override, policy.fallbacks) == (0.05, 0.9, True, False)


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"id": "a"}, "policy: it says nothing"),
        ({"id": "", "objective": "cost"}, "id: expected 1 to 256 printable characters"),
        ({"id": "a", "scope": "squad", "objective": "cost"}, "scope: expected one of global, per_provider"),
        ({"id": "a", "scope": "team", "objective": "cost"}, "scope_id: expected 1 to 256"),
        ({"id": "a", "scope_id": "x", "objective": "cost"}, "scope_id: a global policy covers everything"),
        ({"id": "a", "objective": "cheap"}, "objective: expected one of cost"),
        ({"id": "a", "objective": {"primary": "cost", "weights": {"cost": -1}}}, "objective.weights"),
        ({"id": "a", "objective": {"primary": "cost", "constraints": {"max_cost": 1}}}, "objective.constraints: write"),
        ({"id": "a", "scope": "provider", "scope_id": "p", "objective": "cost"}, "objective: one choice covers all"),
        ({"id": "a", "scope": "key", "scope_id": "k", "fallbacks": False}, "fallbacks: one choice covers all"),
        ({"id": "a", "override": True, "max_cost": 1}, "override: there is no objective"),
        ({"id": "a", "max_cost": -1}, "max_cost: expected US dollars"),
        ({"id": "a", "max_cost": "nan"}, "max_cost: expected US dollars"),
        ({"id": "a", "min_reliability": 95}, "min_reliability: expected a success rate from 0 to 1"),
        ({"id": "a", "blocked_keys": 3}, "blocked_keys: expected a list of names"),
        ({"id": "a", "priority": 1.5, "objective": "cost"}, "priority: expected a whole number"),
        ({"id": "a", "enabled": "yes", "objective": "cost"}, "enabled: expected true or false"),
        ({"id": "a", "blocked_provider": ["x"]}, "did you mean 'blocked_providers'?"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(document: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=":") as refused:
        read_policy(document)
    assert fault in str(refused.value)


def test_every_fault_of_a_list_is_told_at_once() -> None:
    with pytest.raises(ValueError, match=":") as refused:
        read_policies(
            [{"id": "a"}, {"id": "b", "max_cost": -1}, {"id": "c", "max_cost": 1}, {"id": "c", "max_cost": 1}]
        )
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == ["1", "2", "4"]


# -- ruling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"blocked_providers": ["openai"]}, "provider openai is blocked"),
        ({"allowed_providers": ["groq"]}, "provider openai is not among the allowed ones"),
        ({"allowed_providers": []}, "provider openai is not among the allowed ones"),
        ({"blocked_keys": ["k0"]}, "key k0 is blocked"),
        ({"blocked_models": ["gpt-4*"]}, "model gpt-4o-mini is blocked"),
        ({"blocked_models": ["openai/*"]}, "model openai/gpt-4o-mini is blocked"),
        ({"allowed_models": ["claude*"]}, "model gpt-4o-mini is not among the allowed ones"),
        ({"allowed_regions": ["us-*"]}, "region eu-west is not among the allowed ones"),
        ({"blocked_regions": ["eu-*"]}, "region eu-west is blocked"),
        ({"blocked_tags": ["trial"]}, "tag trial is blocked"),
        ({"allowed_tags": ["gold"]}, "tag slow is not among the allowed ones"),
        ({"allowed_tags": ["slow", "gold"], "allowed_regions": ["eu-*"], "allowed_models": ["openai/gpt*"]}, None),
    ],
)
async def test_lists_keep_out_whom_they_name(rules: dict[str, Any], reason: str | None) -> None:
    (candidate,) = await candidates({"region": "eu-west", "tags": ["slow", "trial"]})
    objective = engine_on(None, {"id": "p", **rules}).apply(compiled(None), call_for())
    assert told(objective, candidate) == (None if reason is None else f"policy: policy p: {reason}")


async def test_a_key_that_says_no_region_is_in_none_of_the_allowed() -> None:
    (candidate,) = await candidates({})
    objective = engine_on(None, {"id": "p", "allowed_regions": ["*"]}).apply(compiled(None), call_for())
    assert told(objective, candidate) == "policy: policy p: region none is not among the allowed ones"


async def test_two_policies_that_name_one_key_in_two_ways_both_let_it_through() -> None:
    first, second = await candidates({}, {})
    rules = [{"id": "a", "allowed_keys": ["k0"]}, {"id": "b", "allowed_keys": [first.record.key_id]}]
    objective = engine_on(None, *rules).apply(compiled(None), call_for())
    assert told(objective, first) is None
    assert told(objective, second) is not None


async def test_a_policy_of_a_provider_or_key_says_nothing_of_others() -> None:
    here, there, also = await candidates({}, {"provider": "groq"}, {"provider": "groq"})
    engine = engine_on(
        None,
        {"id": "p", "scope": "provider", "scope_id": "openai", "blocked_models": ["gpt-4*"]},
        {"id": "k", "scope": "key", "scope_id": "k2", "max_cost": "0.0000001"},
    )
    objective = engine.apply(compiled(None), call_for())
    assert told(objective, here) == "policy: policy p: model gpt-4o-mini is blocked"
    assert told(objective, there) is None
    assert objective.max_cost_usd is None
    assert str(told(objective, also)).startswith("price_unknown: policy k")


async def test_limits_of_a_provider_hold_for_its_keys_alone() -> None:
    (candidate,) = await candidates({})
    rules = {"id": "p", "scope": "provider", "scope_id": "openai"}
    dear = engine_on(None, {**rules, "max_cost": "0.0000001"}).apply(compiled(None), call_for())
    assert str(told(dear, candidate)).startswith("max_cost: policy p: may cost $0.0000")
    picky = engine_on(None, {**rules, "min_reliability": 0.9}).apply(compiled(None), call_for())
    assert told(picky, candidate) is None
    for _ in range(20):
        candidate.stats.record(ok=False, now_s=0.0)
    assert str(told(picky, candidate)).startswith("min_reliability: policy p: success rate 0.")


@pytest.mark.parametrize(
    ("scope", "scope_id", "call", "holds"),
    [
        ("global", None, call_for(), True),
        ("team", "red", call_for(team="red"), True),
        ("team", "red", call_for(team="blue"), False),
        ("team", "red", call_for(), False),
        ("virtual_key", "vk_1", call_for(virtual_key="vk_1"), True),
        ("virtual_key", "vk_1", call_for(virtual_key="vk_2"), False),
        ("route", "gpt-4*", call_for("gpt-4o"), True),
        ("route", "gpt-4*", call_for("o3"), False),
        ("route", "fast-chat", call_for("fast-chat"), True),
    ],
)
def test_a_policy_holds_for_whom_it_is_about(scope: str, scope_id: str | None, call: Call, holds: bool) -> None:
    engine = engine_on(None, {"id": "p", "scope": scope, "scope_id": scope_id, "max_cost": 1})
    given = compiled("cost")
    found = engine.apply(given, call)
    assert (found.ruling is not None and found.ruling.policies == ("p",)) is holds
    assert (found is given) is not holds


def test_without_policies_nothing_changes_and_disabled_ones_say_nothing() -> None:
    given = compiled("cost")
    assert engine_on().apply(given, call_for()) is given
    assert engine_on(None, {"id": "p", "max_cost": 1, "enabled": False}).apply(given, call_for()) is given


def test_the_stricter_limit_holds_whatever_the_priority_is() -> None:
    engine = engine_on(
        None,
        {"id": "a", "max_cost": 5, "min_reliability": 0.5, "priority": 9},
        {"id": "b", "max_cost": 2, "min_reliability": 0.9},
    )
    bounded = RoutingObjective(primary="cost", constraints={"max_cost": 3, "min_reliability": 0.95})  # type: ignore[arg-type] # as users write it
    found = engine.apply(compiled(bounded), call_for())
    assert (found.max_cost_usd, found.min_reliability) == (2, 0.95)
    assert found.ruling is not None
    assert found.ruling.policies == ("a", "b")


@pytest.mark.parametrize(
    ("asked", "policies", "name"),
    [
        (None, [{"id": "a", "objective": "cost"}], "cost"),
        ("latency", [{"id": "a", "objective": "cost"}], "latency"),
        ("latency", [{"id": "a", "objective": "cost", "override": True}], "cost"),
        (None, [{"id": "a", "objective": "cost"}, {"id": "b", "objective": "quality", "priority": 1}], "quality"),
        (None, [{"id": "b", "objective": "cost"}, {"id": "a", "objective": "quality"}], "quality"),
        (
            "latency",
            [
                {"id": "a", "objective": "cost", "override": True},
                {"id": "b", "objective": "quality", "priority": 1},
            ],
            "cost",
        ),
    ],
)
def test_overrides_go_before_the_caller_and_the_caller_before_defaults(
    asked: str | None, policies: list[dict[str, Any]], name: str
) -> None:
    for order in (policies, policies[::-1]):
        assert engine_on(None, *order).apply(compiled(asked), call_for()).name == name


def test_the_callers_constraints_outlive_an_override() -> None:
    asked = RoutingObjective(primary="latency", constraints={"blocked_keys": ["k9"]})  # type: ignore[arg-type] # as users write it
    found = engine_on(None, {"id": "a", "objective": "cost", "override": True}).apply(compiled(asked), call_for())
    assert found.name == "cost"
    assert found.blocked_keys == {"k9"}


def test_one_policy_is_enough_to_forbid_fallbacks() -> None:
    engine = engine_on(None, {"id": "a", "max_cost": 1, "priority": 5}, {"id": "b", "fallbacks": False})
    found = engine.apply(compiled(None), call_for()).ruling
    assert found is not None
    assert not found.fallbacks


async def test_requests_with_the_same_policies_share_what_these_say_of_a_candidate() -> None:
    (candidate,) = await candidates({})
    engine = engine_on(None, {"id": "a", "blocked_tags": ["x"]})
    for number in range(50):
        told(engine.apply(compiled(None), call_for(virtual_key=f"vk_{number}")), candidate)
    assert len(candidate.rulings) == 1
    for number in range(1000):
        told(engine.apply(compiled(None), call_for(), {"blocked_tags": [str(number)]}), candidate)
    assert len(candidate.rulings) <= 256


# -- a policy of the caller's ---------------------------------------------------------------------------------------


async def test_a_policy_of_one_request_narrows_and_never_replaces_the_operators() -> None:
    first, second = await candidates({"tags": ["a"]}, {"tags": ["b"]})
    engine = engine_on(None, {"id": "mine", "blocked_tags": ["a"]})
    for inline in (
        {"blocked_tags": ["b"]},
        {"id": "mine", "blocked_tags": ["b"]},
        read_policy({"id": "mine", "blocked_tags": "b"}),
    ):
        found = engine.apply(compiled(None), call_for(), inline)
        assert told(found, first) is not None
        assert told(found, second) is not None


def test_the_objective_of_a_requests_policy_is_the_callers_own() -> None:
    operator = {"id": "op", "objective": "cost"}
    inline = {"objective": "quality", "priority": 1_000_000, "override": True}
    assert engine_on(None, operator).apply(compiled(None), call_for(), inline).name == "quality"
    hard = engine_on(None, {**operator, "override": True})
    assert hard.apply(compiled(None), call_for(), inline).name == "cost"


def test_a_request_may_name_a_policy_that_is_about_others() -> None:
    engine = engine_on(None, {"id": "red", "scope": "team", "scope_id": "red", "max_cost": 1})
    assert engine.apply(compiled(None), call_for(), "red").max_cost_usd == 1
    with pytest.raises(SystemError, match=r"there is no policy 'blue'; known are: red") as refused:
        engine.apply(compiled(None), call_for(), "blue")
    assert refused.value.status == 400
    with pytest.raises(SystemError, match="there is no such field"):
        engine.apply(compiled(None), call_for(), {"max_costs": 1})


# -- keeping --------------------------------------------------------------------------------------------------------


async def test_policies_are_kept_replaced_and_removed() -> None:
    store = MemoryStateStore()
    engine = engine_on(store)
    await engine.open()
    await engine.add_policy(id="a", scope=PolicyScope.PerTeam, scope_id="red", max_cost="1")
    await engine.add_policy({"id": "b", "objective": "cost", "priority": 3})
    await engine.add_policy(id="a", max_cost="2")
    assert [policy.policy_id for policy in engine.list_policies()] == ["b", "a"]
    again = engine_on(store)
    await again.open()
    assert again.apply(compiled(None), call_for()).max_cost_usd == 2
    assert await engine.remove_policy("a")
    assert not await engine.remove_policy("a")
    assert engine.get_policy("a") is None
    with pytest.raises(ConfigurationError, match="it says nothing"):
        await engine.add_policy(id="c")


async def test_what_the_configuration_says_cannot_be_changed_from_outside() -> None:
    engine = engine_on(None, {"id": "a", "max_cost": 1})
    for change in (engine.add_policy(id="a", max_cost=9), engine.remove_policy("a")):
        with pytest.raises(ConfigurationError, match="comes from the configuration"):
            await change
    assert engine.configured == {"a"}


async def test_other_processes_hear_of_policies_and_deployments() -> None:
    store, clock = MemoryStateStore(), SystemClock()
    mine, theirs = engine_on(store), engine_on(store)
    groups, others = DeploymentKeeper(store, clock), DeploymentKeeper(store, clock)
    told = asyncio.Event()
    feed = ChangeFeed(store, clock)
    theirs.follow(feed.subscribe)
    others.follow(feed.subscribe, told.set)
    await feed.start()
    try:
        await mine.add_policy(id="a", max_cost=1)
        await groups.set({"name": "fast", "targets": ["openai/m"]})
        await asyncio.wait_for(told.wait(), 5)
        assert theirs.get_policy("a") is not None
        assert others.get("fast") is not None
    finally:
        await feed.stop()


async def test_a_deployment_is_checked_before_it_is_kept() -> None:
    keeper = DeploymentKeeper(MemoryStateStore(), SystemClock(), is_model={"gpt-4o"}.__contains__)
    with pytest.raises(ConfigurationError, match="real model"):
        await keeper.set({"name": "gpt-4o", "targets": ["groq/llama"]})
    await keeper.set({"name": "gpt-4o", "fallbacks": ["claude"]})
    assert [one.name for one in keeper.all()] == ["gpt-4o"]
    assert await keeper.remove("gpt-4o")
    assert not await keeper.remove("gpt-4o")
