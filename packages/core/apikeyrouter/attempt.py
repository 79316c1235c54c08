"""One send, from the moment its key is taken until its hold is closed: steps 7 (settle) and 8 (learn) of the path.

An `Attempt` closes exactly once, by `succeed`, `fail` or `abandon`; each settles the hold and teaches key, breaker,
statistics and retry budget. All of it is synchronous, so cancellation cannot come between: a hold never leaks (law L2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from apikeyrouter.domain.components.key_manager import KeyManager
from apikeyrouter.domain.cost.billing import settled
from apikeyrouter.domain.cost.deltas import DeltaRatios
from apikeyrouter.domain.cost.lengths import OutputLengths
from apikeyrouter.domain.cost.prices import cost_nano_usd
from apikeyrouter.domain.cost.ratios import InputRatios
from apikeyrouter.domain.cost.reconcile import Reconciler
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.transport import Headers
from apikeyrouter.domain.keys.effects import Among
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.models.call import Call
from apikeyrouter.domain.quota.charging import failed_charges, used_charges
from apikeyrouter.domain.quota.facts import LimitFact, Source
from apikeyrouter.domain.quota.hints import refused_for_size
from apikeyrouter.domain.quota.limits import KINDS, LIKELY
from apikeyrouter.domain.resilience.durations import limit_in_text
from apikeyrouter.domain.resilience.failures import LIMITED, RATES, Billing, Failure, FailureClass
from apikeyrouter.domain.resilience.hedge import Hedger
from apikeyrouter.domain.routing.choose import Taken
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.explain import AttemptFact, DecisionRecord

__all__ = ["Attempt", "Learners"]

_UNHEALTHY = frozenset(
    {
        FailureClass.Server, FailureClass.Capacity, FailureClass.Unanswered, FailureClass.Timeout,
        FailureClass.MidReply, FailureClass.BadReply, FailureClass.NotSent,
    }
)  # fmt: skip
"""Failures that speak of the provider's health. Rate limits and quota speak of quota; client errors of the client."""

_NO_BOUND = 2**62
"""Stands for a bound that nobody asked for: without a hard budget it is not worked out."""

_TOLD = -1
"""A breaker's ticket that no breaker ever gave: what follows counts for nothing there."""

_COUNTS_AGAINST_KEY = _UNHEALTHY | {FailureClass.Auth}


def _nobody_waits() -> None:
    """Stands for a waiting room that is never entered."""


def _nobody_listens(provider_id: str, *, ok: bool, now_s: float) -> None:
    """Stands for a health watch."""


LESSONS = 100
"""Replies that statistics learn from per flush (250 ms): 400 a second."""


@dataclass(slots=True)
class Learners:
    """Who learns from an attempt. Statistics of lengths and estimates take `LESSONS` replies between two calls of
    `renew` and let the others pass: at thousands a second each one more says nothing new, and would cost a tenth of
    the request. `freed` is told when an attempt has given capacity back; `heard`, that a provider answered, or failed
    for a fault of its own; `hedger`, when hedging is on, how long first bytes took."""

    keys: KeyManager
    lengths: OutputLengths
    ratios: InputRatios
    reconciler: Reconciler
    clock: Clock
    rng: Random
    freed: Callable[[], None] = _nobody_waits
    heard: Callable[..., None] = _nobody_listens
    hedger: Hedger | None = None
    deltas: DeltaRatios = field(default_factory=DeltaRatios)
    lessons_left: int = LESSONS

    def renew(self) -> None:
        """A new stretch of time begins."""
        self.lessons_left = LESSONS


def _never_written(failure: Failure) -> bool:
    """Whether the request could not even be put into the provider's words."""
    return failure.failure_class is FailureClass.Client and failure.status is None


