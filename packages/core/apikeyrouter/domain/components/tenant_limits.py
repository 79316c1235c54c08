"""The limits of callers: requests and tokens in any 60 seconds, and requests under way, over all workers of a store.

`TenantLimits.admit` takes all that a request needs of its tenant's limits, or nothing; the `Ticket` that it returns
gives back or charges, once. `standing` is what reply headers tell. `account_for` and `wait_for` lend the same machinery
to other rates that workers share, such as the known limits of a provider's pool.

Laws: no stretch of 60 seconds sees more requests admitted than `rpm`, and no moment more under way than `parallel`,
over all workers; a tenant is not refused while another worker keeps idle what it needs, as of the last quarter of a
second. A request that fits this worker's shares (`domain.ledger.shares`) waits for nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from apikeyrouter.domain.components.lessee import Lessee, wait_for_lines
from apikeyrouter.domain.errors import ErrorCategory, StateStoreError, SystemError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.shared_ledger import rate_id
from apikeyrouter.domain.ledger.accounts import Account, Unit
from apikeyrouter.domain.ledger.holds import Hold
from apikeyrouter.domain.ledger.leases import Answer
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.ledger.shares import Share
from apikeyrouter.domain.models.call import Tenant

__all__ = ["Standing", "TenantLimits", "Ticket"]

PERIOD_S = 60
"""What `rpm` and `tpm` look back to."""

ASK_S = 2.0
"""The store is given so long to hand over what is free: usually milliseconds, a quarter of a second when another worker
has to give an idle share back first."""

ASK_FOR_PLACE_S = 0.6
"""The same for places under way: the others are called, and say within a quarter of a second what has ended."""

GATES_MAX = 1024
"""Tenants that are looked after before those without any request lately are looked for."""

_SLOT_WAIT_S, _SLOT_WAIT_MIN_S, _SLOT_WAIT_MAX_S = 1.0, 0.05, 30.0
"""Retry-After where requests under way stand in the way: unknown, shortest, longest."""

_SMOOTHING = 0.2


class Standing(NamedTuple):
    """How a tenant stands with one of its limits, over all workers as last heard. `which`: "requests", "tokens" or
    "parallel"; `reset_s`: seconds until all of it is free if nothing more is taken."""

    which: str
    limit: int
    remaining: int
    reset_s: float


class _Line(NamedTuple):
    """`by_token`: the need is the request's tokens, else 1."""

    which: str
    share: Share
    by_token: bool


class _Gate:
    """One tenant's shares, in the order in which they are asked. `duration_s`: mean of its requests, None before."""

    __slots__ = ("duration_s", "lines", "tenant", "timed", "unit_lines")

    def __init__(self, tenant: Tenant, lines: list[_Line]) -> None:
        self.tenant = tenant
        self.duration_s: float | None = None
        self.set(lines)

    def set(self, lines: list[_Line]) -> None:
        self.lines = lines
        self.timed = any(line.which == "parallel" for line in lines)
        self.unit_lines: list[tuple[Account, bool]] = [(line.share.account, line.by_token) for line in lines]

    def took(self, duration_s: float) -> None:
        before = duration_s if self.duration_s is None else self.duration_s
        self.duration_s = before + _SMOOTHING * (duration_s - before)


class Ticket:
    """What a tenant's limits hold for one request (`domain.models.call.Admission`)."""

    __slots__ = ("_clock", "_gate", "_hold", "_started_s")

    def __init__(self, gate: _Gate, hold: Hold, clock: Clock | None) -> None:
        self._gate = gate
        self._hold = hold
        self._clock = clock
        self._started_s = clock.monotonic_s() if clock is not None else 0.0

    def close(self, tokens: int | None, *, sent: bool) -> None:
        """The request is over; see `Admission.close`. Raises LedgerError when it was closed before."""
        hold = self._hold
        if not sent:
            hold.release()
            return
        hold.dispatch()
        if tokens is None:
            hold.presume()
        else:
            hold.settle([tokens if account.unit == "tokens" else need for account, need in hold.lines])
        if self._clock is not None:
            self._gate.took(self._clock.monotonic_s() - self._started_s)


