"""Shares: the parts of rates that this process may use without asking.

A `Share` is this worker's part of what any `period_s` seconds may have of something (requests, tokens), or of what may
be under way at once (`period_s` 0). It is a `Lease` whose store knows no windows: the account looks back by this
process's own monotonic clock, and promises that it never has more in use than it was granted. Shares add up to no more
than the limit (`shared_ledger.rate_id`), so no stretch of `period_s` seconds ever sees more than the limit, whatever
clocks say and wherever a minute begins. What a worker used comes back to the same worker when it leaves its window.

Laws: used + held <= granted, overruns aside; a worker that is alone keeps what it has and asks ahead of need, so its
requests do not wait for the store; near the limit shares shrink to what is in use, so that none is refused here while
another worker keeps something idle. While the store is down for longer than a lease lives, each worker goes on with
`limit / workers`: better a little too much than nothing served.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseGrant, rate_id
from apikeyrouter.domain.ledger.accounts import Account, Unit, Window
from apikeyrouter.domain.ledger.leases import FRUGAL_S, Answer, Lease
from apikeyrouter.domain.quota.windows import Concurrent, Rolling

__all__ = ["Peers", "Share"]

SUB_BUCKETS = 60
"""Parts of a period: capacity comes back at most a 60th of it late."""

IDLE_AFTER_S, IDLE_ALONE_S = 5.0, 300.0
"""After so long without a request a share goes back, but for what is in use; later where nobody else wants it."""

REPORT_ALONE_S = 2.0
"""How often what is in use is told when nothing is wanted and nobody else is there; else with every round."""

FRESH_S = 0.1
"""For so long after an answer the store is not asked again whether a full rate is still full."""

SOON_S = 0.25
"""What other workers keep idle comes within this time, once it was asked for."""

_SCARCE = 8
"""A worker that is alone takes all that is left once it is less than limit / 8, and half of it before."""


class Peers(Protocol):
    """What a share must know of its worker: `Lessee`. `workers`: how many are alive, this one included; `failure`: why
    the store did not answer last time."""

    workers: int
    failure: StateStoreError | None

    def utc_s(self, now_s: float) -> float:
        """The store's Unix time at the monotonic time `now_s`."""
        ...

    def kick(self) -> None:
        """Asks the store as soon as possible."""
        ...

    def hurry(self) -> None:
        """Asks the store again in some milliseconds: somebody is about to give back what is waited for."""
        ...


class _ShareAccount(Account):
    """What a share holds on. When something fits is known over all workers, not from this one's part alone."""

    __slots__ = ("frees_in_s",)

    def __init__(self, line_id: str, unit: Unit, window: Window, *, now_s: float) -> None:
        super().__init__(line_id, unit, 0, window, now_s=now_s)
        self.frees_in_s: Callable[[int, float], float | None] = lambda _need, _now_s: None

    def free_at_s(self, need: int, now_s: float) -> float | None:
        """When `need` fits the rate; soon, when it merely lies in other hands; None: nobody knows, or never."""
        wait_s = self.frees_in_s(need, now_s)
        return None if wait_s is None else now_s + (wait_s or SOON_S)


