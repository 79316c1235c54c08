"""Laws of model routing, over random requests and groups: a named model is served as named, `max_cost` is never passed,
the choice is one of the group, and thresholds keep to their targets."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apikeyrouter import ApiKeyRouter, BudgetExceededError
from apikeyrouter.muxer.groups import Strategy
from apikeyrouter.muxer.guard import RouteBook
from apikeyrouter.muxer.strategies import Option, Signals, choose
from apikeyrouter.testing import run_virtual
from tests.support.routers import ask
from tests.support.talking_world import Saying, TalkingWorld, talking_router

MODELS = ("gpt-4o-mini", "gpt-4.1", "gpt-4o", "gpt-4.1-mini")
PROMPTS = ("Hi", "Prove that 7 is prime, step by step.", "Write a python function.", "Übersetze: Hallo", "x" * 500)
GROUP = {"name": "default", "models": [f"openai/{model}" for model in MODELS]}
WISHES = [None, *Strategy]

requests = st.lists(
    st.tuples(
        st.sampled_from(("named", "auto")),
        st.sampled_from(PROMPTS),
        st.sampled_from(MODELS),
        st.sampled_from(WISHES),
        st.one_of(st.none(), st.floats(1e-6, 0.05)),
        st.integers(1, 200),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


def say(model: str, number: int, body: dict[str, Any]) -> Saying:
    """As long as it may be: the dearest honest answer."""
    used = sum(len(message["content"].encode()) for message in body["messages"])
    return Saying(f"It is {number}.", after_s=0.01, tokens=(used, body["max_tokens"]))


async def total_usd(router: ApiKeyRouter, seen: int) -> Decimal:
    newest = router.journal.newest(100)
    return sum(((d.cost_usd or Decimal(0)) + d.presumed_usd for d in newest[: len(newest) - seen]), Decimal(0))


@settings(max_examples=25, deadline=None)
@given(requests)
def test_named_models_are_served_as_named_and_max_cost_is_never_passed(asked: list[tuple[Any, ...]]) -> None:
    async def go() -> None:
        world = TalkingWorld(say)
        router = await talking_router(world, keys=2, model_groups=[GROUP])
        for how, prompt, model, strategy, most, tokens, stream in asked:
            world.asked.clear()
            seen = len(router.journal.newest(100))
            wish: dict[str, Any] = {}
            if how == "auto":
                wish = {"routing": {"strategy": strategy, "max_cost": most}}
            intent = ask(prompt, model if how == "named" else "auto", max_tokens=tokens, **wish)
            try:
                if stream:
                    async with router.route_stream(intent) as chunks:
                        async for _ in chunks:
                            pass
                else:
                    await router.route(intent)
            except BudgetExceededError as error:
                assert how == "auto"
                assert most is not None
                assert error.details["cheapest_alternative"] in GROUP["models"]
                assert not world.asked
                continue
            if how == "named":
                assert world.models == [model]
                assert all(d.model_choice is None for d in router.journal.newest(1))
            else:
                assert set(world.models) <= set(MODELS)
                assert all("routing" not in body for _, body in world.asked)
                if most is not None:
                    assert await total_usd(router, seen) <= Decimal(most) + Decimal("1e-9")
        assert router.ledger.at_rest
        await router.aclose()

    run_virtual(go())


options = st.lists(
    st.builds(
        Option,
        name=st.text("abcdef", min_size=1, max_size=4),
        expected_usd=st.one_of(st.none(), st.floats(0, 1)),
        most_usd=st.none(),
        ttft_s=st.floats(0, 9),
        quality=st.floats(0, 1),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda one: one.name,
)


@given(options, st.sampled_from(Strategy), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_choice_is_an_option_and_the_order_holds_each_once(
    found: list[Option], strategy: Strategy, gain: float, complexity: float, tolerance: float
) -> None:
    pick = choose(strategy, found, Signals(gain, complexity), tolerance)
    assert pick.option is pick.order[0]
    assert sorted(one.name for one in pick.order) == sorted(one.name for one in found)
    again = choose(strategy, list(reversed(found)), Signals(gain, complexity), tolerance)
    assert again.option == pick.option
    if strategy is Strategy.Quality:
        assert pick.option.quality == max(one.quality for one in found)
    if strategy in (Strategy.Cost, Strategy.Hybrid) and pick.option.loss(gain) <= tolerance:
        assert all(one.cost >= pick.option.cost for one in found if one.loss(gain) <= tolerance)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.8, 1.0])
def test_a_threshold_keeps_to_its_share_of_strong_calls(share: float) -> None:
    rng, book = random.Random(5), RouteBook("g", strong_share=share)
    strong = 0
    for number in range(4_000):
        gain = rng.betavariate(2, 5)
        is_strong = gain > book.tolerance(0.5)
        book.saw(gain, strong=is_strong)
        strong += is_strong and number >= 1_000
    assert strong / 3_000 == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("target", [0.8, 0.9, 0.97])
def test_a_threshold_keeps_the_mean_feared_loss_within_the_target(target: float) -> None:
    rng, book = random.Random(6), RouteBook("g", target_quality=target)
    lost = cheap = 0.0
    for number in range(4_000):
        gain = rng.betavariate(2, 5)
        weak = gain <= book.tolerance(0.5)
        book.saw(gain, strong=not weak)
        lost += gain * weak * (number >= 1_000)
        cheap += weak * (number >= 1_000)
    assert lost / 3_000 <= 1.0 - target + 0.01
    assert cheap > 0


marks = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), max_size=60)


@given(marks, st.floats(0, 1), st.floats(0, 1))
def test_after_feedback_more_gain_never_counts_for_less(
    given_marks: list[tuple[float, float, float]], one: float, other: float
) -> None:
    book = RouteBook("g")
    for gain, quality, score in given_marks:
        book.take(gain, quality, score)
    low, high = sorted((one, other))
    assert 0.0 <= book.calibrated(low) <= book.calibrated(high) + 1e-12 <= 1.0 + 1e-9
    copy = RouteBook("g")
    copy.load(book.document())
    assert copy.calibrated(one) == pytest.approx(book.calibrated(one))


@given(st.floats(0, 1))
def test_without_feedback_odds_stay_the_predictors(gain: float) -> None:
    assert RouteBook("g").calibrated(gain) == pytest.approx(gain, abs=1e-9)


def test_bad_marks_of_weak_answers_raise_the_odds_and_a_mark_can_be_taken_back() -> None:
    book = RouteBook("g")
    for _ in range(40):
        book.take(0.25, 0.0, 0.0)
    assert book.calibrated(0.25) > 0.5
    assert book.calibrated(0.75) >= book.calibrated(0.25)
    for _ in range(40):
        book.take(0.25, 0.0, 0.0, -1.0)
    assert book.calibrated(0.25) == pytest.approx(0.25)


@pytest.mark.parametrize("target", [0.8, 0.9])
@pytest.mark.parametrize("misjudges", [0.0, 0.25])
def test_the_target_quality_holds_in_a_stream_of_marks_even_where_the_predictor_is_wrong(
    target: float, misjudges: float
) -> None:
    """A weak answer is bad as often as the predictor says, and `misjudges` more; strong ones never are. A third is
    marked, and later marks are judged: after the odds have followed, losses are within the target."""
    rng, book = random.Random(11), RouteBook("default", target_quality=target)
    scores: list[float] = []
    strong_calls = 0
    for number in range(8_000):
        gain = rng.betavariate(2, 6)
        odds = book.calibrated(gain)
        strong = odds > book.tolerance(0.2)
        score = 1.0 if strong or rng.random() > min(1.0, gain + misjudges) else 0.0
        book.saw(odds, strong=strong)
        if rng.random() < 1 / 3:
            book.take(gain, float(strong), score)
        if number >= 4_000:
            scores.append(score)
            strong_calls += strong
    mean = sum(scores) / len(scores)
    assert mean > target - 0.02
    assert strong_calls < 0.8 * len(scores)  # and not by asking the strong model all the time


def test_prompts_that_change_raise_one_alert_and_end_it() -> None:
    book, alerts = RouteBook("g"), []
    rng = random.Random(1)
    for shape in ((2, 8), (2, 8), (8, 2), (8, 2), (2, 8), (2, 8)):
        for _ in range(500):
            book.saw(rng.betavariate(*shape), strong=False)
            alerts += book.alerts()
    assert [(one.kind, one.over) for one in alerts] == [("drift", False), ("drift", True)]


def test_answers_below_the_target_raise_one_alert() -> None:
    book, alerts = RouteBook("g", target_quality=0.9), []
    for score in [1.0] * 50 + [0.0] * 100:
        book.marked(score)
        alerts += book.alerts()
    assert [one.kind for one in alerts] == ["quality"]
    assert "below its target of 0.90" in alerts[0].message
