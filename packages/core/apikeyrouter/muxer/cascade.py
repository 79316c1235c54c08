"""A cascade: the cheap model answers first, a sign accepts its answer, else the strong one is asked.

Main entry: `Cascade.serve`. Each answer is a request of its own through the pipeline, with its own hold and decision,
so each is booked exactly once whatever happens. Before the first one is sent, the money for all that may follow is held
(`money.Held`); a later answer takes its own hold in the very step in which its share of that is given back.
Laws: nothing reaches the caller before it is accepted; the sum of what all answers may cost is within `max_cost`;
when this ends, by success, failure or cancellation, nothing is held any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.errors import SystemError
from apikeyrouter.domain.models.call import CONVERSATIONS, Operation
from apikeyrouter.domain.models.model_choice import Chosen
from apikeyrouter.muxer.answers import asking_for_logprobs, confidence, read_answer, without_logprobs
from apikeyrouter.muxer.groups import Accept, Strategy
from apikeyrouter.muxer.money import Held
from apikeyrouter.muxer.options import Able
from apikeyrouter.muxer.signs import agreement, plainly_wrong
from apikeyrouter.muxer.verifiers import verifier_for
from apikeyrouter.sending import Reply
from apikeyrouter.streaming import ReplyStream

if TYPE_CHECKING:
    from apikeyrouter.domain.components.policy_engine import Given
    from apikeyrouter.muxer.front import ModelRouting, Plan
    from apikeyrouter.router import ApiKeyRouter

__all__ = ["Cascade", "Verifier"]

Verifier = Callable[[str, str], Awaitable[bool | float]]
"""(prompt, answer) -> whether the answer is good enough, or how probably, 0..1. What it raises counts as no."""


@dataclass(slots=True)
class _Leg:
    """One answer. `body`: all of its bytes, events too. `text`, `finish`: what it says and why it ended."""

    able: Able
    reply: Reply
    body: bytes
    text: str
    finish: str | None
    calls_tools: bool

    def told(self, verdict: str, *, accepted: bool) -> dict[str, Any]:
        """As the decision keeps it."""
        record = self.reply.record
        cost = record.cost_nano_usd
        return {
            "model": self.able.option.name,
            "decision_id": record.decision_id,
            "cost_usd": None if cost is None else f"{(cost + record.presumed_nano_usd) / 1e9:.9f}",
            "accepted": accepted,
            "verdict": verdict,
        }


class Cascade:
    """Serves plans whose strategy is a cascade."""

    def __init__(self, router: ApiKeyRouter, routing: ModelRouting) -> None:
        self._router = router
        self._routing = routing

    async def serve(self, plan: Plan, policy: Given | None) -> Reply:
        """The accepted answer. Raises what the last answer raises."""
        first, strong = plan.able[0], max(plan.able, key=lambda one: (one.option.quality, -one.option.cost))
        rules = plan.group.cascade
        samples = rules.samples if rules.accept is Accept.Consistency else 1
        why = self._why_not(plan, first, strong, samples)
        held: list[Held] = []
        if not why:
            found = await self._routing.purse.hold(plan.asked, [first, strong] + [first] * (samples - 1))
            held, why = (found, "") if found is not None else ([], "budgets have no room for a second answer")
        if why:
            single = self._routing.again(plan, Strategy.Hybrid, f"no cascade: {why}")
            return await self._router.serve(single.call, single.objective, policy)
        try:
            return await self._in_turn(plan, policy, first, strong, held)
        finally:
            for one in held:
                one.free()

    async def _in_turn(self, plan: Plan, policy: Given | None, first: Able, strong: Able, held: list[Held]) -> Reply:
        legs: list[dict[str, Any]] = []
        cheap: _Leg | None = None
        try:
            cheap = await self._ask(plan, policy, first, plan.note, probing=True, reserve=held[0])
        except SystemError as error:
            legs.append(_failed(first, error))
        if cheap is not None:
            others: list[_Leg] = []
            verdict, accepted = await self._judge(plan, policy, cheap, others, held[2:])
            legs.append(cheap.told(verdict, accepted=accepted))
            legs += [{**one.told("to compare", accepted=False), "sample": True} for one in others]
            plan.note["legs"] = legs
            if accepted:
                self._passed_over(plan, others, cheap.reply)
                return self._delivered(plan, cheap)
        for one in held[2:]:
            one.free()
        spare = [] if cheap is None else [cheap, *others]
        self._routing.book(plan.group).escalated(strong.option.expected_usd)
        note = {**plan.note, "legs": legs, "model": strong.option.name, "order": [strong.option.name]}
        note |= {"quality": strong.option.quality, "why": "the cheaper answer was not accepted"}
        call = self._routing.call_of(plan.asked, strong, Chosen(note, reserve=held[1]))
        try:
            reply = await self._router.serve(call, self._limited(plan, legs), policy)
        except SystemError:
            if cheap is None or not cheap.text.strip():
                raise
            plan.note["note"] = "the stronger model failed, so the first answer was given after all"
            self._passed_over(plan, others, cheap.reply)
            return self._delivered(plan, cheap)
        self._passed_over(plan, spare, reply)
        return reply

    def _passed_over(self, plan: Plan, legs: Sequence[_Leg], given: Reply) -> None:
        """The decisions of these answers say whose was given instead; the group's book has what they cost."""
        book = self._routing.book(plan.group)
        for leg in legs:
            record = leg.reply.record
            spent_usd = ((record.cost_nano_usd or 0) + record.presumed_nano_usd) / 1e9
            book.passed_over(spent_usd, spent_usd if (record.choice or {}).get("sample") else 0.0)
            record.choice = {**(record.choice or {}), "instead": given.record.decision_id}
            self._router.journal.amended(record)

    # -- answers ----------------------------------------------------------------------------------------------------

    async def _ask(
        self,
        plan: Plan,
        policy: Given | None,
        able: Able,
        note: dict[str, Any],
        *,
        probing: bool = False,
        reserve: Held | None = None,
        number: int = 0,
    ) -> _Leg:
        """One whole answer, kept back."""
        call = self._routing.call_of(plan.asked, able, Chosen(note, reserve=reserve))
        if number:
            call.request_id = f"{call.request_id}.{number}"
        if probing and plan.group.cascade.accept is Accept.Logprobs and call.operation is Operation.Chat:
            call = asking_for_logprobs(call)
        reply = await self._router.serve(call, plan.objective, policy)
        body = reply.body
        if reply.stream is not None:
            try:
                body = b"".join([chunk async for chunk in reply.stream.chunks()])
            finally:
                reply.stream.close()
            error = reply.stream.error()
            if error is not None:
                raise error
        text, finish, tools = read_answer(call, body)
        return _Leg(able, reply, body, text, finish, tools)

    async def _judge(
        self, plan: Plan, policy: Given | None, leg: _Leg, others: list[_Leg], held: Sequence[Held]
    ) -> tuple[str, bool]:
        """(why, whether it is accepted). `others`: receives the answers that were asked for to compare."""
        rules = plan.group.cascade
        if leg.calls_tools:
            return "it calls tools with arguments that can be read", True
        wrong = plainly_wrong(leg.text, leg.finish)
        if wrong:
            return wrong, False
        if rules.accept is Accept.Verifier:
            return await self._verify(plan, leg)
        if rules.accept is Accept.Logprobs:
            sure = confidence(leg.body)
            if sure is None:
                return "its provider tells no probabilities", False
            return f"the mean probability of its words is {sure:.2f}", sure >= rules.confidence
        asked = [
            self._ask(plan, policy, leg.able, {**plan.note, "sample": number}, reserve=one, number=number)
            for number, one in enumerate(held, 1)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for one in answers:
            if isinstance(one, _Leg):
                others.append(one)
            elif not isinstance(one, SystemError):
                raise one
        if not others:
            return "no second answer came to compare it with", False
        same = agreement([leg.text, *(one.text for one in others)])
        return f"{same:.0%} of {1 + len(others)} answers agree", same >= rules.agreement

    async def _verify(self, plan: Plan, leg: _Leg) -> tuple[str, bool]:
        verifier, least = self._routing.verifier, plan.group.cascade.confidence
        if verifier is None:
            own = verifier_for(plan.prompt.text)
            sure = own.accept(plan.prompt.text, leg.text)
            return f"{own.name} gives it {sure:.2f}", sure >= least
        try:
            sure = float(await verifier(plan.prompt.text, leg.text))
        except Exception as fault:  # noqa: BLE001 - whatever a program's own function raises: the answer is not accepted
            return f"the verifier failed ({type(fault).__name__})", False
        return f"the verifier gives it {sure:.2f}", sure >= least

    def _delivered(self, plan: Plan, leg: _Leg) -> Reply:
        """The answer that was kept back, as the caller asked for it."""
        reply, body = leg.reply, leg.body
        if plan.group.cascade.accept is Accept.Logprobs and b'"logprobs"' not in plan.asked.body:
            body = without_logprobs(body, streamed=reply.stream is not None)
        if reply.stream is None:
            reply.body = body
        else:
            reply.stream = _Replayed(reply.stream, body)
        self._router.journal.amended(reply.record)
        return reply

    # -- money ------------------------------------------------------------------------------------------------------

    def _why_not(self, plan: Plan, first: Able, strong: Able, samples: int) -> str:
        """Why no cascade is possible, "" when it is."""
        if first is strong:
            return "the cheapest model is the strongest, too"
        if plan.asked.operation not in CONVERSATIONS:
            return "this endpoint is no conversation"
        if plan.max_cost_usd is not None:
            worst = samples * (first.option.most_usd or 0.0) + (strong.option.most_usd or 0.0)
            if worst > plan.max_cost_usd:
                return f"all answers together may cost ${worst:.6f} > ${plan.max_cost_usd:g}"
        return ""

    def _limited(self, plan: Plan, legs: Sequence[dict[str, Any]]) -> Any:
        """The objective with what is left of `max_cost`."""
        if plan.max_cost_usd is None:
            return plan.objective
        spent = sum(float(leg["cost_usd"] or 0.0) for leg in legs)
        return replace(plan.objective, max_cost_usd=max(0.0, plan.max_cost_usd - spent))


class _Replayed(ReplyStream):
    """A stream that is over and settled, for the caller to read."""

    def __init__(self, settled: ReplyStream, body: bytes) -> None:
        self._body = body
        self.reader = settled.reader
        self.usage: Usage | None = settled.usage
        self.failure = settled.failure

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of it at once."""
        yield self._body

    def close(self) -> None:
        """Nothing is open."""

    def discard(self) -> None:
        """Nothing is open."""


def _failed(able: Able, error: SystemError) -> dict[str, Any]:
    decision = error.decision
    cost = None if decision is None else decision.presumed_usd + (decision.cost_usd or 0)
    return {
        "model": able.option.name,
        "decision_id": "" if decision is None else decision.id,
        "cost_usd": None if cost is None else f"{cost:.9f}",
        "accepted": False,
        "verdict": f"it failed ({error.provider_code or error.category.value})",
    }