class TenantLimits:
    """Admits requests. `lessee`: the worker's; it must be running for limits to be shared. `on_room`: is told when a
    share of `account_for` has more to take than before. One event loop only."""

    def __init__(self, lessee: Lessee, clock: Clock) -> None:
        self._lessee = lessee
        self._clock = clock
        self._ledger = Ledger(clock)
        self._gates: dict[str, _Gate] = {}
        self._shares: dict[str, Share] = {}
        self._numbers = itertools.count(1)
        self._look_again_at = GATES_MAX
        self.on_room: Callable[[], None] | None = None

    @property
    def at_rest(self) -> bool:
        """Whether no request is admitted and not yet closed."""
        return self._ledger.at_rest

    # -- requests ---------------------------------------------------------------------------------------------------

    async def admit(self, tenant: Tenant, *, tokens: int, deadline_s: float, wait_s: float) -> Ticket:
        """Takes one request, `tokens` (an estimate, input and output) and one place under way.

        `wait_s`: how long it may wait for what others have in use; what is merely in another worker's hands is asked
        for in any case. `deadline_s`: monotonic. Raises SystemError (429) with a true `retry_after`, or
        StateStoreError when the store cannot be asked for more than this worker has.
        """
        gate = self._gates.get(tenant.tenant_id)
        if gate is None or gate.tenant is not tenant:
            gate = self._gate(tenant)
        if self._clock.monotonic_s() >= self._lessee.lapse_at_s:
            for line in gate.lines:
                line.share.freeze()
        hold = self._ledger.try_hold([(account, tokens if by_token else 1) for account, by_token in gate.unit_lines])
        if isinstance(hold, Hold):
            return Ticket(gate, hold, self._clock if gate.timed else None)
        return await self._admit_slowly(gate, tokens, deadline_s, wait_s)

    async def _admit_slowly(self, gate: _Gate, tokens: int, deadline_s: float, wait_s: float) -> Ticket:
        now_s = self._clock.monotonic_s()
        started_s, until_s = now_s, min(deadline_s, now_s + wait_s)
        waited = False
        while True:
            self._renew(gate)
            lines = [(line, tokens if line.by_token else 1) for line in gate.lines]
            hold = self._ledger.try_hold([(line.share.account, need) for line, need in lines])
            if isinstance(hold, Hold):
                return Ticket(gate, hold, self._clock if gate.timed else None)
            now_s = self._clock.monotonic_s()
            for line, need in lines:
                line.share.account.refresh(now_s)
                if need > line.share.limit:
                    raise _never(gate.tenant, line, need)
            patient = now_s < until_s
            full = any(line.share.is_full(need, now_s) for line, need in lines)
            lacks = [line.which for line, need in lines if line.share.free < need]
            ask_s = ASK_FOR_PLACE_S if lacks == ["parallel"] else ASK_S
            patience_s = (until_s if full else max(until_s, min(deadline_s, started_s + ask_s))) - now_s
            if patience_s <= 0:
                raise self._refused(gate, lines, now_s)
            shares = [(line.share, need) for line, need in lines]
            answer = await wait_for_lines(
                self._lessee, self._clock, shares, wait_s=patience_s, first=waited, patient=patient, keep=True
            )
            waited = True
            if answer is Answer.Failed and self._clock.monotonic_s() < self._lessee.lapse_at_s:
                raise _store_down(self._lessee.failure)
            if answer is not Answer.Room:
                raise self._refused(gate, lines, self._clock.monotonic_s())

    def standing(self, tenant: Tenant) -> list[Standing]:
        """How a tenant stands with each limit that it has; requests, tokens, parallel, in this order."""
        gate = self._gates.get(tenant.tenant_id)
        if gate is None or gate.tenant is not tenant:
            gate = self._gate(tenant)
        now_s = self._clock.monotonic_s()
        found = []
        for which, share, _ in gate.lines:
            share.account.refresh(now_s)
            remaining = max(0, min(share.limit, share.left))
            found.append(Standing(which, share.limit, remaining, share.resets_in_s(now_s)))
        return found

    # -- other rates ------------------------------------------------------------------------------------------------

    def account_for(self, limit_id: str, unit: Unit, limit: int, period_s: int) -> Account:
        """The account on which this worker's share of a rate is held: `limit` in any `period_s` whole seconds, 0 for
        what is under way at once. Windows roll by themselves. Ask for it anew each time, since a share that was idle
        for long gives way to another; a refused hold is worth a `wait_for`."""
        share = self._share(limit_id, unit, limit, period_s)
        share.on_room = self.on_room
        return share.account

    def share_of(self, account: Account) -> Share | None:
        """The share behind an account of `account_for`; None for one that has ended, and for any other account."""
        share = self._shares.get(account.id)
        return share if share is not None and share.account is account and not share.draining else None

    async def wait_for(
        self, lines: Sequence[tuple[Account, int]], *, wait_s: float, patient: bool = True
    ) -> Answer | None:
        """Waits until this worker has room for each need; accounts that are not of `account_for` are passed over.

        Room: try the hold now. Spent (only if not `patient`): nothing is left. Failed: the store cannot be asked. None:
        `wait_s` was over first.
        """
        now_s = self._clock.monotonic_s()
        found = []
        for account, need in lines:
            share = self._shares.get(account.id)
            if share is None or share.account is not account:
                continue
            if share.draining:
                return Answer.Room  # another one stands in its place: ask for the account anew
            account.refresh(now_s)
            found.append((share, need))
        return await wait_for_lines(self._lessee, self._clock, found, wait_s=wait_s, patient=patient, keep=True)

    def retry_after_s(self, account: Account, need: int) -> float | None:
        """Seconds until `need` fits a rate of `account_for`, over all workers; 0.0: now; None: nobody knows, or
        never."""
        share = self._shares.get(account.id)
        return None if share is None else share.frees_in_s(need, self._clock.monotonic_s())

    # -- shares -----------------------------------------------------------------------------------------------------

    def _gate(self, tenant: Tenant) -> _Gate:
        """The tenant's gate, as its limits are now."""
        gate = self._gates.get(tenant.tenant_id)
        if gate is not None and gate.tenant == tenant:
            gate.tenant = tenant
            return gate
        if gate is None:
            self._forget_idle()
            gate = self._gates[tenant.tenant_id] = _Gate(tenant, [])
        gate.tenant = tenant
        self._renew(gate, anew=True)
        return gate

    def _renew(self, gate: _Gate, *, anew: bool = False) -> None:
        """Puts new shares in the place of those that have ended."""
        if not anew and not any(line.share.draining for line in gate.lines):
            return
        tenant = gate.tenant
        rates: tuple[tuple[str, Unit, int | None, int], ...] = (
            ("requests", "requests", tenant.rpm, PERIOD_S),
            ("tokens", "tokens", tenant.tpm, PERIOD_S),
            ("parallel", "slots", tenant.parallel, 0),
        )
        gate.set(
            [
                _Line(which, self._share(f"{tenant.tenant_id}:{which}", unit, limit, period_s), which == "tokens")
                for which, unit, limit, period_s in rates
                if limit is not None
            ]
        )

    def _share(self, name: str, unit: Unit, limit: int, period_s: int) -> Share:
        share = self._shares.get(rate_id(name, period_s))
        if share is None or share.draining:
            now_s = self._clock.monotonic_s()
            share = Share(name, unit, limit, period_s, peers=self._lessee, numbers=self._numbers, now_s=now_s)
            self._shares[share.budget_id] = share
            self._lessee.add(share)
        elif share.limit != limit:
            share.redefine(limit)
            self._lessee.kick()
        return share

    def _forget_idle(self) -> None:
        if len(self._gates) + len(self._shares) < self._look_again_at:
            return
        for line_id in [one for one, share in self._shares.items() if share.draining]:
            del self._shares[line_id]
        ended = [name for name, gate in self._gates.items() if all(line.share.draining for line in gate.lines)]
        for name in ended:
            del self._gates[name]
        self._look_again_at = GATES_MAX + 2 * (len(self._gates) + len(self._shares))

    # -- refusals ---------------------------------------------------------------------------------------------------

    def _refused(self, gate: _Gate, lines: list[tuple[_Line, int]], now_s: float) -> SystemError:
        """Names the limit that lets the request through last."""
        waits = []
        for line, need in lines:
            if line.share.left < need:
                waits.append((self._wait_s(gate, line, need, now_s), line, need))
        if not waits:  # another worker has it, and did not give it back in time
            line, need = next(((one, need) for one, need in lines if one.share.free < need), lines[0])
            waits.append((_SLOT_WAIT_S, line, need))
        wait_s, line, need = max(waits, key=lambda one: one[0])
        return _over(gate.tenant, line, need, wait_s, line.share.resets_in_s(now_s))

    def _wait_s(self, gate: _Gate, line: _Line, need: int, now_s: float) -> float:
        if line.which != "parallel":
            return line.share.frees_in_s(need, now_s) or _SLOT_WAIT_S
        if gate.duration_s is None:
            return _SLOT_WAIT_S
        return min(_SLOT_WAIT_MAX_S, max(_SLOT_WAIT_MIN_S, gate.duration_s / line.share.limit))