class Share(Lease):
    """One worker's share of a rate.

    `period_s`: whole seconds. `heard_at_s`: monotonic time of the last answer. `numbers`: gives each ask a higher
    number than all before it, of this line's earlier shares too. `on_room`: told when there is more to take.
    """

    __slots__ = (
        "_numbers", "_peers", "_quiet_until_s", "_taken_seen", "_told_use", "heard_at_s", "on_room", "period_s",
    )  # fmt: skip

    boxed = False

    def __init__(
        self,
        name: str,
        unit: Unit,
        limit: int,
        period_s: int,
        *,
        peers: Peers,
        numbers: Iterator[int],
        now_s: float,
    ) -> None:
        line_id = rate_id(name, period_s)
        super().__init__(line_id, 0, 0, limit=limit, hard=True, now_s=now_s)
        window: Window = Rolling(period_s, SUB_BUCKETS) if period_s else Concurrent()
        account = _ShareAccount(line_id, unit, window, now_s=now_s)
        account.frees_in_s = self.frees_in_s
        self.account = account
        self.on_room: Callable[[], None] | None = None
        self.period_s = period_s
        self.heard_at_s = -math.inf
        self._peers = peers
        self._numbers = numbers
        self._quiet_until_s = -math.inf
        self._told_use = 0
        self._taken_seen = 0

    # -- what is known ----------------------------------------------------------------------------------------------

    @property
    def in_use_elsewhere(self) -> int:
        """What other workers have in use, as last heard, those that died lately included."""
        return max(0, self.totals.held - self._told_use) + self.counted[1]

    @property
    def left(self) -> int:
        """What of the limit nobody has in use, as far as is known; below zero after an overrun or a lower limit."""
        account = self.account
        return self.limit - account.used - account.held - self.in_use_elsewhere

    @property
    def _own_room(self) -> int:
        return self.limit - self.account.used - self.account.held

    @property
    def _may_have(self) -> int:
        """What the store's answer leaves to hope for."""
        return self.left if self.period_s else self._own_room

    def is_full(self, need: int, now_s: float) -> bool:
        """Whether `need` does not fit, by an answer that is new enough to be believed. What others have under way may
        end at any moment, so only this worker's own counts for that."""
        if not self.period_s:
            return self._own_room < need
        return self.heard and now_s - self.heard_at_s < FRESH_S and self.left < need

    def frees_in_s(self, need: int, now_s: float) -> float | None:
        """Seconds until `need` fits if nothing more is taken; 0.0: now; None: nobody knows, or never.

        Of this worker's use the times are known, and taken for the others' too; of theirs only the oldest one.
        """
        account = self.account
        account.refresh(now_s)
        excess = need - self.left
        if excess <= 0:
            return 0.0
        if account.ring is None or need > self.limit:
            return None
        own, others = account.used + account.held, self.in_use_elsewhere
        times_s: list[float] = []
        if own:
            part = max(1, math.ceil(excess * own / (own + others)))
            for epoch, (used, held) in account.ring.items():
                part -= used + held
                if part <= 0:
                    times_s.append((account.window.leaves_at_s(epoch, now_s) or now_s) - now_s)
                    break
        oldest_s = self.totals.since + self.period_s - self._peers.utc_s(now_s)
        if self.totals.since and oldest_s > 0 and (excess == 1 or not own):
            spread = (excess - 1) / others * (self.period_s - oldest_s) if others else 0.0
            times_s.append(oldest_s + max(0.0, spread))
        return min(times_s) if times_s else float(self.period_s)

    def resets_in_s(self, now_s: float) -> float:
        """Seconds until all of the limit is free if nothing more is taken; what others have counts as taken now."""
        account = self.account
        if account.ring is not None and self.in_use_elsewhere:
            return float(self.period_s)
        for epoch, (used, held) in reversed((account.ring or {}).items()):
            if used or held:
                return (account.window.leaves_at_s(epoch, now_s) or now_s) - now_s
        return 0.0

    # -- asking -----------------------------------------------------------------------------------------------------

    def ask(self, now_s: float) -> LeaseAsk | None:
        """What to tell the store now, or None when it knows enough and nothing is wanted."""
        if self.heard and not self.waiters and not self.draining and now_s < self._quiet_until_s:
            return None
        account = self.account
        account.refresh(now_s)
        self._drop_cancelled()
        if account.taken != self._taken_seen:
            self._taken_seen, self._used_at_s = account.taken, now_s
        taken = account.used + account.held
        in_use = taken + min(self.promised, max(0, (account.limit or 0) - taken))
        target = self._target(in_use, now_s)
        if self.heard and not self.waiters and in_use == self._told_use and target == self.granted:
            self._rest(now_s)
            self.draining = self.draining or (not target and now_s - self._used_at_s > IDLE_AFTER_S)
            return None
        if self.waiters or target < self.granted:
            # what may go back must not be taken while the store is asked
            account.limit = min(self.limit, max(taken, in_use if self.waiters else target))
        self.heard = False
        ask = LeaseAsk(self.budget_id, 0, 0, next(self._numbers), held=in_use, granted=target, have=self.granted)
        ask.oldest = math.floor(self._peers.utc_s(now_s)) - self.period_s
        ask.limit = self.limit
        ask.least = in_use + (self.waiters[0].need if self.waiters else 0)
        ask.since = self._since(now_s)
        return ask

    def apply(self, ask: LeaseAsk, grant: LeaseGrant, now_s: float) -> None:
        """Takes the answer to `ask` in, and tells who waits."""
        account = self.account
        account.refresh(now_s)
        self.heard, self.heard_at_s = True, now_s
        self._told_use = ask.held
        self.granted = grant.granted
        self.totals, self.counted = grant.totals, grant.counted
        before = account.limit or 0
        account.limit = min(grant.granted, self.limit)  # no more, even if more is in use: that will leave
        if grant.totals.calls != self._calls_seen:
            self._calls_seen = grant.totals.calls
            self._frugal_until_s = now_s + FRUGAL_S
            if grant.granted > ask.held:
                self._peers.kick()  # what is idle goes back at once
        self._rest(now_s)
        self._tell(answered=True)
        if self.waiters and not self.waiters[0].patient:
            self._peers.hurry()
        elif self.on_room is not None and account.limit > before:
            self.on_room()

    def redefine(self, limit: int, *, hard: bool = True) -> None:  # noqa: ARG002 - rates are hard
        """The rate has a new limit; what is in use stays."""
        if limit == self.limit:
            return
        self.account.limit = min(self.account.limit or 0, limit)
        self.limit = limit
        self.heard = False  # ask at once: room may have come or gone
        self._tell(answered=False)

    def freeze(self, *, soft_too: bool = False) -> None:  # noqa: ARG002 - rates are hard
        """The store was not heard for too long. If it is down, goes on with an equal part of the limit; if it was this
        process that stood still, with nothing until it has asked."""
        self.account.limit = self.limit // max(1, self._peers.workers) if self._peers.failure is not None else 0
        self.heard = False

    def go_on_alone(self) -> None:
        """While the store is down: a worker that was the only one takes nothing from anybody."""
        if self._peers.failure is not None and self._peers.workers <= 1:
            self.freeze()

    def retire(self) -> None:
        """Nothing more is taken here: another share stands in its place."""
        self.draining = True
        self.account.limit = 0
        self._tell_all(Answer.Room)

    @property
    def settled(self) -> bool:
        """Whether nothing is under way, and the store has all of it back that is not in use."""
        account = self.account
        return self.heard and account.held == 0 and self._told_use <= account.used and self.granted <= self._told_use

    def _target(self, in_use: int, now_s: float) -> int:
        if self.draining:
            return in_use
        needed = in_use + sum([waiter.need for waiter in self.waiters])
        alone = self._peers.workers <= 1
        idle_after_s = IDLE_ALONE_S if alone else IDLE_AFTER_S
        if now_s < self._frugal_until_s or now_s - self._used_at_s > idle_after_s:
            return needed
        left = max(0, self.limit - self.counted[1] - (self.totals.granted - self.granted) - needed)
        scarce = left * _SCARCE <= self.limit
        spare = left // (2 * self._peers.workers) if not alone or not scarce else left
        kept = self.granted - needed
        if self.granted <= self.limit and spare // 2 <= kept <= spare * 2:
            return self.granted  # near enough: less traffic
        return needed + spare

    def _since(self, now_s: float) -> int:
        """The Unix second at which the oldest of what is in use was taken, so that it leaves a period later."""
        account = self.account
        for epoch, (used, held) in (account.ring or {}).items():
            if used or held:
                leaves_at_s = account.window.leaves_at_s(epoch, now_s) or now_s
                return round(self._peers.utc_s(leaves_at_s)) - self.period_s
        return 0

    def _rest(self, now_s: float) -> None:
        self._quiet_until_s = now_s + (REPORT_ALONE_S if self._peers.workers <= 1 else 0.0)

    # -- waiting ----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Tells those for whom there is room now, in order."""
        self._tell(answered=False)

    def _tell(self, *, answered: bool) -> None:
        """`answered`: the store has just spoken, so those who will not wait are told "no" where nothing is left."""
        self._drop_cancelled()
        while self.waiters:
            waiter = self.waiters[0]
            if waiter.need <= self.free:
                self.waiters.popleft()
                waiter.promised = True
                self.promised += waiter.need
                waiter.answer(Answer.Room)
            elif answered and not waiter.patient and self._may_have - self.promised < waiter.need:
                self.waiters.popleft().answer(Answer.Spent)
            else:
                break
        if not self.waiters:
            self.account.on_free = None
