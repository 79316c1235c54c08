"""One line of requests that wait for the same capacity: who tries next, who may overtake, and how long it takes.

Entry: `Line`: `enter`, `asks`, `next_to_try`, `out`; `wait_s` estimates. No tasks and no clock in here:
`WaitingRoom` brings both.
Laws: tenants in the order of their virtual token counters, within a tenant first come, first served; one tries at a
time. Where the first cannot be served yet, one of the next few may try before it, but only as long as that puts off the
first by no more than a tenth of its wait (it tries again after each overtaking, so this is measured), or, where nobody
knows when it will be served, only until as much cost has overtaken it as it asks for itself. Then all wait for it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from heapq import heappop, heapreplace
from itertools import chain, islice

from msgspec import Struct

from apikeyrouter.domain.quota.drain import Drain
from apikeyrouter.domain.quota.vtc import TokenCounters

__all__ = ["Line", "Ticket"]

_PUT_OFF = 0.1
"""Overtaking may make the wait of a request that cannot be served yet longer by this part of what it was told first.
More lets small requests by at every large one: with 0.25 s each, estimates for mixed sizes were off by half."""

_LOOK = 8
"""Of those who wait, so many are looked at when the first cannot be served: it bounds the tries for one event."""

_MODEST_S = 10.0
"""So long after a tenant that asks for less than its share was served, something is kept back for its next request."""

_MODEST_MAX = 1024
"""So many of them are known by name; of more, those who come back find what their counters give them."""

_SAMPLE = 64
"""An estimate looks at so many tenants."""

_DUE_S = 1e-6
"""Timers may come so early."""

_PAUSES_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25)
"""Whoever is told "now" and refused again waits so long, twice as long each time: a wrong time must not spin."""

_LAST_PAUSE = len(_PAUSES_S) - 1


class Ticket:
    """One request in a line. `cost`: weighed tokens, predicted. `limit_s`: it waits no longer (monotonic)."""

    __slots__ = (
        "asking",
        "cost",
        "epoch",
        "kind",
        "latest_s",
        "limit_s",
        "overtaken",
        "passed",
        "pauses",
        "recheck",
        "tenant",
        "try_at_s",
        "wants",
    )

    def __init__(self, tenant: str, cost: int, limit_s: float) -> None:
        self.tenant = tenant
        self.cost = cost
        self.limit_s = limit_s
        self.asking = False
        """It waits to be told to try."""
        self.try_at_s = -math.inf
        self.latest_s = math.inf
        """Overtaking may put it off until then; known when it stood first and was refused."""
        self.kind: int | None = None
        """Tickets that were found to need the same capacity have the same kind; None: it was not refused yet."""
        self.epoch = -1
        self.recheck = False
        self.overtaken = 0
        self.passed: list[Ticket] = []
        """Those who stood before it when it was told to try."""
        self.pauses = 0
        self.wants: tuple[str, str] | None = None
        """What it waits for, if that has a name: who overtakes it may not take that."""

    def lets_pass(self) -> bool:
        """Whether others may still try before it."""
        return self.overtaken < self.cost if self.try_at_s == math.inf else self.try_at_s <= self.latest_s


class _Queue:
    """What one tenant has waiting."""

    __slots__ = ("cost", "tickets", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.cost = 0
        self.tickets: OrderedDict[Ticket, None] = OrderedDict()


class _Scan(Struct, eq=False):
    """A look along a line, as far as it went. `candidates`: whom it did not look at yet; `passed`: those who let others
    try before them; `least`: by kind, the least cost that was refused."""

    epoch: int
    candidates: Iterator[Ticket]
    passed: list[Ticket] = []
    least: dict[int, int] = {}
    wake_at_s: float = math.inf


class Line:
    """See the module. `credit_s`: a tenant that asked for little goes first for what it was entitled to and did not use
    in so many seconds."""

    __slots__ = (
        "_credit_s", "_drain", "_kept_until_s", "_kinds", "_modest", "_queues", "_scanned", "counters", "epoch",
        "trying", "wake_at_s",
    )  # fmt: skip

    def __init__(self, credit_s: float) -> None:
        self.counters = TokenCounters()
        self.epoch = 0
        """Grows whenever capacity may have come back: whoever was refused before may try again."""
        self.trying: Ticket | None = None
        self.wake_at_s = math.inf
        """When somebody's time comes, as of the last `next_to_try`."""
        self._credit_s = credit_s
        self._drain = Drain()
        self._kept_until_s = -math.inf
        self._modest: dict[str, float] = {}
        self._kinds = 0
        self._scanned: _Scan | None = None
        self._queues: dict[str, _Queue] = {}

    @property
    def empty(self) -> bool:
        """Whether nobody waits."""
        return not self._queues

    def head(self) -> Ticket | None:
        """The first in line."""
        tenant = self.counters.first
        return None if tenant is None else next(iter(self._queues[tenant].tickets))

    def _heads(self, ticket: Ticket) -> bool:
        """Whether it is the first in line."""
        tenant = ticket.tenant
        return next(iter(self._queues[tenant].tickets)) is ticket and self.counters.first == tenant

    def waiting_of(self, tenant: str) -> int:
        """How many places a tenant has."""
        queue = self._queues.get(tenant)
        return len(queue.tickets) if queue is not None else 0

    def longest(self) -> tuple[float, Ticket] | None:
        """(places / weight, its newest ticket that can be turned away) of the tenant with most places for its
        weight."""
        found = max(self._queues.values(), key=lambda queue: len(queue.tickets) / queue.weight, default=None)
        if found is None:
            return None
        newest = next((ticket for ticket in reversed(found.tickets) if ticket.asking), None)
        return None if newest is None else (len(found.tickets) / found.weight, newest)

    def enter(self, ticket: Ticket, weight: float, now_s: float, *, first: bool = False) -> None:
        """Takes the last place of its tenant, or the first. Raises ValueError for a weight that is not above 0."""
        self.counters.join(ticket.tenant, weight)
        self._scanned = None
        queue = self._queues.get(ticket.tenant)
        if queue is None:
            self._drain.busy(now_s)
            queue = self._queues[ticket.tenant] = _Queue(weight)
        queue.weight = weight
        queue.cost += ticket.cost
        queue.tickets[ticket] = None
        if first:
            queue.tickets.move_to_end(ticket, last=False)
        ticket.epoch = self.epoch

    def asks(self, ticket: Ticket, try_at_s: float | None, now_s: float) -> None:
        """It wants to be told to try at `try_at_s` (None: only after events); when it tried just now, in vain."""
        at_s = math.inf if try_at_s is None else try_at_s
        if self.trying is ticket:
            self.trying = None
            pauses = ticket.pauses
            soonest_s = now_s + _PAUSES_S[pauses]
            if at_s < soonest_s:
                at_s = soonest_s
                if pauses < _LAST_PAUSE:
                    ticket.pauses = pauses + 1
            else:
                ticket.pauses = 0
        if at_s > now_s:
            ticket.kind = self._kind_of(ticket, at_s)
        ticket.asking = True
        ticket.recheck = False
        ticket.passed = []
        ticket.try_at_s = at_s
        if ticket.latest_s == math.inf and now_s < at_s < math.inf and self._heads(ticket):
            ticket.latest_s = min(at_s + _PUT_OFF * (at_s - now_s), (at_s + ticket.limit_s) / 2)

    def next_to_try(self, now_s: float) -> Ticket | None:
        """Whoever shall try now, if anybody: it is `trying` until `asks` or `out`. Sets `wake_at_s`."""
        if self.trying is not None:
            return None
        return self._scan(_Scan(self.epoch, self._candidates()), now_s)

    def next_after(self, ticket: Ticket, now_s: float) -> Ticket | None:
        """As `next_to_try`, where `ticket` was told to try at this very moment, and asked again: those that were seen
        before it are as they were, unless something happened that concerns all."""
        scan = self._scanned
        if scan is None or scan.epoch != self.epoch or self.trying is not None:
            return self.next_to_try(now_s)
        scan.candidates = chain((ticket,), scan.candidates)
        return self._scan(scan, now_s)

    def _scan(self, scan: _Scan, now_s: float) -> Ticket | None:
        wake_at_s, due_s, epoch = scan.wake_at_s, now_s + _DUE_S, scan.epoch
        passed, least = scan.passed, scan.least
        found = None
        for ticket in scan.candidates:
            kind = ticket.kind
            # whoever needs the same as one before it that was refused, and no less of it, need not try
            if not ticket.asking or (kind in least and ticket.cost >= least[kind]):
                continue
            at_s = ticket.try_at_s
            if at_s <= due_s or ticket.recheck or ticket.epoch < epoch:
                ticket.asking = False
                ticket.passed = passed
                self.trying = found = ticket
                break
            if at_s < wake_at_s:
                wake_at_s = at_s
            if not ticket.lets_pass():
                break
            passed.append(ticket)
            if kind is not None:
                least[kind] = ticket.cost  # less than it was, or there was none
        self.wake_at_s = scan.wake_at_s = wake_at_s
        self._scanned = None if found is None else scan
        return found

    def out(self, ticket: Ticket, now_s: float, *, served: bool) -> None:
        """It leaves the line, with what it asked for or without."""
        self._scanned = None  # what was seen holds those who leave, and where it stopped may be gone
        queue = self._queues[ticket.tenant]
        del queue.tickets[ticket]
        queue.cost -= ticket.cost
        ticket.asking = False
        if self.trying is ticket:
            self.trying = None
        if served:
            self._count(ticket, now_s)
        ticket.passed = []
        if not queue.tickets:
            del self._queues[ticket.tenant]
            count = self.counters.count_of(ticket.tenant)
            self.counters.leave(ticket.tenant)
            if not self._queues:
                self._drain.idle(now_s)
            elif count < self.counters.counts(1)[0][0]:  # it has all it asked for, and less than those who still wait
                self._asks_little(ticket.tenant, now_s)

    def keeps_back(self, tenant: str, now_s: float) -> bool:
        """Whether some tenant asked for less than its share a moment ago, and this one is none of them and has had its
        own."""
        if now_s >= self._kept_until_s or self._modest.get(tenant, -math.inf) > now_s:
            return False
        return self.counters.count_of(tenant) >= self.counters.level

    def ahead(self, tenant: str, weight: float) -> tuple[float, float]:
        """Cost that will be served before a request of this tenant that comes now: of those who wait now, and if the
        other tenants that wait go on asking all the time."""
        own = self._queues.get(tenant)
        own_cost = own.cost if own is not None else 0
        tag = self.counters.count_of(tenant) + own_cost / weight
        counts = self.counters.counts(_SAMPLE)
        least = most = 0.0
        for count, other in counts:
            if count > tag:
                break
            if other != tenant:
                queue = self._queues[other]
                mean = queue.cost / len(queue.tickets)
                # requests are served whole: half of one more on average, and a whole one where counts are equal
                cost = (tag - count) * queue.weight + (mean if count == tag else mean / 2)
                least += min(queue.cost, cost)
                most += cost
        scale = len(self.counters) / max(1, len(counts))
        return own_cost + least * scale, own_cost + most * scale

    def wait_s(self, now_s: float, cost: int, feasible_at_s: float | None, tenant: str, weight: float) -> float:
        """Seconds until a request that comes now is served: until it is feasible at all, and what stands ahead at the
        measured speed. 0 where nothing is known."""
        promised_s = self._promised_s()
        cost_per_s = self._drain.cost_per_s(now_s, promised_s)
        if feasible_at_s is None and -math.inf < promised_s < math.inf:
            feasible_at_s = promised_s  # what the first was told holds for others about as well
        wait_s = 0.0
        if feasible_at_s is None:
            if cost_per_s is not None:
                wait_s = cost / cost_per_s
        elif feasible_at_s > now_s:
            wait_s = feasible_at_s - now_s
        if not self._queues or cost_per_s is None:
            return wait_s
        least, most = self.ahead(tenant, weight)
        line_s = least / cost_per_s
        # those who come and go meanwhile slow the level down, which only its measured speed shows
        level_per_s = self._drain.level_per_s(now_s, promised_s)
        if level_per_s is not None:
            own = self._queues.get(tenant)
            distance = self._distance(tenant) + (own.cost / weight if own is not None else 0.0)
            line_s = max(line_s, min(most / cost_per_s, distance / level_per_s))
        return wait_s + line_s

    def _distance(self, tenant: str) -> float:
        """How far the least count has to rise until it is this tenant's turn."""
        return max(0.0, self.counters.count_of(tenant) - self.counters.counts(1)[0][0])

    def _candidates(self) -> Iterator[Ticket]:
        """`_LOOK` at the most, in the order in which they would be served if each had what it asks for: the second of a
        tenant that is far below its share comes before the first of one that is above."""
        if len(self._queues) == 1:
            (queue,) = self._queues.values()
            return islice(queue.tickets, _LOOK)
        return self._of_several()

    def _of_several(self) -> Iterator[Ticket]:
        counters = self.counters
        heap = []
        for turn, tenant in enumerate(counters.in_order(_LOOK)):
            queue = self._queues[tenant]
            heap.append((counters.count_of(tenant), turn, queue.weight, iter(queue.tickets)))  # sorted: a heap already
        for _ in range(_LOOK):
            count, turn, weight, tickets = heap[0]
            ticket = next(tickets, None)
            if ticket is not None:
                yield ticket
                heapreplace(heap, (count + ticket.cost / weight, turn, weight, tickets))
            else:
                heappop(heap)
                if not heap:
                    return

    def _kind_of(self, ticket: Ticket, at_s: float) -> int:
        """Asking for no less and getting no earlier time than one before it, it seems to need the same."""
        for other in ticket.passed:
            if other.kind is not None and ticket.cost >= other.cost and at_s >= other.try_at_s - _DUE_S:
                return other.kind
        if ticket.kind is None:
            self._kinds += 1
            return self._kinds
        return ticket.kind

    def _count(self, ticket: Ticket, now_s: float) -> None:
        before = self.counters.level
        self.counters.charge(ticket.tenant, ticket.cost)
        self._drain.served(now_s, ticket.cost, self.counters.level - before)
        if self._credit_s:
            self.counters.credit = self._credit_s * (self._drain.level_per_s(now_s) or 0.0)
        for other in ticket.passed:
            other.overtaken += ticket.cost
        if ticket.passed:
            ticket.passed[0].recheck = ticket.passed[0].try_at_s < math.inf

    def _asks_little(self, tenant: str, now_s: float) -> None:
        if len(self._modest) >= _MODEST_MAX:
            self._modest = {other: until_s for other, until_s in self._modest.items() if until_s > now_s}
        if len(self._modest) < _MODEST_MAX or tenant in self._modest:
            self._modest[tenant] = now_s + _MODEST_S
        self._kept_until_s = now_s + _MODEST_S

    def _promised_s(self) -> float:
        head = self.head()
        return head.try_at_s if head is not None else math.inf
