"""Leases: the slices of budgets that this process may spend without asking.

A `Lease` is this worker's part of one window of one budget: an account whose limit is what the store has granted, and
the bookkeeping that turns it into asks (`ask`) and takes answers in (`apply`). Requests that find no room wait in it,
in order (`enqueue`), and are told as soon as there is room, or that there can be none.

Slice size (reference notes 3.5 and 2.11): 5 seconds of this worker's burn, at least 0.1 % of the limit, at most 5 % of
what is left; so slices shrink as the limit nears, down to exactly what waiting requests need.
Laws: the account's limit is lowered before the store is asked to take money back, and raised only after it was granted,
so that used + held <= granted always, overruns aside; "no" is said only when posted spend leaves no room (L5): what is
merely held, here or elsewhere, is waited for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from enum import Enum

from apikeyrouter.domain.interfaces.shared_ledger import LeaseAsk, LeaseGrant, WindowTotals
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.quota.windows import Total

__all__ = ["Answer", "Lease", "Waiter"]

BURN_AHEAD_S = 5.0
"""A slice covers this many seconds of the worker's own spending."""

SMALLEST_SHARE, LARGEST_SHARE = 1000, 20
"""A slice is at least limit / 1000 and at most a twentieth of what is left."""

IDLE_AFTER_S = 5.0
"""After so long without a request the slice goes back."""

FRUGAL_S = 2.0
"""So long after another worker called for money, nothing is kept that no request needs."""

_FOREVER = Total()


class Answer(Enum):
    """What a waiting request is told."""

    Room = "room"
    Spent = "spent"
    Failed = "failed"


class Waiter:
    """A request that waits for `need` nano-USD. `tell` is called exactly once, unless it was cancelled before.

    `promised`: it was told that there is room, and has not tried yet (`Lease.leave`). `patient`: of a rate: False wants
    a "no" as soon as nothing is left.
    """

    __slots__ = ("need", "patient", "promised", "tell")

    def __init__(self, need: int, tell: Callable[[Answer], None], *, patient: bool = True) -> None:
        self.need = need
        self.patient = patient
        self.promised = False
        self.tell: Callable[[Answer], None] | None = tell

    def answer(self, answer: Answer) -> None:
        """Tells it, once."""
        tell, self.tell = self.tell, None
        if tell is not None:
            tell(answer)


