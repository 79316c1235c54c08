"""The oracle that is blind to others: the most that a router could know, where others use the same accounts unseen.

It knows limits, kinds of buckets, its own requests and what they will use, and what is broken, all exactly; of others
only their statistics (rate and sizes), never when they come. What is left it is told as replies tell it: exactly, as of
the moment when the request was judged, when the reply begins. Between two replies it believes a cloud of levels
(`_Belief`): as many possible worlds, in each of which others come at random.

Main entry: `run_blind`. A request is sent where it fits in at least a share of the worlds; of several shares the answer
is the best run, chosen in hindsight. Requests go in the order of arrival, smaller ones past those that do not fit (the
smallest first did worse on every cell tried). That is no proven upper bound, for the best policy under uncertainty is
not computable here; but every run is one that somebody with this knowledge could have made.
Laws: nothing of a pool is read but through replies; limits that are not buckets are refused, not guessed (ValueError).
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from random import Random

from apikeyrouter.simulation.world.engine import DEADLINE_S
from apikeyrouter.simulation.world.oracle import Oracle, View, Waiting
from apikeyrouter.simulation.world.pool import Needs, Pool, foreign_rate
from apikeyrouter.simulation.world.provider import Answer, Provider
from apikeyrouter.simulation.world.run import Run
from apikeyrouter.simulation.world.spec import Enforcement, World
from apikeyrouter.simulation.world.traffic import Traffic

__all__ = ["SHARES", "run_blind"]

SHARES = (0.5, 0.7, 0.85, 0.95)
"""In so many of the possible worlds a request must fit to be sent."""

_WORLDS = 20


class _Belief:
    """What a pool may have left. `levels`: by possible world, then by limit as in `Pool.numbered`."""

    __slots__ = (
        "_at_s", "_capacities", "_following_s", "_pool", "_rate", "_rates_per_s", "_refused_count", "_requests", "_rng",
        "_seen_s", "_sent", "_sizes", "_whiches", "levels",
    )  # fmt: skip

    def __init__(self, pool: Pool, world: World, sizes: Sequence[tuple[int, int]], rng: Random) -> None:
        self._pool = pool
        self._whiches = [which for which, _ in pool.numbered]
        self._capacities = [limiter.capacity for _, limiter in pool.numbered]
        self._rates_per_s = [limiter.limit / 60.0 for _, limiter in pool.numbered]
        self._refused_count = world.refused_count
        self._requests = self._whiches.index(0) if 0 in self._whiches else None
        self._rate = foreign_rate(pool.spec, world.foreign_ratio, sizes)
        self._sizes = sizes
        self._rng = rng
        self._sent: deque[tuple[float, Needs]] = deque()
        self._at_s = 0.0
        self._seen_s = -math.inf
        self.levels = [list(self._capacities) for _ in range(_WORLDS if self._rate else 1)]
        self._following_s = [self._next(0.0) for _ in self.levels]

    def advance(self, now_s: float) -> None:
        """Time goes by in every world."""
        for number, levels in enumerate(self.levels):
            at_s = self._at_s
            while self._following_s[number] <= now_s:
                came_s = self._following_s[number]
                self._refill(levels, came_s - at_s)
                at_s = came_s
                inputs, outputs = self._sizes[self._rng.randrange(len(self._sizes))]
                self._judge(levels, self._pool.needs(inputs, outputs, outputs))
                self._following_s[number] = self._next(came_s)
            self._refill(levels, now_s - at_s)
        self._at_s = now_s

    def sent(self, needs: Needs, now_s: float) -> None:
        """One of our own requests leaves. It is let in where it fits."""
        self.advance(now_s)
        self._sent.append((now_s, needs))
        for levels in self.levels:
            self._judge(levels, needs)

    def told(self, sent_s: float, left: Sequence[float], now_s: float) -> None:
        """A reply says what was left after its request was judged."""
        if sent_s < self._seen_s:
            return
        self._seen_s = self._at_s = sent_s
        while self._sent and self._sent[0][0] <= sent_s:
            self._sent.popleft()
        self.levels = [list(left) for _ in self.levels]
        self._following_s = [self._next(sent_s) for _ in self.levels]
        for at_s, needs in self._sent:
            self.advance(at_s)
            for levels in self.levels:
                self._judge(levels, needs)
        self.advance(now_s)

    def free(self, share: float) -> list[tuple[int, float, float]]:
        """(limit, what is free in that share of the worlds, capacity)."""
        place = int((1.0 - share) * len(self.levels))
        return [
            (which, sorted(levels[number] for levels in self.levels)[place], self._capacities[number])
            for number, which in enumerate(self._whiches)
        ]

    def _next(self, now_s: float) -> float:
        return now_s + self._rng.expovariate(self._rate) if self._rate else math.inf

    def _refill(self, levels: list[float], elapsed_s: float) -> None:
        for place, rate_per_s in enumerate(self._rates_per_s):
            level = levels[place] + elapsed_s * rate_per_s
            capacity = self._capacities[place]
            levels[place] = min(capacity, level)

    def _judge(self, levels: list[float], needs: Needs) -> None:
        for place, which in enumerate(self._whiches):
            if needs[which] > levels[place]:
                if self._refused_count and self._requests is not None:
                    levels[self._requests] = max(min(0.0, levels[self._requests]), levels[self._requests] - 1.0)
                return
        for place, which in enumerate(self._whiches):
            levels[place] -= needs[which]


class _BlindView(View):
    """What is believed to be free in a pool."""

    __slots__ = ("belief", "share")

    def __init__(self, pool: Pool, key: int, belief: _Belief, share: float, now_s: float) -> None:
        self.belief = belief
        self.share = share
        super().__init__(pool, key, now_s)

    def look(self, now_s: float) -> None:
        self.belief.advance(now_s)
        self.read(self.belief.free(self.share), now_s)


class _Blind(Oracle):
    def __init__(self, world: World, run: Run, provider: Provider, deadline_s: float, share: float) -> None:
        super().__init__(world, run, provider, deadline_s, smallest_first=False)
        self._share = share
        sizes = run.traffic.sizes[:4096]
        self._beliefs = [
            _Belief(pool, world, sizes, Random(run.seed * 7753 + number)) for number, pool in enumerate(provider.pools)
        ]
        self._told: list[tuple[float, int, int, float, list[float]]] = []
        self._place = {id(pool): number for number, pool in enumerate(provider.pools)}

    def views(self, now_s: float) -> list[View]:
        while self._told and self._told[0][0] <= now_s:
            _, _, number, sent_s, left = heapq.heappop(self._told)
            self._beliefs[number].told(sent_s, left, now_s)
        return [
            _BlindView(view.pool, view.key, self._beliefs[self._place[id(view.pool)]], self._share, now_s)
            for view in super().views(now_s)
        ]

    def arrived(self, now_s: float, one: Waiting, pool: Pool, answer: Answer) -> None:
        number = self._place[id(pool)]
        self._beliefs[number].sent(one.needs, now_s)
        if answer.status in (200, 429):
            left = [limiter.free(now_s) for _, limiter in pool.numbered]
            heapq.heappush(self._told, (now_s + answer.first_s, one.number, number, now_s, left))


def run_blind(
    world: World,
    traffic: Traffic,
    *,
    seed: int,
    deadline_s: float = DEADLINE_S,
    shares: Sequence[float] = SHARES,
) -> Run:
    """The best run of this knowledge (see above). Raises ValueError where limits are no buckets, or without shares."""
    if world.enforcement is not Enforcement.Bucket:
        raise ValueError("the blind oracle knows token buckets only; ask the seeing one about other windows")
    best: Run | None = None
    for share in shares if world.foreign_ratio > 0 else shares[:1]:
        provider = Provider(world, seed, traffic.sizes[:4096])
        run = Run("oracle-blind", traffic, seed)
        _Blind(world, run, provider, deadline_s, share).go()
        if best is None or sum(run.served) > sum(best.served):
            best = run
    if best is None:
        raise ValueError("the blind oracle needs a share of the worlds to go by")
    return best