_SAID = {
    "requests": "may make {limit} requests in any 60 seconds, and has made them",
    "tokens": "may use {limit} tokens in any 60 seconds; {left} are left, and this request may need {need}",
    "parallel": "may have {limit} requests under way at once, and has them",
}


def _over(tenant: Tenant, line: _Line, need: int, wait_s: float, reset_s: float) -> SystemError:
    left = max(0, line.share.left)
    said = _SAID[line.which].format(limit=line.share.limit, left=left, need=need)
    return SystemError(
        ErrorCategory.RateLimitError,
        f"The caller {tenant.tenant_id} {said}. Try again in {wait_s:.1f} s.",
        provider_code="rate_limit_exceeded",
        retryable=True,
        retry_after=wait_s,
        status=429,
        details=_details(line, left, reset_s),
    )


def _never(tenant: Tenant, line: _Line, need: int) -> SystemError:
    return SystemError(
        ErrorCategory.RateLimitError,
        f"The caller {tenant.tenant_id} may use {line.share.limit} {line.which} in any 60 seconds, and this request "
        f"alone may need {need}. Make it shorter, or lower max_tokens.",
        provider_code="request_above_limit",
        status=429,
        details=_details(line, max(0, line.share.left), 0.0),
    )


def _details(line: _Line, left: int, reset_s: float) -> dict[str, object]:
    return {"which": line.which, "limit": line.share.limit, "remaining": left, "reset": reset_s}


def _store_down(cause: StateStoreError | None) -> StateStoreError:
    why = f" ({cause.message})" if cause is not None else ""
    return StateStoreError(
        "The store that keeps the limits of callers cannot be reached, and what this process had of them is used up, "
        f"so the request was not sent{why}. It can be sent again when the store is back."
    )
