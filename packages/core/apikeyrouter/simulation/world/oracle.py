"""The oracle: sees what every pool really has left and what is broken, and waits when that pays.

Main entry: `run_oracle`. It goes through the run twice, once serving whoever came first (a later request that fits may
pass one that does not) and once the smallest first, and answers with the better of the two. No online policy is
provably best here (packing is hard), but both orders are work-conserving with perfect knowledge of the present.
Laws: it never sends what would be refused; what it sends counts like everybody's.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from apikeyrouter.simulation.world.engine import DEADLINE_S, bad_requests
from apikeyrouter.simulation.world.provider import Answer, Provider
from apikeyrouter.simulation.world.run import Run
from apikeyrouter.simulation.world.spec import World
from apikeyrouter.simulation.world.traffic import Traffic

__all__ = ["run_oracle"]

_TICK_S = 0.02
_TRIED_PER_TICK = 64
_ATTEMPTS_MAX = 4


@dataclass(slots=True)
class _Waiting:
    number: int
    tokens: int
    attempts: int = 0


class _Oracle:
    def __init__(self, world: World, run: Run, provider: Provider, deadline_s: float, *, smallest_first: bool) -> None:
        self._run = run
        self._provider = provider
        self._deadline_s = deadline_s
        self._smallest_first = smallest_first
        self._bad = bad_requests(world, len(run.traffic), run.seed)
        self._waiting: list[_Waiting] = []
        self._replies: list[tuple[float, int, _Waiting, Answer, float]] = []
        self._key_of_pool: dict[int, int] = {}
        for key in reversed(provider.keys):
            if not key.dead:
                self._key_of_pool[key.pool] = key.number

    def go(self) -> None:
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
                self._waiting.append(
                    _Waiting(number, self._run.traffic.inputs[number] + self._run.traffic.outputs[number])
                )
                number += 1
            if self._waiting:
                self._serve(now_s)

    def _serve(self, now_s: float) -> None:
        self._provider.catch_up(now_s)
        order = sorted(self._waiting, key=lambda one: one.tokens) if self._smallest_first else self._waiting
        left: list[_Waiting] = []
        missed = 0
        for one in order:
            if now_s > self._run.traffic.at_s[one.number] + self._deadline_s:
                self._run.failed(one.number, now_s, "deadline")
            elif missed >= _TRIED_PER_TICK or not self._send(now_s, one):
                missed += 1
                left.append(one)
        left.sort(key=lambda one: one.number)
        self._waiting = left

    def _send(self, now_s: float, one: _Waiting) -> bool:
        provider, traffic = self._provider, self._run.traffic
        inputs, outputs = traffic.inputs[one.number], traffic.outputs[one.number]
        best, key = (-1.0, -1.0), None
        for number, pool in enumerate(provider.pools):
            if pool.health or number not in self._key_of_pool:
                continue
            room = pool.room(now_s, pool.needs(inputs, outputs, traffic.cap))
            # Healthy pools before gray ones; else the level that is highest afterwards: water-filling.
            rank = (1.0 - pool.gray_ratio, room)
            if room >= 0 and rank > best:
                best, key = rank, self._key_of_pool[number]
        if key is None:
            return False
        answer = provider.arrive(now_s, key, inputs, outputs, traffic.cap, bad=one.number in self._bad)
        self._run.sent(one.number, now_s, answer)
        one.attempts += 1
        heapq.heappush(self._replies, (now_s + answer.end_s, one.number, one, answer, now_s))
        return True

    def _reply(self, one: _Waiting, answer: Answer, sent_s: float, *, now_s: float) -> None:
        if answer.status == 200 and not answer.breaks:
            self._run.succeeded(one.number, sent_s, sent_s + answer.first_s, now_s)
        elif answer.status in (200, 400) or one.attempts >= _ATTEMPTS_MAX:
            self._run.failed(one.number, now_s, str(answer.status))
        else:
            self._waiting.append(one)


def run_oracle(world: World, traffic: Traffic, *, seed: int, deadline_s: float = DEADLINE_S) -> Run:
    """The better of two orders; see above."""
    runs = []
    for smallest_first in (False, True):
        provider = Provider(world, seed, traffic.sizes[:4096])
        run = Run("oracle", traffic, seed)
        _Oracle(world, run, provider, deadline_s, smallest_first=smallest_first).go()
        runs.append(run)
    return max(runs, key=lambda run: sum(run.served))
