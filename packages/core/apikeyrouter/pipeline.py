"""The path of a request, top to bottom.

    1 admit      who asks for what, until when          6 attempt    send; the first byte is the point of no return
    2 gather     candidates for the model               7 settle     the hold becomes a charge, always (attempt.py)
    3 sift       refusals with reasons   \\              8 learn      key, breaker, statistics (attempt.py)
    4 rank       one currency             } one step    9 next_step  another key, or stop: a pure function
    5 hold       quota and money together/             10 respond    reply or error, each with its decision

`Pipeline.serve` is that loop. A reply that streams comes back with its attempt still open; `streaming.ReplyStream`
closes it. Laws L1-L10 are in docs/ARCHITECTURE.md and are checked by tests/property and tests/stateful.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from apikeyrouter.attempt import Attempt, Learners
from apikeyrouter.domain.components.cost_controller import CostController
from apikeyrouter.domain.cost.usage import Usage
from apikeyrouter.domain.errors import RouterError, StateStoreError, SystemError
from apikeyrouter.domain.interfaces.transport import HttpReply, HttpRequest, Timeouts, Transport, TransportError
from apikeyrouter.domain.models.call import Admission, Call, Tenant
from apikeyrouter.domain.resilience.classify import classify_event, classify_reply, classify_transport
from apikeyrouter.domain.resilience.failures import Failure, FailureClass, Scope, bad_reply
from apikeyrouter.domain.resilience.retry import Step, costs_retry_budget, next_step
from apikeyrouter.domain.routing.candidates import Group
from apikeyrouter.domain.routing.choose import Chooser, MoneyRefusal, Taken
from apikeyrouter.domain.routing.demand import Demand, demand_of
from apikeyrouter.domain.routing.directory import Directory
from apikeyrouter.domain.routing.explain import AttemptFact, DecisionRecord
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.domain.routing.refusals import failed_error, refused_error
from apikeyrouter.funding import Funding, Money
from apikeyrouter.journal import Journal
from apikeyrouter.streaming import ReplyStream

__all__ = ["Limits", "Pipeline", "Reply"]

_SENDS_MAX = 12
"""Sends per request, whatever the answers are."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`attempts_max`: sends per request at the most that a provider's fault may cost (5xx, connections, time-outs);
    keys that are refused for their own sake do not count, up to 12 sends in all. `retry_unanswered`: whether a request
    that was sent and got no byte back may be sent again; it may then be billed twice, and both are charged to the
    ledger. `tenant_wait_s`: how long a caller over its own limits may wait for them."""

    attempts_max: int = 3
    retry_unanswered: bool = True
    tenant_wait_s: float = 0.0
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(slots=True)
class Reply:
    """What the caller gets: a body, or a stream whose first events are already here."""

    record: DecisionRecord
    taken: Taken
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    usage: Usage | None = None
    stream: ReplyStream | None = None


@dataclass(slots=True)
class _Flow:
    """One request under way."""

    call: Call
    objective: Objective
    record: DecisionRecord
    group: Group
    money: Money
    tried: set[str] = field(default_factory=set)
    failures: list[tuple[AttemptFact, Failure]] = field(default_factory=list)
    refusals: Sequence[MoneyRefusal] = ()
    error_body: tuple[bytes, str | None] | None = None


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
        tenants: Tenants | None = None,
        learners: Learners,
        journal: Journal,
        limits: Limits,
        new_id: Callable[[], str],
    ) -> None:
        self._directory = directory
        self._chooser = chooser
        self._costs = costs
        self._transport = transport
        self._funding = funding
        self._tenants = tenants
        self._learners = learners
        self._clock = learners.clock
        self._journal = journal
        self._limits = limits
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
            flow = _Flow(call, objective, record, group, Money(call, demand))
            return await self._until_served(flow)
        except SystemError as error:
            self._journal.failed(call, record, error)
            raise
        except StateStoreError:
            self._journal.unavailable(call, record)
            raise
        except RouterError:
            raise
        except BaseException:
            self._journal.cancelled(call, record)
            raise

    def _demand(self, call: Call) -> Demand:
        learners = self._learners
        tenant = str(call.tags.get("virtual_key") or "") if call.tags else ""
        return demand_of(call, learners.lengths, learners.ratios, tenant=tenant)

    async def _until_served(self, flow: _Flow) -> Reply:
        while True:
            taken = self._take(flow)
            if taken is None:
                flow.refusals = self._chooser.money
                if flow.refusals and await self._find_money(flow):
                    continue
                raise self._refused(flow)
            if taken.money_lines:
                self._cap_unknown(flow, taken)
            outcome = await self._attempt(flow, taken)
            if isinstance(outcome, Reply):
                return outcome
            if self._next_step(flow, taken, outcome) is Step.Stop:
                raise self._failed(flow, outcome)

    def _take(self, flow: _Flow) -> Taken | None:
        """Steps 2 to 5 in one go: see `Chooser`."""
        now_s = self._clock.monotonic_s()
        taken = self._chooser.choose(
            flow.group,
            flow.money.demand,
            flow.objective,
            flow.record,
            tried=flow.tried,
            now_s=now_s,
            tags=flow.call.tags,
        )
        if taken is not None:
            flow.tried.add(taken.scored.key_id)
            if len(flow.tried) == 1:
                taken.candidate.provider.retry_budget.deposit(now_s)
        return taken

    async def _find_money(self, flow: _Flow) -> bool:
        """A budget has no room: waits for what is held, or lowers the output limit; see `Funding`."""
        money, record = flow.money, flow.record
        try:
            found = await self._funding.help(money, flow.refusals)
        finally:
            record.waited_s = money.waited_s
        self._take_over(flow)
        return found

    def _cap_unknown(self, flow: _Flow, taken: Taken) -> None:
        """A hard budget holds for a request whose longest reply nobody knows: it is asked for no more than is held."""
        try:
            changed = self._funding.cap_unknown(flow.money, taken)
        except SystemError:
            taken.hold.release()
            flow.group.gave_back(taken.candidate)
            raise
        if changed:
            self._take_over(flow)

    def _take_over(self, flow: _Flow) -> None:
        """The request goes on as its way through the budgets left it."""
        clamp = flow.money.clamp
        if clamp is not None:
            flow.call = flow.money.call
            flow.record.clamp = (clamp.asked, clamp.given, clamp.budget_id)

    async def _attempt(self, flow: _Flow, taken: Taken) -> Reply | Failure:
        """Step 6. Whatever happens, the attempt is closed, or handed to a stream that will close it."""
        attempt = Attempt(self._learners, flow.call, taken, flow.money.demand, flow.record)
        candidate = taken.candidate
        adapter = candidate.provider.adapter
        reply: HttpReply | None = None
        try:
            request = adapter.build_request(flow.call, attempt.secret, base_url=candidate.record.base_url)
            request.timeouts = self._limits.timeouts
            reply = await self._send(request)
            attempt.first_byte()
            if reply.status == 200:
                attempt.heard(reply.headers)
                if flow.call.streams and _is_event_stream(reply):
                    return await self._begin_stream(flow, attempt, reply)
                body, usage = adapter.read_reply(flow.call, await reply.read())
                return self._respond(flow, attempt, reply, body, usage)
            return await self._read_failure(flow, attempt, reply)
        except TransportError as error:
            return self._note_failure(flow, attempt, classify_transport(error))
        except ValueError as fault:
            return self._note_failure(flow, attempt, _bad_reply(str(fault), reply))
        finally:
            if attempt.open and not attempt.fact.outcome.startswith("stream"):
                attempt.abandon("cancelled")
                if reply is not None:
                    reply.aclose()

    async def _send(self, request: HttpRequest) -> HttpReply:
        """Sends; once more when a kept-alive connection turns out to have been closed under our hands.

        A provider closes idle connections at any time, also in the instant in which we write: that is no answer to the
        request, and no reason to blame the key. Only where unanswered requests may be sent again.
        """
        try:
            return await self._transport.send(request)
        except TransportError as error:
            if not (error.reused and error.kind == "reset" and self._limits.retry_unanswered):
                raise
            return await self._transport.send(request)

    async def _begin_stream(self, flow: _Flow, attempt: Attempt, reply: HttpReply) -> Reply | Failure:
        """Waits for the first event: until then another key may still take over."""
        adapter = attempt.taken.candidate.provider.adapter
        reader = adapter.open_stream(flow.call)
        chunks = reply.chunks()
        first = b""
        try:
            while not first and not reader.done and reader.error is None:
                first = reader.feed(await anext(chunks))
        except StopAsyncIteration:
            first += reader.finish()
            if not reader.done:
                return self._note_failure(flow, attempt, _bad_reply("the stream ended before its first event", reply))
        if reader.error is not None and not reader.deltas:
            failure = classify_event(adapter.dialect, reader.error, utc_now=self._clock.utc_now())
            reply.aclose()
            return self._note_failure(flow, attempt, failure or _bad_reply("the stream began with an error", reply))
        attempt.accepted()
        attempt.fact.outcome = "streaming"
        stream = ReplyStream(
            flow.call, attempt, reply, chunks, reader, first=first, demand=flow.money.demand, journal=self._journal
        )
        return Reply(flow.record, attempt.taken, 200, reply.headers, stream=stream)

    def _respond(self, flow: _Flow, attempt: Attempt, reply: HttpReply, body: bytes, usage: Usage | None) -> Reply:
        charged = attempt.succeed(usage)
        self._journal.ended(flow.call, flow.record, attempt.fact, charged)
        return Reply(flow.record, attempt.taken, 200, reply.headers, body, charged)

    async def _read_failure(self, flow: _Flow, attempt: Attempt, reply: HttpReply) -> Failure:
        body = await reply.read()
        dialect = attempt.taken.candidate.provider.adapter.dialect
        failure = classify_reply(dialect, reply.status, reply.headers, body, utc_now=self._clock.utc_now())
        kind = reply.header(b"content-type")
        flow.error_body = (body, kind.decode("latin-1") if kind else None)
        attempt.refused(failure, reply.headers, body)
        return self._note_failure(flow, attempt, failure)

    def _note_failure(self, flow: _Flow, attempt: Attempt, failure: Failure) -> Failure:
        attempt.fail(failure)
        flow.failures.append((attempt.fact, failure))
        return failure

    def _next_step(self, flow: _Flow, taken: Taken, failure: Failure) -> Step:
        """Step 9: the pure function decides; the retry budget is touched only when all else allows the retry."""
        now_s = self._clock.monotonic_s()
        step = next_step(
            failure,
            attempts=self._counted(flow),
            attempts_max=self._limits.attempts_max,
            candidates_left=_left_in_play(flow, taken, failure),
            time_left_s=flow.call.deadline_s - now_s,
            budget=True,
            retry_unanswered=self._limits.retry_unanswered,
        )
        if step is Step.TryNextKey and costs_retry_budget(failure):
            budget = taken.candidate.provider.retry_budget
            return step if budget.try_withdraw(now_s) else Step.Stop
        return step

    def _counted(self, flow: _Flow) -> int:
        """Attempts that count against the limit: those that a provider's fault cost.

        A key that is refused for its own sake (rate limit, credit, revoked) is set aside by that one answer, which
        costs nothing; a user must not fail because three such keys stood in front. Those have a bound of their own.
        """
        if len(flow.failures) >= _SENDS_MAX or self._limits.attempts_max == 1:
            return self._limits.attempts_max
        return sum(costs_retry_budget(failure) for _, failure in flow.failures)

    def _refused(self, flow: _Flow) -> SystemError:
        """Nobody was left to try: either at once, or after failures."""
        if flow.refusals and not flow.failures:
            least = min(flow.refusals, key=lambda one: one.need)
            return self._costs.refusal_error(
                least.refused, flow.call.model, also=least.accounts, largest_output=flow.money.largest_output
            )
        now_s = self._clock.monotonic_s()
        return refused_error(flow.call.model, flow.record.rejections, flow.failures, now_s)

    def _failed(self, flow: _Flow, failure: Failure) -> SystemError:
        body, content_type = flow.error_body or (None, None)
        others_may_wait = failure.elsewhere and len(flow.tried) >= len(flow.group.candidates)
        if others_may_wait and failure.failure_class is not FailureClass.TooLargeForLimit:
            return self._refused_after(flow)
        return failed_error(failure, flow.record.attempts, body, content_type)

    def _refused_after(self, flow: _Flow) -> SystemError:
        """Every key was tried and failed: one reason per key says more than the last failure alone."""
        return refused_error(flow.call.model, (), flow.failures, self._clock.monotonic_s())


def _left_in_play(flow: _Flow, taken: Taken, failure: Failure) -> int:
    """Untried candidates that the failure says nothing about: after a pool's limit, only those of other pools."""
    untried = [c for c in flow.group.candidates if c.record.key_id not in flow.tried]
    if failure.scope is Scope.Pool:
        pool = taken.candidate.quota.pool
        return sum(c.quota.pool is not pool for c in untried)
    return len(untried)


def _is_event_stream(reply: HttpReply) -> bool:
    kind = reply.header(b"content-type")
    return kind is not None and kind.lower().startswith(b"text/event-stream")


def _bad_reply(why: str, reply: HttpReply | None) -> Failure:
    return bad_reply(why, reply.status if reply is not None else None)