class Attempt:
    """One send with one key. `open`: whether nothing closed it yet; `taken`: the candidate and its hold; `secret`: what
    it authenticates with, whatever is rotated meanwhile; `learners`: who learns from it. Plain slots: each is read
    several times a request."""

    __slots__ = (
        "_breaker_ticket",
        "_by_size",
        "_call",
        "_clock",
        "_demand",
        "_held",
        "_started_s",
        "_ticket",
        "fact",
        "learners",
        "open",
        "record",
        "secret",
        "taken",
    )

    def __init__(self, learners: Learners, call: Call, taken: Taken, demand: Demand, record: DecisionRecord) -> None:
        self.learners = learners
        self._clock = clock = learners.clock
        self._call = call
        self.taken = taken
        self._demand = demand
        self.open, self._by_size = True, False
        candidate, scored, hold = taken.candidate, taken.scored, taken.hold
        self._started_s = now_s = clock.monotonic_s()
        self._ticket = ticket = learners.keys.begin(candidate.record, call.model, now_s, ahead=taken.ahead)
        self.secret = ticket.secret
        self._breaker_ticket = candidate.breaker.begin(now_s, candidate.record.key_id)
        self.fact = AttemptFact(scored.key_id, scored.label, scored.provider_id, now_s)
        self.record = record
        record.attempts.append(self.fact)
        price = candidate.price
        record.price_source = price.source if price is not None else ""
        # before anything else is taken: what comes after this request was not counted in what its reply says
        self._held = [(account, account.taken) for account, _ in hold.lines]
        hold.dispatch()
        quota = candidate.quota
        quota.admitted(taken.quota, demand.needs(quota.dialect.charges), now_s)

    def first_byte(self) -> float:
        """The first byte of a reply came now, which is returned: monotonic seconds."""
        now_s = self._clock.monotonic_s()
        self.fact.ttft_s = now_s - self._started_s
        return now_s

    def heard(self, headers: Headers, now_s: float) -> None:
        """The reply's headers may tell what is left of the pool's limits."""
        quota = self.taken.candidate.quota
        dialect = quota.dialect
        if dialect.header_limits and quota.listens(now_s):
            self._tell(dialect.of_reply(headers, utc_now=self._clock.utc_now()), now_s)

    def refused(self, failure: Failure, headers: Headers, body: bytes) -> None:
        """The reply was a failure, which may tell of limits."""
        clock, quota = self._clock, self.taken.candidate.quota
        facts = quota.dialect.of_failure(failure, headers, body, utc_now=clock.utc_now())
        if failure.failure_class in RATES:
            needs = self._demand.needs(quota.dialect.charges)
            numbers = limit_in_text(failure.message)
            quota.refused(
                facts,
                self._held,
                needs,
                sent_at_s=self._started_s,
                now_s=clock.monotonic_s(),
                numbers=numbers,
                retry_s=failure.retry_after_s,
            )
            self._by_size = refused_for_size(quota, facts, needs, numbers, failure.retry_after_s)
            named = next((fact.dimension for fact in facts if fact.source is Source.ErrorBody), None)
            if numbers is not None and numbers.requested > 0 and named is not None and named in LIKELY:
                self._demand.counted_as(quota.dialect.charges, (KINDS[named], LIKELY[named]), numbers.requested)
        else:
            missed = self._demand.needs(quota.dialect.charges) if failure.failure_class in LIMITED else None
            self._tell(facts, clock.monotonic_s(), missed)

    def _tell(self, facts: Sequence[LimitFact], now_s: float, missed: Sequence[int] | None = None) -> None:
        if facts:
            quota = self.taken.candidate.quota
            quota.told(facts, self._held, sent_at_s=self._started_s, now_s=now_s, missed=missed)

    def accepted(self, now_s: float) -> None:
        """A reply has begun well: the breaker may know, since a stream's end can be minutes away."""
        candidate, learners, fact = self.taken.candidate, self.learners, self.fact
        candidate.breaker.succeed(now_s, self._breaker_ticket, fact.key_id)
        self._breaker_ticket = _TOLD
        learners.keys.accepted(self._ticket, now_s)
        learners.heard(fact.provider_id, ok=True, now_s=now_s)
        if learners.hedger is not None and fact.ttft_s is not None:
            learners.hedger.record(fact.provider_id, candidate.model, fact.ttft_s)

    def succeed(self, usage: Usage | None, *, status: int = 200) -> Usage:
        """The reply is complete. Without usage from the provider, what was expected is charged, and said."""
        candidate, learners, fact = self.taken.candidate, self.learners, self.fact
        now_s = self._clock.monotonic_s()
        if usage is None:
            fact.detail = "no usage reported; charged what was expected"
            usage = Usage(input_tokens=self._demand.input_expected, output_tokens=self._demand.output_expected)
        elif learners.lessons_left > 0:
            self._demand.learn(fact.provider_id, usage.input_tokens, usage.output_tokens)
        self._close("ok", status, now_s)
        cost = self._charge(usage)
        if learners.lessons_left > 0:
            learners.lessons_left -= 1
            self._reconcile(cost)
        learners.keys.succeed(self._ticket, now_s)
        candidate.stats.record(ok=True, now_s=now_s)
        candidate.quota.served(now_s)
        if fact.ttft_s is not None:
            candidate.stats.record_ttft(fact.ttft_s, now_s)
        candidate.breaker.succeed(now_s, self._breaker_ticket, fact.key_id)
        learners.freed()
        return usage

    def fail(self, failure: Failure, *, partial: Usage | None = None, peers: Sequence[KeyRecord] | None = None) -> None:
        """The send failed. `partial`: what a broken-off reply is known to have used. `peers`: keys that could have been
        taken instead (None: those of the provider), against which it is judged whose fault that is."""
        candidate = self.taken.candidate
        now_s = self._clock.monotonic_s()
        self._close(failure.failure_class.value, failure.status, now_s)
        self.fact.detail = failure.message
        self._settle_failure(failure, partial)
        learners, breaker = self.learners, candidate.breaker
        if failure.failure_class in _UNHEALTHY:
            breaker.fail(now_s, self._breaker_ticket, learners.rng, self.fact.key_id)
            learners.heard(self.fact.provider_id, ok=False, now_s=now_s)
        else:
            breaker.release(now_s, self._breaker_ticket)
        # after the breaker: what is the provider's fault is not the key's
        among = None if peers is None else Among(peers, breaker.blame)
        learners.keys.fail(self._ticket, failure, now_s, among, by_size=self._by_size)
        if failure.failure_class in _COUNTS_AGAINST_KEY:
            candidate.stats.record(ok=False, now_s=now_s)
        learners.freed()

    def abandon(self, reason: str, partial: Usage | None = None) -> None:
        """Nobody waits for it any more (cancelled, client gone): charged for what is known, else for the whole hold."""
        candidate = self.taken.candidate
        now_s = self._clock.monotonic_s()
        self._close(reason, None, now_s)
        if partial is None:
            self._presume()
        else:
            self._charge(partial)
        self.learners.keys.release(self._ticket)
        candidate.breaker.release(now_s, self._breaker_ticket)
        self.learners.freed()

    def _close(self, outcome: str, status: int | None, now_s: float) -> None:
        self.open = False
        self.taken.candidate.quota.pool.moves += 1
        fact = self.fact
        fact.outcome = outcome
        fact.status = status
        fact.duration_s = now_s - self._started_s

    def _settle_failure(self, failure: Failure, partial: Usage | None) -> None:
        hold = self.taken.hold
        if partial is not None:
            self._charge(partial)
        elif failure.failure_class is FailureClass.NotSent or _never_written(failure):
            hold.release(unbilled=True)
        elif failure.billing is Billing.No or (failure.status or 0) >= 500:
            # It counted as a request and used nothing. A 5xx before any byte is usually unbilled (reference notes 1.5);
            # charging a whole upper bound for each would exhaust budgets that nobody spent.
            self._settle_for_nothing(refused=failure.failure_class in LIMITED)
        else:
            self._presume()

    def _settle_for_nothing(self, *, refused: bool) -> None:
        taken = self.taken
        charges = failed_charges(
            taken.quota, taken.hold.lines, self._held, taken.candidate.quota.dialect.charges, refused=refused
        )
        taken.hold.settle([*charges, *[0] * taken.money_lines])

    def _presume(self) -> None:
        """It was sent, and nobody can tell what it cost: the hold is charged; without budgets, what was expected."""
        taken = self.taken
        taken.hold.presume()
        price = taken.candidate.price
        if taken.money_lines:
            presumed = max(need for account, need in taken.hold.lines if account.unit == "nano_usd")
        else:
            presumed = 0 if price is None else self._demand.expected_nano_usd(price)
        self.record.presumed_nano_usd += presumed

    def _reconcile(self, cost: int | None) -> None:
        """Compares what was estimated with what it cost."""
        taken, demand = self.taken, self._demand
        price = taken.candidate.price
        if price is None or cost is None:
            return
        bound = _NO_BOUND
        if taken.money_lines:
            bound = max([n for account, n in taken.money if account.hard], default=_NO_BOUND)
        provider_id = self.fact.provider_id
        self.learners.reconciler.record(
            provider_id,
            self._call.model,
            demand.expected_nano_usd(price),
            demand.q95_nano_usd(price, provider_id),
            bound,
            cost,
        )

    def _charge(self, usage: Usage) -> int | None:
        """Settles by the provider's bill, else by usage; returns the cost in nano-USD, None when it is not known."""
        taken = self.taken
        candidate, hold = taken.candidate, taken.hold
        price = candidate.price
        known = cost_nano_usd(price, usage) if price is not None else None
        if usage.billed_nano_usd is not None:
            known = self._by_bill(known, usage.billed_nano_usd)
        cost = known or 0
        charges = used_charges(taken.quota, hold.lines, self._held, usage, cost, candidate.quota.dialect.charges)
        if taken.money_lines:
            charges += [cost] * taken.money_lines
        hold.settle(charges)
        self._note(usage, known)
        return known

    def _by_bill(self, priced: int | None, billed: int) -> int:
        """What the provider says that it charged, unless that makes no sense. Both stay in the record."""
        taken, record = self.taken, self.record
        held = max([need for account, need in taken.hold.lines if account.unit == "nano_usd"], default=0)
        cost, record.cost_source, warning = settled(priced, billed, held)
        if warning:
            self.fact.detail = f"{self.fact.detail}; {warning}" if self.fact.detail else warning
        record.billed_nano_usd = (record.billed_nano_usd or 0) + billed
        record.listed_nano_usd = None if priced is None else (record.listed_nano_usd or 0) + priced
        return cost

    def _note(self, usage: Usage | None, cost: int | None) -> None:
        record = self.record
        record.priced = cost is not None
        if cost is not None:
            record.cost_nano_usd = (record.cost_nano_usd or 0) + cost
        if usage is not None:
            record.input_tokens = usage.input_tokens
            record.output_tokens = usage.output_tokens
