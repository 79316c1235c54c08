"""Virtual token counters: whose turn it is while requests of several tenants wait for the same capacity.

Entry: `TokenCounters`: `join` when a tenant begins to wait, `in_order` to see who is next, `charge` when it is served,
`correct` when the true cost is known, `leave` when it has nothing waiting any more.
Laws: a counter grows by cost / weight, and the least counter is next; whoever comes (back) starts no lower than the
level that the waiting have reached, so absence earns nothing beyond `credit`; between two tenants that both wait all
the time, service / weight differs by at most 2 x the dearest request / weight (+ `credit`); who serves whoever is next
never idles. Source: Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024 (arXiv 2401.00588), theorem
4.4. What is remembered of the absent is bounded.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import islice

__all__ = ["TokenCounters", "weighed_tokens"]

INPUT_WEIGHT = 1
OUTPUT_WEIGHT = 2
"""The paper's weights: an output token costs about twice an input token."""


def weighed_tokens(input_tokens: int, output_tokens: int) -> int:
    """The cost of a request in weighed tokens, at least 1; `output_tokens` is predicted at first, corrected later."""
    return max(1, INPUT_WEIGHT * input_tokens + OUTPUT_WEIGHT * output_tokens)


class _Counter:
    """One waiting tenant. `turn`: breaks ties; who was served last stands last."""

    __slots__ = ("count", "tenant", "turn", "weight")

    def __init__(self, tenant: str, weight: float, count: float, turn: int) -> None:
        self.tenant = tenant
        self.weight = weight
        self.count = count
        self.turn = turn


class TokenCounters:
    """Counters of one line. Counts are in cost / weight; less is served earlier.

    `credit`: how far below the level a tenant may start that did not ask for a while: 0 is the paper's rule; more lets
    those who ask little go first for that much, at the price of the same amount in the bound. Nobody starts below 0,
    where the first ever began: before that there was nothing to forgo. `idle_max`: absent
    tenants remembered at the most; beyond, those with the least debt are forgotten.
    Finding a tenant takes O(log n) comparisons; n is bounded by who waits, so the order is a sorted list.
    """

    __slots__ = (
        "_active",
        "_base",
        "_idle",
        "_idle_max",
        "_idle_order",
        "_order",
        "_turns",
        "credit",
        "level",
        "weights",
    )

    def __init__(self, *, credit: float = 0.0, idle_max: int = 256) -> None:
        self.credit = credit
        self.level = 0.0
        """The highest count that was the least among the waiting when somebody was served: it never falls."""
        self.weights = 0.0
        """The sum of weights of those who wait."""
        self._idle_max = idle_max
        self._active: dict[str, _Counter] = {}
        self._order: list[tuple[float, int, str]] = []
        self._idle: dict[str, float] = {}
        self._idle_order: list[tuple[float, str]] = []
        self._turns = 0

    def __len__(self) -> int:
        """Tenants that wait."""
        return len(self._active)

    @property
    def remembered(self) -> int:
        """Tenants that are absent and not forgotten."""
        return len(self._idle)

    @property
    def first(self) -> str | None:
        """Who is next; None: nobody waits."""
        return self._order[0][2] if self._order else None

    def in_order(self, most: int) -> Iterator[str]:
        """The first `most` waiting tenants, whoever is next first. Not to be used across changes."""
        return (tenant for _, _, tenant in islice(self._order, most))

    def counts(self, most: int) -> list[tuple[float, str]]:
        """At most `most` of the waiting with their counts, evenly picked from first to last."""
        step = max(1, -(-len(self._order) // most))
        return [(count, tenant) for count, _, tenant in self._order[::step]]

    def count_of(self, tenant: str) -> float:
        """Its count, or the one that it would start with now."""
        counter = self._active.get(tenant)
        return counter.count if counter is not None else self._start(tenant)

    def join(self, tenant: str, weight: float) -> None:
        """It has something waiting from now on. Raises ValueError for a weight that is not above 0.

        For one that waits already only the weight is taken over, for what is charged from now on.
        """
        if not weight > 0:
            raise ValueError(f"a tenant's weight must be above 0, got {weight} for {tenant!r}")
        counter = self._active.get(tenant)
        if counter is not None:
            self.weights += weight - counter.weight
            counter.weight = weight
            return
        start = self._start(tenant)
        self._idle.pop(tenant, None)
        self._turns += 1
        self._active[tenant] = _Counter(tenant, weight, start, self._turns)
        insort(self._order, (start, self._turns, tenant))
        self.weights += weight

    def leave(self, tenant: str) -> None:
        """It has nothing waiting any more; what it is ahead of the others is remembered as long as that matters."""
        counter = self._active.pop(tenant, None)
        if counter is None:
            return
        self._take_out(counter)
        self.weights = self.weights - counter.weight if self._active else 0.0
        if not self._active:
            self.level = max(self.level, counter.count)
        self._remember(tenant, counter.count)

    def charge(self, tenant: str, cost: float) -> None:
        """It is served now, for `cost`. Nothing happens for a tenant that does not wait."""
        counter = self._active.get(tenant)
        if counter is None:
            return
        self.level = max(self.level, self._order[0][0])  # also when somebody was served out of turn
        self._move(counter, counter.count + cost / counter.weight)
        self._forget()

    def correct(self, tenant: str, difference: float, weight: float) -> None:
        """A served request cost `difference` more (less: negative) than was charged for it. Forgotten tenants owe
        nothing."""
        counter = self._active.get(tenant)
        if counter is not None:
            self._move(counter, counter.count + difference / weight)
        elif tenant in self._idle:
            self._remember(tenant, self._idle.pop(tenant) + difference / weight)

    def _start(self, tenant: str) -> float:
        level = max(self.level, self._order[0][0]) if self._order else self.level
        floor = max(0.0, level - self.credit)
        known = self._idle.get(tenant)
        return floor if known is None or known < floor else known

    def _move(self, counter: _Counter, count: float) -> None:
        self._take_out(counter)
        self._turns += 1
        counter.count, counter.turn = count, self._turns
        insort(self._order, (count, self._turns, counter.tenant))

    def _take_out(self, counter: _Counter) -> None:
        del self._order[bisect_left(self._order, (counter.count, counter.turn, counter.tenant))]

    def _remember(self, tenant: str, count: float) -> None:
        if count <= max(0.0, self.level - self.credit):
            return  # it would start there anyway
        self._idle[tenant] = count
        if len(self._idle_order) > 2 * len(self._idle) + 64:
            self._idle_order = [(known, name) for name, known in self._idle.items()]
            heapify(self._idle_order)
        else:
            heappush(self._idle_order, (count, tenant))
        self._forget()

    def _forget(self) -> None:
        """Whoever is not above the level any more starts like a stranger, so nothing need be known of it."""
        floor = max(0.0, self.level - self.credit)
        order, idle = self._idle_order, self._idle
        while order and (order[0][0] <= floor or len(idle) > self._idle_max):
            count, tenant = heappop(order)
            if idle.get(tenant) == count:
                del idle[tenant]
