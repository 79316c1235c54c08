"""When a budget has no room: wait for what is merely held, or ask for a shorter reply.

The pipeline calls `Funding.help` after a budget refused a request. If it fits except for what running requests hold, it
waits for them, in order, no longer than `wait_s` and its deadline; if posted spend leaves no room for all of it but for
a shorter reply, `max_tokens` is lowered (`clamp`), which the decision, the response and a header tell.

Laws: nothing is sent by this module; a wait ends at the latest at its time, and when it is cancelled the next in line
is told; a store that cannot be asked is a StateStoreError, never a "no".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from msgspec import Struct

from apikeyrouter.domain.components.cost_controller import CostController
from apikeyrouter.domain.components.lessee import wait_for_room
from apikeyrouter.domain.cost.estimate import costs_by_call
from apikeyrouter.domain.cost.fit import can_be_capped, with_max_tokens
from apikeyrouter.domain.cost.input_bound import InputBound
from apikeyrouter.domain.errors import StateStoreError, UnboundedCostError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.ledger.leases import Answer, Lease
from apikeyrouter.domain.models.call import Call, peek
from apikeyrouter.domain.routing.choose import MoneyRefusal, Taken
from apikeyrouter.domain.routing.demand import Demand

__all__ = ["Clamp", "Funding", "FundingRules", "Money", "Tokenizer"]


_ASK_S = 2.0
"""The store is given so long to hand over what is free: usually milliseconds, a quarter of a second when another worker
has to give an idle slice back first."""

_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class FundingRules:
    """`wait_s`: the longest wait for money that running requests hold; 0 refuses at once what only they stand in the
    way of. `clamp`: whether `max_tokens` may be lowered.
    `clamp_min_tokens`: a reply shorter than this is not worth its input; such a request is refused."""

    wait_s: float = 30.0
    clamp: bool = True
    clamp_min_tokens: int = 16


class Tokenizer(Protocol):
    """Counts input exactly; slower than a bound by bytes, so it is asked only where money is short."""

    async def bound(self, model: str, body: bytes, /) -> InputBound | None:
        """The input's bound, or None when this model's tokenizer is not at hand."""
        ...


@dataclass(frozen=True, slots=True)
class Clamp:
    """A lowered output limit. `asked`: the caller's, None when there was none. `budget_id`: why."""

    asked: int | None
    given: int
    budget_id: str


class Money(Struct, eq=False):
    """One request's way through the budgets. `largest_output`: for the refusal: what would fit now."""

    call: Call
    demand: Demand
    counted: bool = False
    until_s: float | None = None
    ask_until_s: float = 0.0
    waited_s: float = 0.0
    waits: int = 0
    clamp: Clamp | None = None
    largest_output: int | None = None


