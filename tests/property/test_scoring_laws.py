"""Scores: monotone in each term, absolute, exact; margins that hold to the last digit; choices that replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from apikeyrouter import RoutingObjective
from apikeyrouter.domain.components.routing_engine import RoutingEngine
from apikeyrouter.domain.models.routing_decision import ObjectiveType, RoutingDecision
from apikeyrouter.domain.routing.explain import DecisionRecord, Row, Scored, render
from apikeyrouter.domain.routing.objectives import Objective, Values, compile_objective
from apikeyrouter.domain.routing.scoring import rank
from apikeyrouter.journal import _to_datetime
from tests.support.choosing import candidate, choosing, demand

DEMAND = demand("How are you? " * 20)
DRIVERS: Mapping[str, st.SearchStrategy[Any]] = {
    "usd_per_million": st.sampled_from([0.1, 0.15, 1.0, 2.5, 15.0]),
    "failures": st.integers(0, 4),
    "ttft_s": st.sampled_from([0.05, 0.3, 1.0, 4.0]),
    "in_flight": st.integers(0, 9),
    "turn": st.integers(0, 9).map(float),
    "pressure": st.sampled_from([0.0, 0.5, 1.0, 1.4, 3.0]),
}
"""Everything that a score grows with, and `room`, which it falls with."""
ROOMS = st.sampled_from([1.0, 0.9, 0.5, 0.2, 0.07, 0.01, 0.0])

facts = st.fixed_dictionaries({**DRIVERS, "room": ROOMS})
weights = st.dictionaries(
    st.sampled_from(list(ObjectiveType)), st.sampled_from([0.1, 0.3, 1.0, 2.0]), min_size=1, max_size=4
)
scored_objectives = weights.filter(lambda w: set(w) != {ObjectiveType.Fairness}).map(
    lambda w: compile_objective(RoutingObjective(primary=next(iter(w)), weights=w), "cost", Values())
)


def ranked(them: Sequence[Mapping[str, Any]], objective: Objective) -> list[Row]:
    kept = [candidate(i, **{k: v for k, v in one.items() if k != "room"}) for i, one in enumerate(them)]
    return rank(kept, [one["room"] for one in them], DEMAND, objective, None, 0.0)


def decided(rows: list[Row], objective: Objective) -> RoutingDecision:
    record = DecisionRecord("d", "r", "m", objective, at_utc_s=0.0, stream=False)
    record.kept = rows
    record.chosen = Scored(rows[0])
    record.candidates = record.considered = len(rows)
    return render(record, _to_datetime)


engine = RoutingEngine(lambda _intent, _objective: NotImplemented)
settled = settings(max_examples=60, deadline=None)


@settled
@given(facts, scored_objectives, st.sampled_from(sorted(DRIVERS)), st.data())
def test_a_score_never_falls_when_one_thing_gets_worse(
    one: dict[str, Any], objective: Objective, name: str, data: st.DataObject
) -> None:
    worse = {**one, name: data.draw(DRIVERS[name].filter(lambda value: value >= one[name]))}
    other = {**one, "turn": 0.0}  # so that turns are counted from the same one
    before = next(row for row in ranked([other, one], objective) if row[3] == 1)
    after = next(row for row in ranked([other, worse], objective) if row[3] == 1)
    assert after[1] >= before[1]
    assert all(now >= then for now, then in zip(after[7], before[7], strict=True))


@settled
@given(facts, scored_objectives, ROOMS)
def test_a_score_never_falls_when_less_room_is_left(one: dict[str, Any], objective: Objective, room: float) -> None:
    assume(room <= one["room"])
    assert ranked([{**one, "room": room}], objective)[0][1] >= ranked([one], objective)[0][1]


@settled
@given(st.lists(facts, min_size=2, max_size=6), facts, scored_objectives)
def test_an_irrelevant_key_never_reverses_the_order_of_others(
    them: list[dict[str, Any]], irrelevant: dict[str, Any], objective: Objective
) -> None:
    alone = {row[3]: place for place, row in enumerate(ranked(them, objective))}
    scores = {row[3]: row[1] for row in ranked(them, objective)}
    with_it = [row[3] for row in ranked([*them, irrelevant], objective) if row[3] < len(them)]
    for first, second in pairwise(with_it):
        # what differs in the twelfth decimal only is a tie
        assert alone[first] < alone[second] or abs(scores[first] - scores[second]) <= 2


@settled
@given(st.lists(facts, min_size=2, max_size=6), scored_objectives)
def test_a_dominated_candidate_never_wins(them: list[dict[str, Any]], objective: Objective) -> None:
    rows = ranked(them, objective)
    winner = them[rows[0][3]]
    for row in rows[1:]:
        other = them[row[3]]
        better = all(other[name] <= winner[name] for name in DRIVERS) and other["room"] >= winner["room"]
        if better and row[7] != rows[0][7]:
            assert row[1] == rows[0][1], (winner, other)


@settled
@given(st.lists(facts, min_size=1, max_size=6), scored_objectives)
def test_terms_add_up_to_the_score_exactly_and_the_record_replays(
    them: list[dict[str, Any]], objective: Objective
) -> None:
    decision = decided(ranked(them, objective), objective)
    assert decision.selected is not None
    for route in (decision.selected, *decision.alternatives_considered):
        assert sum(route.terms_usd.values(), Decimal(0)) == route.score_usd
        assert all(term >= 0 for term in route.terms_usd.values())
    again = RoutingDecision.model_validate_json(decision.model_dump_json())
    assert engine.replay(again) == decision.selected_key_id


def changed(decision: RoutingDecision, key_id: str, by: Decimal) -> RoutingDecision:
    """The record with another score for one key."""
    assert decision.selected is not None

    def of(route: Any) -> Any:
        return route.model_copy(update={"score_usd": route.score_usd + by}) if route.key_id == key_id else route

    return decision.model_copy(
        update={
            "selected": of(decision.selected),
            "alternatives_considered": [of(route) for route in decision.alternatives_considered],
        }
    )


@settled
@given(st.lists(facts, min_size=2, max_size=6), scored_objectives, st.data())
def test_less_than_the_margin_never_flips_and_more_does(
    them: list[dict[str, Any]], objective: Objective, data: st.DataObject
) -> None:
    decision = decided(ranked(them, objective), objective)
    chosen, runner, margin = decision.selected_key_id, decision.runner_up_key_id, decision.flip_margin_usd
    assert margin is not None
    assert chosen is not None
    assert runner is not None
    least = Decimal("1e-12")
    if margin > least:
        share = data.draw(st.sampled_from([Decimal("0.1"), Decimal("0.5"), Decimal("0.999")]))
        for route in decision.alternatives_considered:
            assert engine.replay(changed(decision, route.key_id, -share * margin)) == chosen
        assert engine.replay(changed(decision, chosen, share * margin)) == chosen
    assert engine.replay(changed(decision, runner, -margin - least)) == runner
    assert engine.replay(changed(decision, chosen, margin + least)) == runner


def weighed(decision: RoutingDecision, term: str, factor: Decimal) -> RoutingDecision:
    """The record with another weight for one term."""
    assert decision.selected is not None

    def of(route: Any) -> Any:
        more = route.terms_usd.get(term, Decimal(0)) * (factor - 1)
        return route.model_copy(update={"score_usd": route.score_usd + more})

    return decision.model_copy(
        update={
            "selected": of(decision.selected),
            "alternatives_considered": [of(route) for route in decision.alternatives_considered],
        }
    )


@settled
@given(st.lists(facts, min_size=2, max_size=6), scored_objectives)
def test_no_smaller_change_of_any_weight_flips_and_the_one_named_does(
    them: list[dict[str, Any]], objective: Objective
) -> None:
    decision = decided(ranked(them, objective), objective)
    term, change = decision.flip_weight, decision.flip_weight_change
    assume(term is not None and change is not None and abs(change) > Decimal("1e-6"))
    assert term is not None
    assert change is not None
    names = {name for r in [decision.selected, *decision.alternatives_considered] if r for name in r.terms_usd}
    for name in names:
        for sign in (-1, 1):
            less = 1 + sign * abs(change) * Decimal("0.999")
            if less <= 0:
                continue  # without a weight at all it is another objective, and no weight is negative
            assert engine.replay(weighed(decision, name, less)) == decision.selected_key_id
    beyond = 1 + change * Decimal("1.001")
    if beyond >= 0:
        assert engine.replay(weighed(decision, term, beyond)) != decision.selected_key_id


@settled
@given(st.lists(st.integers(0, 9).map(float), min_size=1, max_size=8))
def test_turns_replay_too(turns: list[float]) -> None:
    objective = compile_objective("fairness", "fairness", Values())
    rows = rank(
        [candidate(i, turn=turn) for i, turn in enumerate(turns)], [1.0] * len(turns), DEMAND, objective, None, 0.0
    )
    decision = decided(rows, objective)
    assert decision.selected_key_id == f"key_{turns.index(min(turns))}"
    assert engine.replay(decision) == decision.selected_key_id


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(["free", "full", "small", "other", "off"]), min_size=1, max_size=8),
    st.sampled_from(["fairness", "cost", "reliability", "balanced", "latency", "quality"]),
    st.integers(1, 400),
)
def test_every_candidate_is_kept_or_rejected_with_a_reason(kinds: list[str], objective: str, max_tokens: int) -> None:
    kinds_of: Mapping[str, Mapping[str, Any]] = {
        "free": {},
        "full": {"rpm": 1},
        "small": {"tpm": 50},
        "other": {"models": ["claude-*"]},
        "off": {},
    }
    with choosing([kinds_of[kind] for kind in kinds]) as world:
        for key_id, kind in zip(world.ids, kinds, strict=True):
            record = world.router.key_manager.get(key_id)
            if kind == "off":
                world.loop.run_until_complete(world.router.key_manager.disable(key_id))
            if kind == "full":
                view = world.router.pools.view(record, "openai", "gpt-4o-mini")
                view.windows[0].account.adjust_used(1, world.clock.monotonic_s())
        taken = world.choose(objective, max_tokens=max_tokens)
        decision = world.decision()
        kept = {one.key_id for one in decision.alternatives_considered}
        kept |= {decision.selected_key_id} if decision.selected_key_id else set()
        out = {one.key_id for one in decision.rejections}
        assert kept | out == set(world.ids)
        assert not kept & out
        assert all(one.code and one.reason for one in decision.rejections)
        assert world.router.routing_engine.replay(decision) == (taken.scored.key_id if taken else None)
