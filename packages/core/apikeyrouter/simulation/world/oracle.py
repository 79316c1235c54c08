"""The oracle: sees what every pool really has left and what is broken, and waits when that pays.

Main entry: `run_oracle`. It goes through the run twice, once serving whoever came first (a later request that fits may
pass one that does not) and once the smallest first, and answers with the better of the two. No online policy is
provably best here (packing is hard), but both orders are work-conserving with perfect knowledge of the present.
Laws: it never sends what would be refused; what it sends counts like everybody's.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from apikeyrouter.simulation.world.engine import DEADLINE_S, bad_requests
from apikeyrouter.simulation.world.pool import Pool
from apikeyrouter.simulation.world.provider import Answer, Provider
from apikeyrouter.simulation.world.run import Run
from apikeyrouter.simulation.world.spec import World
from apikeyrouter.simulation.world.traffic import Traffic

__all__ = ["Oracle", "View", "Waiting", "run_oracle"]

_TICK_S = 0.02
_ATTEMPTS_MAX = 4


@dataclass(slots=True)
class Waiting:
    """A request that was not sent yet, or was refused."""

    number: int
    tokens: int
    needs: tuple[int, int, int, int]
    attempts: int = 0


class View:
    """What a pool has free at one moment, read once. `key`: the number of one of its keys."""

    __slots__ = ("_free", "key", "pool")

    def __init__(self, pool: Pool, key: int, now_s: float) -> None:
        self.pool = pool
        self.key = key
        self._free: list[tuple[int, float, float]] = []
        self.look(now_s)

    def look(self, now_s: float) -> None:
        """Reads it anew."""
        self.read([(which, limiter.free(now_s), limiter.capacity) for which, limiter in self.pool.numbered], now_s)

    def read(self, free: list[tuple[int, float, float]], now_s: float) -> None:
        """`free`: (limit, what is free, capacity); the slots are seen."""
        slots = self.pool.slots
        self._free = free
        if slots is not None and slots.free(now_s) < 1:
            self._free.append((0, 0.0, 1.0))

    def room(self, needs: tuple[int, int, int, int]) -> float:
        """The least share of a limit that is left after `needs`; negative when it does not fit."""
        least = 1.0
        for which, free, capacity in self._free:
            share = (free - needs[which]) / capacity
            if share < least:
                least = share
        return least


class Oracle:
    """One run. `views` and `arrived` are what another knowledge of the pools changes."""

    def __init__(self, world: World, run: Run, provider: Provider, deadline_s: float, *, smallest_first: bool) -> None:
        self._run = run
        self._provider = provider
        self._deadline_s = deadline_s
        self._smallest_first = smallest_first
        self._bad = bad_requests(world, len(run.traffic), run.seed)
        self._waiting: list[Waiting] = []
        # With limits on requests and all tokens only, what is larger than something that does not fit cannot fit.
        self._by_total = all(pool.itpm is None and pool.otpm is None for pool in world.pools)
        self._replies: list[tuple[float, int, Waiting, Answer, float]] = []
        self._key_of_pool: dict[int, int] = {}
        for key in reversed(provider.keys):
            if not key.dead:
                self._key_of_pool[key.pool] = key.number

    def go(self) -> None:
        """The whole run."""
        at_s, number, now_s = self._run.traffic.at_s, 0, 0.0
        count = len(at_s)
        while number < count or self._waiting or self._replies:
            due = [at_s[number]] if number < count else []
            if self._waiting:
                due.append(now_s + _TICK_S)
            if self._replies:
                due.append(self._replies[0][0])
            now_s = max(now_s, min(due))
            while self._replies and self._replies[0][0] <= now_s:
                self._reply(*heapq.heappop(self._replies)[2:], now_s=now_s)
            while number < count and at_s[number] <= now_s:
                inputs, outputs = self._run.traffic.inputs[number], self._run.traffic.outputs[number]
                needs = self._provider.pools[0].needs(inputs, outputs, self._run.traffic.cap)
                self._waiting.append(Waiting(number, inputs + outputs, needs))
                number += 1
            if self._waiting:
                self._serve(now_s)

    def views(self, now_s: float) -> list[View]:
        """The pools that work."""
        return [
            View(pool, self._key_of_pool[number], now_s)
            for number, pool in enumerate(self._provider.pools)
            if not pool.health and number in self._key_of_pool
        ]

    def arrived(self, now_s: float, one: Waiting, pool: Pool, answer: Answer) -> None:
        """A request was sent, and judged."""

    def _serve(self, now_s: float) -> None:
        self._provider.catch_up(now_s)
        views = self.views(now_s)
        at_s = self._run.traffic.at_s
        left: list[Waiting] = []
        least_missed = math.inf
        for one in sorted(self._waiting, key=lambda one: one.tokens) if self._smallest_first else self._waiting:
            if now_s > at_s[one.number] + self._deadline_s:
                self._run.failed(one.number, now_s, "deadline")
            elif (self._by_total and one.needs[3] >= least_missed) or not self._send(now_s, one, views):
                least_missed = min(least_missed, one.needs[3])
                left.append(one)
        self._waiting = sorted(left, key=lambda one: one.number) if self._smallest_first else left

    def _send(self, now_s: float, one: Waiting, views: list[View]) -> bool:
        best, chosen = (-1.0, -1.0), None
        for view in views:
            room = view.room(one.needs)
            # Healthy pools before gray ones; else the level that is highest afterwards: water-filling.
            if room >= 0 and (1.0 - view.pool.gray_ratio, room) > best:
                best, chosen = (1.0 - view.pool.gray_ratio, room), view
        if chosen is None:
            return False
        provider, traffic, number = self._provider, self._run.traffic, one.number
        inputs, outputs = traffic.inputs[number], traffic.outputs[number]
        answer = provider.arrive(now_s, chosen.key, inputs, outputs, traffic.cap, bad=number in self._bad)
        self.arrived(now_s, one, chosen.pool, answer)
        chosen.look(now_s)
        self._run.sent(number, now_s, answer)
        one.attempts += 1
        heapq.heappush(self._replies, (now_s + answer.end_s, number, one, answer, now_s))
        return True

    def _reply(self, one: Waiting, answer: Answer, sent_s: float, *, now_s: float) -> None:
        if answer.status == 200 and not answer.breaks:
            self._run.succeeded(one.number, sent_s, sent_s + answer.first_s, now_s)
        elif answer.status in (200, 400) or one.attempts >= _ATTEMPTS_MAX:
            self._run.failed(one.number, now_s, str(answer.status))
        else:
            self._waiting.append(one)


def run_oracle(
    world: World, traffic: Traffic, *, seed: int, deadline_s: float = DEADLINE_S, order: str | None = None
) -> Run:
    """The better of two orders (see above), or one of them: "arrival" or "smallest"."""
    runs = []
    for one in ("arrival", "smallest") if order is None else (order,):
        provider = Provider(world, seed, traffic.sizes[:4096])
        run = Run("oracle" if order is None else f"oracle-{order}", traffic, seed)
        Oracle(world, run, provider, deadline_s, smallest_first=one == "smallest").go()
        runs.append(run)
    return max(runs, key=lambda run: sum(run.served))