class Funding:
    """Finds room, or says that there is none."""

    def __init__(
        self, costs: CostController, clock: Clock, rules: FundingRules, *, tokenizer: Tokenizer | None = None
    ) -> None:
        self._costs = costs
        self._clock = clock
        self._rules = rules
        self._tokenizer = tokenizer

    async def help(self, money: Money, refusals: Sequence[MoneyRefusal]) -> bool:
        """Whether choosing again is worth while. Changes `money.demand` and `money.call` when it lowers the output.

        Raises StateStoreError when the store cannot be asked for room.
        """
        if self._tokenizer is not None and not money.counted:
            money.counted = True
            if await self._count(self._tokenizer, money.call, refusals):
                return True
        best = min(refusals, key=lambda one: (not self._only_held(one), one.need))
        leases = self._leases(best)
        if not leases:
            return False
        now_s = self._clock.monotonic_s()
        if money.until_s is None:
            money.until_s = min(money.call.deadline_s, now_s + self._rules.wait_s)
            money.ask_until_s = min(money.call.deadline_s, now_s + _ASK_S)
        # what is free in the budget and merely not in this process's slice is asked for, however short waits shall be
        free = all(lease.left >= best.need for lease in leases)
        asking = free and money.until_s <= now_s < money.ask_until_s
        patience_s = _LOOK_AGAIN_S if asking else money.until_s - now_s
        timed_out = patience_s <= 0
        if not timed_out and all(lease.can_ever_fit(best.need) for lease in leases):
            answer = await self._wait(leases, best.need, money, patience_s)
            if answer is Answer.Failed:
                raise _store_unreachable(self._costs.book.lessee.failure)
            if answer is not None or free:
                return True  # what was free may be held by now: that is another case
            timed_out = True
        return self._shorten(money, best, leases, now=timed_out)

    @staticmethod
    async def _count(tokenizer: Tokenizer, call: Call, refusals: Sequence[MoneyRefusal]) -> bool:
        """Counts exactly, for each model that was refused; whether less is needed."""
        less = False
        for demand in {one.demand.model: one.demand for one in refusals}.values():
            before = demand.input_bound
            exact = await tokenizer.bound(demand.model, call.body)
            if exact is not None:
                demand.improve(exact)
                less = less or demand.input_bound < before
        return less

    def cap_unknown(self, money: Money, taken: Taken) -> bool:
        """Lowers the output limit of a request whose longest reply nobody knows, under a hard budget, to what was held
        for it; True when `money.call` changed. Raises UnboundedCostError when limits must not be touched."""
        price, demand = taken.candidate.price, money.demand.of(taken.candidate.model)
        if price is None or demand.output_is_bounded(price) or costs_by_call(price):
            return False
        hard = next((account for account, _ in taken.money if account.hard), None)
        if hard is None:
            return False
        capped = can_be_capped(money.call)
        if not self._rules.clamp or not capped:
            parts = ["output without max_tokens, for a model whose longest reply is not known"]
            raise UnboundedCostError(
                f"What this request may cost cannot be bounded ({parts[0]}), and a hard budget covers it. "
                + ("Set max_tokens." if capped else "Make the budget soft, or set a price per request for this model."),
                model=money.call.model,
                parts=parts,
            )
        self._limit(money, demand.output_bound(price), hard.id)
        return True

    def _limit(self, money: Money, most: int, budget_id: str) -> None:
        asked = money.clamp.asked if money.clamp is not None else money.demand.output_limit
        money.demand = money.demand.with_output_limit(most)
        call = money.call
        body = with_max_tokens(call.body, call.peek, most, model=call.model, operation=call.operation)
        money.call = replace(call, body=body, peek=peek(body))
        money.clamp = Clamp(asked, most, budget_id)

    def _only_held(self, refusal: MoneyRefusal) -> bool:
        return all(lease.can_ever_fit(refusal.need) for lease in self._leases(refusal))

    def _leases(self, refusal: MoneyRefusal) -> list[Lease]:
        """Hard ones that cover the refused candidate."""
        found = [self._costs.book.lease_of(account) for account in refusal.accounts]
        return [lease for lease in found if lease is not None and lease.account.hard]

    async def _wait(self, leases: list[Lease], need: int, money: Money, wait_s: float) -> Answer | None:
        """Waits until every lease has room; None when the time was over first."""
        started_s = self._clock.monotonic_s()
        money.waits += 1
        try:
            return await wait_for_room(
                self._costs.book.lessee, self._clock, leases, need, wait_s=wait_s, first=money.waits > 1
            )
        finally:
            money.waited_s += self._clock.monotonic_s() - started_s

    def _shorten(self, money: Money, refusal: MoneyRefusal, leases: list[Lease], *, now: bool) -> bool:
        """Lowers the output limit to what posted spend leaves room for (`now`: to what is free at this moment)."""
        tightest = min(leases, key=lambda lease: _room(lease, now=now))
        room = _room(tightest, now=now)
        largest = refusal.demand.largest_output(refusal.price, room)
        limit = money.demand.output_limit
        money.largest_output = refusal.demand.largest_output(refusal.price, _room(tightest, now=True))
        if not self._rules.clamp or not can_be_capped(money.call) or largest < max(1, self._rules.clamp_min_tokens):
            return False
        if limit is not None and largest >= limit:
            return not now  # others settled meanwhile: it fits as it is
        self._limit(money, largest, tightest.budget_id)
        return True


def _room(lease: Lease, *, now: bool) -> int:
    """What is left of the budget once everything that runs has settled for nothing, or (`now`) beside all of it."""
    room = lease.limit - lease.spent
    return max(0, room - lease.account.held - lease.elsewhere if now else room)


def _store_unreachable(cause: StateStoreError | None) -> StateStoreError:
    why = f" ({cause.message})" if cause is not None else ""
    return StateStoreError(
        "The store that keeps the budgets cannot be reached, and what this process had leased is used up, so the "
        f"request was not sent{why}. It can be sent again when the store is back."
    )
