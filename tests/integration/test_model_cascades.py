"""Cascades with the whole router, in virtual time: every answer is booked once, whatever happens, and nothing is held
when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from apikeyrouter import ApiKeyRouter, BudgetScope, EnforcementMode, SystemError, TimeWindow
from apikeyrouter.testing import run_virtual
from tests.support.routers import ask
from tests.support.talking_world import Saying, TalkingWorld, talking_router

WEAK, STRONG = "gpt-4o-mini", "gpt-4.1"
GROUP: dict[str, Any] = {
    "name": "default",
    "models": [{"model": f"openai/{WEAK}", "role": "weak"}, {"model": f"openai/{STRONG}", "role": "strong"}],
    "strategy": "cascade",
}
WEAK_USD = Decimal("0.0000135")  # 10 x $0.15 + 20 x $0.60 a million
STRONG_USD = Decimal("0.00018")  # 10 x $2 + 20 x $8 a million
Use = Callable[[ApiKeyRouter, TalkingWorld], Awaitable[None]]


def agrees(model: str, number: int, body: dict[str, Any]) -> Saying:
    return Saying("The answer is 72.")


def differs(model: str, number: int, body: dict[str, Any]) -> Saying:
    return Saying(f"The answer is {70 + number}." if model == WEAK else "The answer is 42.")


def play(say: Callable[[str, int, dict[str, Any]], Saying], use: Use, *, limit: str = "", **rules: Any) -> None:
    """Runs `use` on a router with a cascade, under a hard budget of `limit` dollars if that is given."""

    async def go() -> None:
        world = TalkingWorld(say)
        router = await talking_router(world, keys=3, model_groups=[{**GROUP, "cascade": rules}] if rules else [GROUP])
        try:
            if limit:
                await router.cost_controller.create_budget(
                    scope=BudgetScope.Global, limit=Decimal(limit), period=TimeWindow.Daily,
                    enforcement_mode=EnforcementMode.Hard,
                )  # fmt: skip
            await use(router, world)
        finally:
            await router.aclose()
        assert router.ledger.at_rest

    run_virtual(go())


async def spent(router: ApiKeyRouter) -> Decimal:
    (row,) = await router.cost_controller.list_budgets()
    return row.current_spend


def test_an_answer_that_others_agree_with_is_given_and_all_of_them_are_booked() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        response = await router.route(ask("How many clips are left?", model="auto", max_tokens=50))
        assert response.content == "The answer is 72."
        assert world.models == [WEAK] * 3
        assert await spent(router) == 3 * WEAK_USD
        assert response.decision is not None
        choice = response.decision.model_choice
        assert choice is not None
        assert [leg.accepted for leg in choice.legs] == [True, False, False]
        assert sum((leg.cost_usd or Decimal(0) for leg in choice.legs), Decimal(0)) == 3 * WEAK_USD
        assert choice.reference_usd == STRONG_USD
        assert choice.saved_usd == STRONG_USD - 3 * WEAK_USD
        assert "100% of 3 answers agree" in choice.explanation
        assert len(router.journal.newest()) == 3

    play(agrees, use, limit="1")


def test_answers_that_differ_are_escalated_and_the_loss_is_told() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        response = await router.route(ask("How many clips are left?", model="auto", max_tokens=50))
        assert response.content == "The answer is 42."
        assert world.models == [WEAK] * 3 + [STRONG]
        assert await spent(router) == 3 * WEAK_USD + STRONG_USD
        assert response.decision is not None
        choice = response.decision.model_choice
        assert choice is not None
        assert choice.model == f"openai/{STRONG}"
        assert choice.saved_usd == -3 * WEAK_USD
        assert f"openai/{WEAK} was asked before, and 33% of 3 answers agree" in choice.explanation
        assert "more than openai/gpt-4.1 alone" in choice.explanation

    play(differs, use, limit="1")


@pytest.mark.parametrize("say", [agrees, differs])
def test_nothing_is_streamed_before_it_is_accepted(say: Callable[[str, int, dict[str, Any]], Saying]) -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        pieces, sent = [], 0
        stream = router.route_stream(ask("How many?", model="auto", max_tokens=50))
        async for chunk in stream:
            sent = sent or len(world.asked)
            pieces.append(str(chunk))
        assert sent == (3 if say is agrees else 4)
        assert "".join(pieces) == ("The answer is 72." if say is agrees else "The answer is 42.")
        assert stream.response is not None
        assert stream.response.metadata.tokens_used.total_tokens == 30
        assert await spent(router) == 3 * WEAK_USD + (0 if say is agrees else STRONG_USD)

    play(say, use, limit="1")


@pytest.mark.parametrize("bad", [Saying(""), Saying("The answer", finish="length"), Saying("I'm sorry, I cannot.")])
def test_an_answer_that_is_plainly_wrong_is_escalated_without_asking_for_more(bad: Saying) -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        response = await router.route(ask("How many?", model="auto"))
        assert world.models == [WEAK, STRONG]
        assert response.content == "Good."

    play(lambda model, *_: bad if model == WEAK else Saying("Good."), use)


def test_probabilities_decide_and_are_not_shown_to_who_did_not_ask() -> None:
    def say(model: str, number: int, body: dict[str, Any]) -> Saying:
        assert body.get("logprobs") is (True if model == WEAK else None)
        return Saying("Sure." if number == 0 else "Hardly.", logprob=-0.01 if number == 0 else -2.0)

    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        first = await router.route(ask("How many?", model="auto"))
        assert world.models == [WEAK]
        assert first.raw["choices"][0]["logprobs"] is None
        events = [chunk.raw async for chunk in router.route_stream(ask("How many?", model="auto"))]
        assert world.models == [WEAK, WEAK, STRONG]
        assert events

    play(say, use, accept="logprobs", confidence=0.9)


def test_a_verifier_of_the_program_decides_and_its_faults_count_as_no() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        async def picky(prompt: str, answer: str) -> bool:
            if prompt == "Break":
                raise ValueError(prompt)
            return prompt == "Fine"

        router.muxer.verifier = picky
        for prompt, models in (("Fine", [WEAK]), ("Else", [WEAK, STRONG]), ("Break", [WEAK, STRONG])):
            world.asked.clear()
            response = await router.route(ask(prompt, model="auto"))
            assert world.models == models
            assert response.decision is not None
            assert response.decision.model_choice is not None
        assert "the verifier failed (ValueError)" in response.decision.model_choice.explanation

    play(agrees, use, accept="verifier")


CLIPS = "Natalia sold 48 clips in April and 24 in May. How many clips did she sell in all?"
RIGHT = "In all she sold 48 + 24 = 72 clips. The answer is 72."
WRONG = "She sold 48 / 2 = 20 clips, and 48 + 20 = 70. However, it may be 71."


def both(weak: str, strong: str) -> Callable[[str, int, dict[str, Any]], Saying]:
    return lambda model, *_: Saying(weak if model == WEAK else strong)


def test_only_the_decision_whose_answer_was_given_tells_of_savings() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        response = await router.route(ask(CLIPS, model="auto", max_tokens=50))
        assert response.content == RIGHT
        assert response.decision is not None
        first, given = sorted((one for one in router.journal.newest()), key=lambda one: one.model == STRONG)
        assert given.model_choice is not None
        assert first.model_choice is not None
        assert given.model_choice.saved_usd == -WEAK_USD
        assert (first.model_choice.saved_usd, first.model_choice.instead) == (None, given.id)
        assert "the caller got the answer of" in first.model_choice.explanation
        (book,) = router.muxer.books.values()
        assert book.strong_calls == 1
        assert book.expected_saved_usd < 0
        taken = await router.muxer.take_feedback(first.id, 1.0)
        assert taken.model == f"openai/{STRONG}"

    play(both(WRONG, RIGHT), use, accept="verifier")


def test_answers_that_were_only_compared_tell_of_no_savings() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        await router.route(ask("How many clips are left?", model="auto", max_tokens=50))
        choices = [one.model_choice for one in router.journal.newest()]
        assert sorted(choice is not None and choice.saved_usd is not None for choice in choices) == [False, False, True]

    play(agrees, use)


def test_worst_case_money_is_held_before_the_first_answer_is_asked_for() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        task = asyncio.ensure_future(router.route(ask("How many?", model="auto", max_tokens=50)))
        await asyncio.sleep(0.05)
        assert len(world.asked) == 1
        assert router.ledger.open_holds == 4  # the answer under way, two more, and the strong one
        held = sum(
            account.held
            for account in router.cost_controller.book.accounts_for("openai", "", WEAK, {}, now_s=router.now_s())
        )
        assert held >= int(STRONG_USD * 10**9)
        await task
        assert router.ledger.at_rest

    play(agrees, use, limit="1")


def test_without_money_for_the_worst_case_one_model_is_asked_and_the_decision_says_so() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        response = await router.route(ask("Hi", model="auto", max_tokens=50))
        assert world.models == [WEAK]
        assert response.decision is not None
        assert response.decision.model_choice is not None
        assert "no cascade: budgets have no room for a second answer" in response.decision.model_choice.explanation

    play(agrees, use, limit="0.0003")


def test_max_cost_covers_all_answers_together() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        wish = {"routing": {"max_cost": 0.0005}}
        response = await router.route(ask("Hi", model="auto", max_tokens=50, **wish))
        assert len(world.models) == 1
        assert response.decision is not None
        assert response.decision.model_choice is not None
        assert "all answers together may cost" in response.decision.model_choice.explanation
        assert "routing" not in world.asked[0][1]

    play(agrees, use)


@pytest.mark.parametrize("after_s", [0.05, 0.15, 0.25])
@pytest.mark.parametrize("stream", [False, True])
def test_a_cancelled_cascade_books_what_was_sent_once_and_holds_nothing(after_s: float, *, stream: bool) -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        async def run() -> None:
            if stream:
                async for _ in router.route_stream(ask("How many?", model="auto", max_tokens=50)):
                    pass
            else:
                await router.route(ask("How many?", model="auto", max_tokens=50))

        task = asyncio.ensure_future(run())
        await asyncio.sleep(after_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)
        assert router.ledger.at_rest
        booked = sum((d.cost_usd or Decimal(0)) + d.presumed_usd for d in router.journal.newest())
        assert await spent(router) == booked
        assert len(router.journal.newest()) == len(world.asked)
        attempts = [a for d in router.journal.newest() for a in d.attempts]
        assert len(attempts) == len(world.asked)

    play(differs, use, limit="1")


def test_a_first_answer_that_fails_is_escalated() -> None:
    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        response = await router.route(ask("How many?", model="auto", max_tokens=50))
        assert response.content == "Good."
        assert await spent(router) == STRONG_USD
        assert response.decision is not None
        assert response.decision.model_choice is not None
        assert "it failed" in response.decision.model_choice.explanation

    play(lambda model, *_: Saying(status=500) if model == WEAK else Saying("Good."), use, limit="1")


def test_when_the_strong_model_fails_the_first_answer_is_given_after_all() -> None:
    def say(model: str, number: int, body: dict[str, Any]) -> Saying:
        return differs(model, number, body) if model == WEAK else Saying(status=500)

    async def use(router: ApiKeyRouter, world: TalkingWorld) -> None:
        response = await router.route(ask("How many?", model="auto", max_tokens=50))
        assert response.content == "The answer is 70."
        assert await spent(router) == 3 * WEAK_USD
        assert response.decision is not None
        assert response.decision.model_choice is not None
        assert "the stronger model failed" in response.decision.model_choice.explanation

    play(say, use, limit="1")


def test_a_cascade_that_is_turned_off_is_refused() -> None:
    async def go() -> None:
        world = TalkingWorld(agrees)
        router = await talking_router(world, cascade_routing_enabled=False)
        with pytest.raises(SystemError) as refused:
            await router.route(ask("Hi", model="auto:cascade"))
        assert refused.value.status == 400
        assert not world.asked
        await router.aclose()

    run_virtual(go())
