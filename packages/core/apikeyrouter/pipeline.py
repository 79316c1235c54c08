"""The path of a request, top to bottom.

    1 admit      who asks for what, until when          6 attempt    send; the first byte is the point of no return
    2 gather     candidates for the model               7 settle     the hold becomes a charge, always (attempt.py)
    3 sift       refusals with reasons   \\              8 learn      key, breaker, statistics (attempt.py)
    4 rank       one currency             } one step    9 next_step  another key, or stop: a pure function
    5 hold       quota and money together/             10 respond    reply or error, each with its decision

`Pipeline.serve` is that loop; `sending.Sender` does one send. When nobody may serve, the next model that may stand in
is looked at, and then the request waits for quota (`patience.py`) or is refused. A reply that streams comes back with
its attempt still open; `streaming.ReplyStream` closes it. Laws L1-L10 are in docs/ARCHITECTURE.md and are checked by
tests/property and tests/stateful.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from apikeyrouter.attempt import Learners
from apikeyrouter.domain.components.cost_controller import CostController
from apikeyrouter.domain.components.pool_shares import Asking, PoolShares
from apikeyrouter.domain.errors import ErrorCategory, NoEligibleKeysError, RouterError, StateStoreError, SystemError
from apikeyrouter.domain.interfaces.transport import Transport
from apikeyrouter.domain.models.call import Admission, Call, Tenant
from apikeyrouter.domain.resilience.failures import RATES, Failure, FailureClass
from apikeyrouter.domain.resilience.hedge import Hedger
from apikeyrouter.domain.resilience.retry import Step, TenantRetryBudgets, costs_retry_budget, next_step, withdraw_all
from apikeyrouter.domain.routing.choose import Chooser, Taken
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.directory import Directory
from apikeyrouter.domain.routing.explain import DecisionRecord
from apikeyrouter.domain.routing.fallbacks import FallbackReason, reason_of, reason_of_refusals
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.domain.routing.refusals import failed_error, largest_context, refused_error
from apikeyrouter.flow import SENDS_MAX, Flow
from apikeyrouter.funding import Funding, Money
from apikeyrouter.glance import Glance
from apikeyrouter.hedging import first_good
from apikeyrouter.journal import Journal
from apikeyrouter.patience import Patience, Waiting, spared_rejections, waitable
from apikeyrouter.sending import Failed, Limits, Order, Reply, Sender

__all__ = ["Pipeline", "Tenants"]


class Tenants(Protocol):
    """The limits of callers: `TenantLimits`."""

    async def admit(self, tenant: Tenant, *, tokens: int, deadline_s: float, wait_s: float) -> Admission:
        """Takes what the request needs of them. Raises SystemError (429) when it does not fit in time."""
        ...


class Pipeline:
    """Wired once; `serve` runs for every request."""

    def __init__(
        self,
        directory: Directory,
        chooser: Chooser,
        costs: CostController,
        transport: Transport,
        *,
        funding: Funding,
        patience: Patience,
        shares: PoolShares | None = None,
        tenants: Tenants | None = None,
        learners: Learners,
        journal: Journal,
        limits: Limits,
        new_id: Callable[[], str],
    ) -> None:
        self._directory = directory
        self._chooser = chooser
        self._costs = costs
        self._sender = Sender(transport, learners, journal, limits)
        self._funding = funding
        self._patience = patience
        self._glance = Glance(directory, patience, learners.clock)
        self._shares = shares
        self._tenants = tenants
        self._learners = learners
        self._clock = learners.clock
        self._journal = journal
        self._limits = limits
        self._hedger = learners.hedger
        self._tenant_retries = TenantRetryBudgets()
        self._new_id = new_id

    async def serve(self, call: Call, objective: Objective) -> Reply:
        """Serves one call. Raises SystemError (or a subclass) carrying the decision when nobody could."""
        record = DecisionRecord(
            self._new_id(),
            call.request_id,
            call.model,
            objective,
            at_utc_s=self._journal.utc_s(),
            stream=call.streams,
        )
        if call.chosen is not None:
            record.choice = call.chosen.note
        try:
            group = self._directory.group_for(call.provider_id, call.model)
            demand = self._demand(call)
            if call.tenant is not None and self._tenants is not None and call.tenant.limited:
                call.admission = await self._tenants.admit(
                    call.tenant,
                    tokens=demand.hold_tokens,
                    deadline_s=call.deadline_s,
                    wait_s=self._limits.tenant_wait_s,
                )
            flow = Flow(call, objective, record, group, Money(call, demand), Waiting(call, demand))
            return await self._until_served(flow)
        except SystemError as error:
            self._journal.failed(call, record, error)
            raise
        except StateStoreError:
            self._journal.unavailable(call, record)
            raise
        except RouterError:
            if call.admission is not None:
                call.admission.close(None, sent=bool(record.attempts))
            raise
        except BaseException:
            self._journal.cancelled(call, record)
            raise

    def _demand(self, call: Call) -> Demand:
        learners = self._learners
        tenant = str(call.tags.get("virtual_key") or "") if call.tags else ""
        return Demand(call, learners.lengths, learners.ratios, tenant)

    async def _until_served(self, flow: Flow) -> Reply:
        waiting = flow.waiting
        try:
            while not self._patience.must_wait(waiting) or await self._glance.may_try(flow):
                taken = self._take(flow)
                if taken is None:
                    flow.refusals = self._chooser.money
                    if flow.refusals and await self._find_money(flow):
                        continue
                    if self._shares is not None and await self._find_share(flow, self._shares):
                        continue
                    if self._fall_back(flow) or await self._wait(flow):
                        continue
                    raise self._refused(flow)
                if taken.money_lines:
                    self._cap_unknown(flow, taken)
                self._patience.served(waiting)
                outcome: Reply | Failed
                if self._hedger is None:
                    outcome = await self._sender.send(self._order(flow, taken))
                else:
                    outcome, taken = await self._send_hedged(flow, taken, self._hedger)
                if isinstance(outcome, Reply):
                    if outcome.stream is None and outcome.fact is not None:
                        self._journal.ended(flow.call, flow.record, outcome.fact, outcome.usage)
                    return outcome
                failure = outcome.failure
                flow.failures.append((outcome.fact, failure))
                flow.error_body = outcome.body or flow.error_body
                if self._next_step(flow, taken, failure) is Step.Stop:
                    reason = reason_of(failure)
                    if reason is None or not self._fall_back(flow, reason):
                        raise self._failed(flow, failure)
            raise self._refused(flow) if waiting.looked else self._too_late(flow)
        finally:
            if waiting.place is not None:
                self._patience.left(waiting)
            asked_s = flow.asking.waited_s if flow.asking is not None else 0.0
            flow.record.waited_s = waiting.waited_s + flow.money.waited_s + asked_s

    async def _send_hedged(self, flow: Flow, taken: Taken, hedger: Hedger) -> tuple[Reply | Failed, Taken]:
        """Step 6 with hedging: a second send to another place if the first is silent for too long."""
        after_s = self._hedge_after_s(flow, taken, hedger)
        if after_s is None:
            return await self._sender.send(self._order(flow, taken)), taken
        legs = [taken]
        record = flow.record
        first_choice = (record.chosen, record.kept, record.rejections)

        def second() -> Coroutine[Any, Any, Reply | Failed] | None:
            if not hedger.fire(self._clock.monotonic_s()):
                return None
            other = self._take(flow)
            if other is None:
                return None
            if other.money_lines:
                self._cap_unknown(flow, other)
            legs.append(other)
            record.hedges = [*record.hedges, other.scored.label]
            return self._sender.send(self._order(flow, other))

        raced = await first_good(
            lambda: self._sender.send(self._order(flow, taken)),
            second,
            after_s=after_s,
            clock=self._clock,
            good=lambda outcome: isinstance(outcome, Reply),
            discard=lambda outcome: outcome.discard() if isinstance(outcome, Reply) else None,
        )
        if raced.leg == 0:
            record.chosen, record.kept, record.rejections = first_choice
        return raced.outcome, legs[raced.leg]

    def _order(self, flow: Flow, taken: Taken) -> Order:
        return Order(flow.call, flow.money.demand.of(taken.candidate.model), flow.record, taken, flow.group)

    def _hedge_after_s(self, flow: Flow, taken: Taken, hedger: Hedger) -> float | None:
        """Seconds of silence after which a second send is worth its price; None: never."""
        runner = next((row for row in flow.record.kept if row[4] is not taken.candidate), None)
        if runner is None:
            return None
        _, _, _, _, other, loser_usd, _, _ = runner
        first = (taken.scored.provider_id, taken.candidate.model)
        second = (other.provider.provider_id, other.model)
        return hedger.plan(first, second, loser_usd=loser_usd, now_s=self._clock.monotonic_s())

    def _fall_back(self, flow: Flow, reason: FallbackReason | None = None) -> bool:
        """Goes on with the next model that may stand in, if there is one. `reason`: else what the rejections say."""
        ruling = flow.objective.ruling
        if ruling is not None and not ruling.fallbacks:
            return False
        if flow.fallbacks is None:
            call = flow.call
            why = reason or reason_of_refusals([one.code for one in flow.record.rejections])
            flow.fallbacks = list(self._directory.fallbacks_for(call.provider_id, call.model, why))
            if call.chosen is not None:
                flow.fallbacks += self._directory.groups_of(call.chosen.stand_ins)
        if not flow.fallbacks or flow.sends >= SENDS_MAX or flow.call.deadline_s <= self._clock.monotonic_s():
            return False
        flow.record.fallbacks = [*flow.record.fallbacks, flow.group.model]
        flow.group = flow.fallbacks.pop(0)
        flow.tried = set()
        return True

    async def _wait(self, flow: Flow) -> bool:
        """Every key refused: waits for the first that has room, if time will bring it."""
        found = waitable(flow.record.rejections)
        if found is None or flow.sends >= SENDS_MAX or not await self._glance.until(flow, *found):
            return False
        if flow.fallbacks is not None:  # from the first model on
            flow.group = self._directory.group_for(flow.call.provider_id, flow.call.model)
            flow.fallbacks = None
            flow.record.fallbacks = []
        return True

    def _take(self, flow: Flow) -> Taken | None:
        """Steps 2 to 5 in one go: see `Chooser`."""
        now_s = self._clock.monotonic_s()
        others = self._patience.leaves_to_others(flow.waiting, flow.tried, len(flow.group.candidates))
        chosen = flow.call.chosen
        if chosen is not None and chosen.reserve is not None:
            chosen.reserve.free()  # in the same step in which it is taken again
        taken = self._chooser.choose(
            flow.group,
            flow.money.demand,
            flow.objective,
            flow.record,
            tried=flow.tried.union(others) if others else flow.tried,
            now_s=now_s,
            tags=flow.call.tags,
        )
        if taken is None and chosen is not None and chosen.reserve is not None:
            chosen.reserve.retake()
        if taken is None:
            flow.context_max = max(flow.context_max, largest_context(flow.group.candidates, flow.record.rejections))
        if taken is None and others:
            left = spared_rejections(flow.group, flow.waiting, others, flow.tried)
            flow.record.rejections += left
            flow.record.considered += len(left)
        if taken is not None:
            flow.tried.add(taken.candidate.who)
            flow.sends += 1
            if flow.sends == 1:
                taken.candidate.provider.retry_budget.deposit(now_s)
                self._tenant_retries.of(flow.waiting.tenant).deposit(now_s)
        return taken

    async def _find_money(self, flow: Flow) -> bool:
        """A budget has no room: waits for what is held, or lowers the output limit; see `Funding`."""
        self._patience.left(flow.waiting)  # money comes by other ways than quota: others in line need not wait for it
        found = await self._funding.help(flow.money, flow.refusals)
        self._take_over(flow)
        return found

    async def _find_share(self, flow: Flow, shares: PoolShares) -> bool:
        """A pool has room but for this worker's share of a limit that workers keep together: asks for more."""
        asking = flow.asking = flow.asking or Asking()
        call, demand = flow.call, flow.money.demand
        return await shares.help(asking, flow.group, demand, flow.record.rejections, deadline_s=call.deadline_s)

    def _cap_unknown(self, flow: Flow, taken: Taken) -> None:
        """A hard budget holds for a request whose longest reply nobody knows: it is asked for no more than is held."""
        try:
            changed = self._funding.cap_unknown(flow.money, taken)
        except BaseException:  # a fault of ours must not leave anything held either
            taken.hold.release()
            flow.group.gave_back(taken.candidate)
            raise
        if changed:
            self._take_over(flow)

    def _take_over(self, flow: Flow) -> None:
        """The request goes on as its way through the budgets left it."""
        clamp = flow.money.clamp
        if clamp is not None:
            flow.call = flow.money.call
            flow.record.clamp = (clamp.asked, clamp.given, clamp.budget_id)

    def _next_step(self, flow: Flow, taken: Taken, failure: Failure) -> Step:
        """Step 9: the pure function decides; the retry budget is touched only when all else allows the retry."""
        now_s = self._clock.monotonic_s()
        if failure.failure_class in RATES and self._may_come_back(flow, now_s):
            flow.tried.discard(taken.candidate.who)  # its own wait keeps it out until it may serve again
            return Step.TryNextKey
        step = next_step(
            failure,
            attempts=flow.counted(self._limits.attempts_max),
            attempts_max=self._limits.attempts_max,
            candidates_left=flow.left_in_play(taken, failure),
            time_left_s=flow.call.deadline_s - now_s,
            budget=True,
            retry_unanswered=self._limits.retry_unanswered,
        )
        if step is Step.TryNextKey and costs_retry_budget(failure):
            budgets = (taken.candidate.provider.retry_budget, self._tenant_retries.of(flow.waiting.tenant))
            return step if withdraw_all(budgets, now_s) else Step.Stop
        return step

    def _may_come_back(self, flow: Flow, now_s: float) -> bool:
        """Whether a request that a rate limit refused may look again, and wait if need be."""
        return self._limits.attempts_max > 1 and flow.sends < SENDS_MAX and now_s < flow.call.deadline_s

    def _refused(self, flow: Flow) -> SystemError:
        """Nobody was left to try: either at once, or after failures."""
        if flow.refusals and not flow.failures:
            least = min(flow.refusals, key=lambda one: one.need)
            return self._costs.refusal_error(
                least.refused, flow.call.model, also=least.accounts, largest_output=flow.money.largest_output
            )
        now_s = self._clock.monotonic_s()
        rejections = flow.record.rejections
        error = refused_error(flow.call.model, rejections, flow.failures, now_s, context_max=flow.context_max)
        if error.status == 429 and error.provider_code == "rate_limit_exceeded":
            found = waitable(rejections)
            wait_s = self._patience.retry_after_s(flow.waiting, found[0] if found else None)
            error.retry_after = max(error.retry_after or 0.0, wait_s) or None
        return error

    def _too_late(self, flow: Flow) -> SystemError:
        """Others wait for the same model, and this request would not be served in time."""
        wait_s = self._patience.retry_after_s(flow.waiting, None)
        return NoEligibleKeysError(
            f"Every key that serves the model {flow.call.model!r} is at its rate limit, {self._patience.room.waiting} "
            f"requests wait, and this one would not be served in time. Try again in {wait_s:.1f} s.",
            reasons={},
            category=ErrorCategory.RateLimitError,
            retry_after=wait_s or None,
            status=429,
            provider_code="rate_limit_exceeded",
        )

    def _failed(self, flow: Flow, failure: Failure) -> SystemError:
        body, content_type = flow.error_body or (None, None)
        others_may_wait = failure.elsewhere and len(flow.tried) >= len(flow.group.candidates)
        if others_may_wait and failure.failure_class is not FailureClass.TooLargeForLimit:
            return self._refused_after(flow)
        return failed_error(failure, flow.record.attempts, body, content_type)

    def _refused_after(self, flow: Flow) -> SystemError:
        """Every key was tried and failed: one reason per key says more than the last failure alone."""
        return refused_error(flow.call.model, (), flow.failures, self._clock.monotonic_s())