class Lease:
    """This worker's slice of one window.

    `limit`: the budget's, as last heard. `hard`: False only counts. `window`, `oldest`: see `LeaseAsk`. `totals`,
    `counted`: as last heard. `heard`: the last ask was answered. `promised`: room that waiting requests were told of
    and have not taken yet. `overrun_told`: of the account's overrun. `draining`: the window is over; running requests
    still settle here, none are added. `boxed`: whether a black box keeps what it spends.
    """

    boxed = True
    __slots__ = (
        "_burn",
        "_calls_seen",
        "_frugal_until_s",
        "_reported",
        "_seen",
        "_seq",
        "_used_at_s",
        "account",
        "budget_id",
        "counted",
        "draining",
        "granted",
        "hard",
        "heard",
        "limit",
        "oldest",
        "overrun_told",
        "promised",
        "totals",
        "waiters",
        "window",
    )

    def __init__(self, budget_id: str, window: int, oldest: int, *, limit: int, hard: bool, now_s: float) -> None:
        self.budget_id = budget_id
        self.window = window
        self.oldest = oldest
        self.limit = limit
        self.hard = hard
        self.account = Account(budget_id, "nano_usd", 0 if hard else limit, _FOREVER, hard=hard, now_s=now_s)
        self.granted = 0
        self.totals = WindowTotals(budget_id, window)
        self.counted = (0, 0)
        self.promised = 0
        self.overrun_told = 0
        self.draining = False
        self.heard = False
        self.waiters: deque[Waiter] = deque()
        self._seq = 0
        self._reported = (0, 0, 0)
        self._seen: tuple[float, int] = (now_s, 0)
        self._burn = 0.0
        self._used_at_s = now_s
        self._calls_seen = 0
        self._frugal_until_s = -math.inf

    # -- what is known ----------------------------------------------------------------------------------------------

    @property
    def spent(self) -> int:
        """Posted spend of everything that counts, this worker's newest included: never more than the truth."""
        return self.totals.spent + self.counted[0] + self.account.used - self._reported[0]

    @property
    def elsewhere(self) -> int:
        """What other workers may still spend of the limit, as last heard."""
        own = self.granted - self._reported[0]
        pending = self.totals.granted - self.totals.spent + self.counted[1] - self.counted[0]
        return max(0, pending - own)

    @property
    def left(self) -> int:
        """What is left of the limit beside spend and what running requests hold, here and elsewhere; below zero after
        an overrun."""
        account, totals, reported = self.account, self.totals, self._reported
        spent = totals.spent + self.counted[0] + account.used - reported[0]
        elsewhere = totals.held - reported[1]
        return self.limit - spent - account.held - (max(0, elsewhere))

    @property
    def held_elsewhere(self) -> int:
        """What other workers' running requests hold, as last heard. Their idle slices come back when needed."""
        return max(0, self.totals.held - self._reported[1])

    @property
    def unreported_spend(self) -> int:
        """What this worker settled since its last report."""
        return self.account.used - self._reported[0]

    @property
    def unreported_hold(self) -> int:
        """By how much its holds grew since; below zero when they shrank."""
        return self.account.held - self._reported[1]

    @property
    def unreported_overrun(self) -> int:
        """What settled above its holds since."""
        return self.account.overrun - self._reported[2]

    @property
    def free(self) -> int:
        """What this worker may take without asking, promised room taken off."""
        account = self.account
        return (account.limit or 0) - account.used - account.held - self.promised

    def has_room(self, need: int) -> bool:
        """Whether `need` fits the whole budget now, whatever this worker's slice has of it."""
        return not self.hard or self.spent + self.account.held + self.elsewhere + need <= self.limit

    def can_ever_fit(self, need: int) -> bool:
        """Whether `need` would fit if everything that is merely held came back."""
        return not self.hard or self.spent + need <= self.limit

    # -- asking -----------------------------------------------------------------------------------------------------

    def ask(self, now_s: float) -> LeaseAsk | None:
        """What to tell the store now, or None when it knows everything and nothing is wanted."""
        account = self.account
        self._drop_cancelled()
        self._learn_burn(now_s)
        # of what was promised, others may have taken some meanwhile: no more than is there can be kept for it
        kept = min(self.promised, max(0, self.free + self.promised)) if self.hard else 0
        held = account.held + kept
        needed = account.used + held
        target = self._target(needed, now_s) if self.hard else needed
        facts = (account.used, held, account.overrun)
        if self.heard and facts == self._reported and target == self.granted and not self.waiters:
            return None
        if self.hard and (self.waiters or target < self.granted):
            # what may go back must not be taken while the store is asked
            account.limit = max(account.used + account.held, needed if self.waiters else max(target, needed))
        self.heard = False  # until it is answered: an answer that is lost may have changed what the store knows
        self._seq += 1
        need = self.waiters[0].need if self.waiters else 0
        return LeaseAsk(
            self.budget_id,
            self.window,
            self.oldest,
            self._seq,
            account.used,
            held,
            target,
            self.granted,
            account.overrun,
            needed + need,
        )

    def apply(self, ask: LeaseAsk, grant: LeaseGrant, now_s: float) -> None:
        """Takes the answer to `ask` in, and tells who waits."""
        account = self.account
        self.heard = True
        self._reported = (ask.spent, ask.held, ask.overrun)
        self.granted = grant.granted
        self.totals, self.counted = grant.totals, grant.counted
        if grant.limit is not None:
            self.limit = grant.limit
        account.hard = self.hard
        account.limit = max(grant.granted, account.used + account.held) if self.hard else self.limit
        if grant.totals.calls > self._calls_seen:
            self._calls_seen = grant.totals.calls
            self._frugal_until_s = now_s + FRUGAL_S
        self.wake()

    def freeze(self, *, soft_too: bool = False) -> None:
        """Nothing more may be taken: the store was not heard for too long. Running requests settle. With `soft_too`
        soft budgets refuse until the store is heard again."""
        if self.hard or soft_too:
            self.account.limit = self.account.used + self.account.held
            self.account.hard = True

    def redefine(self, limit: int, *, hard: bool) -> None:
        """The budget has a new limit or mode. Running holds stay."""
        account = self.account
        if hard != self.hard or limit != self.limit:
            self.heard = False  # ask at once: room may have come or gone
        if hard and not self.hard:
            account.limit = self.granted = 0
        elif hard and limit < self.limit:
            account.limit = account.used + account.held  # the slice was granted under a limit that no longer holds
        elif not hard:
            account.limit = limit
        self.limit, self.hard = limit, hard
        account.hard = hard
        self.wake()

    @property
    def settled(self) -> bool:
        """Whether the store knows everything, has everything back, and nothing is open: a draining lease may go."""
        account = self.account
        told = self.heard and self._reported == (account.used, 0, account.overrun)
        return told and account.held == 0 and (not self.hard or self.granted <= account.used)

    def _target(self, needed: int, now_s: float) -> int:
        if self.draining:
            return needed
        needed += sum([waiter.need for waiter in self.waiters])
        if now_s < self._frugal_until_s or now_s - self._used_at_s > IDLE_AFTER_S:
            return needed
        left = self.limit - self.totals.granted - self.counted[1] + self.granted - needed
        slice_size = max(int(BURN_AHEAD_S * self._burn), self.limit // SMALLEST_SHARE)
        spare = max(0, min(slice_size, left // LARGEST_SHARE))
        if spare // 2 <= self.granted - needed <= spare * 2:
            return self.granted  # near enough: less traffic
        return needed + spare

    def _learn_burn(self, now_s: float) -> None:
        at_s, before = self._seen
        taken = self.account.used + self.account.held
        if taken != before:
            self._used_at_s = now_s
        if now_s - at_s >= 0.1:
            rate = max(0, taken - before) / (now_s - at_s)
            self._burn = rate if rate > self._burn else 0.7 * self._burn + 0.3 * rate
            self._seen = (now_s, taken)

    # -- waiting ----------------------------------------------------------------------------------------------------

    def enqueue(self, waiter: Waiter, *, first: bool = False) -> None:
        """Puts a request at the end of those that wait (`first`: at the front, since it waited before); `ask` will
        include its need."""
        if first:
            self.waiters.appendleft(waiter)
        else:
            self.waiters.append(waiter)
        self.account.on_free = self._freed

    def wake(self) -> None:
        """Tells those for whom there is room now, in order, and those for whom there can be none."""
        account = self.account
        self._drop_cancelled()
        while self.waiters:
            need = self.waiters[0].need
            if not self.hard or need <= self.free:
                waiter = self.waiters.popleft()
                waiter.promised = True
                self.promised += need
                waiter.answer(Answer.Room)
            elif not self.can_ever_fit(need):
                self.waiters.popleft().answer(Answer.Spent)
            else:
                break
        if not self.waiters:
            account.on_free = None

    def leave(self, waiter: Waiter) -> None:
        """The request goes on: it tries the hold now, or gives up."""
        waiter.tell = None
        if waiter.promised:
            waiter.promised = False
            self.promised -= waiter.need

    def fail(self) -> None:
        """Tells all who wait that the store cannot be asked."""
        self._tell_all(Answer.Failed)

    def retire(self) -> None:
        """Nothing more is taken here: another lease stands in its place, where those who wait may look again."""
        self.draining = True
        self.freeze()
        self._tell_all(Answer.Room)

    def _tell_all(self, answer: Answer) -> None:
        while self.waiters:
            self.waiters.popleft().answer(answer)
        self.account.on_free = None

    def _freed(self, _account: Account) -> None:
        self.wake()

    def _drop_cancelled(self) -> None:
        while self.waiters and self.waiters[0].tell is None:
            self.waiters.popleft()

    def __repr__(self) -> str:
        return f"<Lease {self.budget_id}@{self.window} {self.account!r} of {self.limit}>"
