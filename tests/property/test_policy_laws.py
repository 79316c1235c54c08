"""Laws of policies: none ever widens another, their order does not matter, and who decides is always the same one."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.models.routing_decision import ObjectiveType
from apikeyrouter.domain.routing.candidates import Candidate
from apikeyrouter.domain.routing.objectives import Objective, Values, compile_objective
from apikeyrouter.domain.routing.policy import LISTS, Policy, PolicyRuling, laid_over, read_policy, rule

KINDS: dict[str, list[str]] = {
    "providers": ["openai", "groq", "*"],
    "keys": ["k0", "k1", "k2", "k3", "k*"],
    "models": ["gpt-4o", "openai/*", "llama", "gpt-*"],
    "regions": ["eu-west", "eu-*", "us"],
    "tags": ["gold", "trial"],
}
CANDIDATES: list[Candidate] = []


@pytest.fixture(autouse=True, scope="module")
def some_candidates() -> None:
    asyncio.run(_register())


async def _register() -> None:
    async with ApiKeyRouter(environ={}) as router:
        for number in range(8):
            provider, model = [("openai", "gpt-4o"), ("groq", "llama")][number % 2]
            if provider not in router.providers:
                await router.register_provider(provider, OpenAIAdapter("http://127.0.0.1:9/v1"))
            metadata = {
                "region": [None, "eu-west", "us"][number % 3],
                "tags": [[], ["gold"], ["trial", "gold"]][number % 3],
            }
            made = await router.register_key(f"key-material-{number}", provider, metadata, f"k{number}")
            group = router.directory.group_for(provider, model)
            CANDIDATES.extend(one for one in group.candidates if one.record.key_id == made.id)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    scope, scope_id = draw(st.sampled_from([("global", None), ("provider", "openai"), ("key", "k1")]))
    document: dict[str, Any] = {"id": draw(st.uuids().map(str)), "scope": scope, "scope_id": scope_id}
    document["priority"] = draw(st.integers(-2, 2))
    for name in draw(st.lists(st.sampled_from(LISTS), min_size=1, max_size=3, unique=True)):
        names = KINDS[name.partition("_")[2]]
        document[name] = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    if scope == "global":
        document["max_cost"] = draw(st.none() | st.floats(0, 10))
        document["min_reliability"] = draw(st.none() | st.floats(0, 1))
        if draw(st.booleans()):
            document["objective"] = draw(st.sampled_from(list(ObjectiveType))).value
            document["override"] = draw(st.booleans())
        document["fallbacks"] = draw(st.booleans())
    return read_policy(document)


def passing(*given: Policy) -> set[str]:
    """Labels of those that pass; bounds that need a request are not among the rules drawn here."""
    ruling = PolicyRuling(given)
    return {c.record.label for c in CANDIDATES if ruling.block(c, None, 0.0) is None}  # type: ignore[arg-type] # unused


def compiled(*given: Policy) -> dict[str, Objective]:
    return {p.policy_id: compile_objective(p.objective, "fairness", Values()) for p in given if p.objective}


@given(st.lists(policies(), min_size=1, max_size=4), policies())
@settings(max_examples=150, deadline=None)
def test_another_policy_never_lets_anybody_through(some: list[Policy], one: Policy) -> None:
    assert passing(*some, one) <= passing(*some)


@given(st.lists(policies(), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_together_they_let_through_whom_each_lets_through(some: list[Policy]) -> None:
    assert passing(*some) == set.intersection(*(passing(one) for one in some))


@given(st.lists(policies(), min_size=1, max_size=5), st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=150, deadline=None)
def test_their_order_does_not_matter(some: list[Policy], rng: random.Random, asked: bool) -> None:
    given_ = compile_objective("latency" if asked else None, "fairness", Values())
    mixed = rng.sample(some, len(some))
    one, other = (laid_over(given_, rule(listed, compiled(*some))) for listed in (some, mixed))
    assert one.ruling is not None
    assert other.ruling is not None
    assert (one.name, one.max_cost_usd, one.min_reliability) == (other.name, other.max_cost_usd, other.min_reliability)
    assert (one.ruling.policies, one.ruling.fallbacks) == (other.ruling.policies, other.ruling.fallbacks)


@given(st.lists(policies(), min_size=1, max_size=4), policies())
@settings(max_examples=150, deadline=None)
def test_limits_only_ever_grow_stricter(some: list[Policy], one: Policy) -> None:
    objective = compile_objective(None, "fairness", Values())
    before, after = (laid_over(objective, rule(listed, compiled(*some, one))) for listed in (some, [*some, one]))
    infinity = float("inf")

    def bound(value: float | None, other: float) -> float:
        return other if value is None else value

    assert bound(after.max_cost_usd, infinity) <= bound(before.max_cost_usd, infinity)
    assert bound(after.min_reliability, 0.0) >= bound(before.min_reliability, 0.0)
    assert before.ruling is not None
    assert after.ruling is not None
    assert before.ruling.fallbacks or not after.ruling.fallbacks
