"""Runs a baseline policy against a provider: a heap of events, no tasks, no sockets.

Main entry: `run_policy`. Laws: events happen in order of time, then of creation; a request is sent at most
`attempts_max` times, never later than `deadline_s` after its arrival, and ends exactly once.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from apikeyrouter.simulation.world.policies import KeyView, Policy
from apikeyrouter.simulation.world.provider import Answer, Provider
from apikeyrouter.simulation.world.run import Run
from apikeyrouter.simulation.world.spec import World
from apikeyrouter.simulation.world.traffic import Traffic

__all__ = ["DEADLINE_S", "bad_requests", "key_views", "run_policy"]

DEADLINE_S = 10.0
"""A request must be on its way by then, or it has failed. Reference 2.9."""


def key_views(world: World) -> list[KeyView]:
    """The keys as their operator knows them: a pool's limits, shared out among its keys."""
    pools = [pool for pool in world.pools for _ in range(pool.keys)]
    return [
        KeyView(
            number,
            None if pool.rpm is None else pool.rpm / pool.keys,
            None if pool.tpm is None else pool.tpm / pool.keys,
            pool.usd_per_mtok,
        )
        for number, pool in enumerate(pools)
    ]


def bad_requests(world: World, count: int, seed: int) -> frozenset[int]:
    """The numbers of the requests that are the client's own fault."""
    if world.bad_ratio <= 0:
        return frozenset()
    rng = Random(seed * 6007 + 5)
    return frozenset(number for number in range(count) if rng.random() < world.bad_ratio)


@dataclass(slots=True)
class _Open:
    number: int
    tried: set[int] = field(default_factory=set)
    attempts: int = 0


class _Engine:
    def __init__(self, world: World, policy: Policy, run: Run, provider: Provider, deadline_s: float) -> None:
        self.policy = policy
        self.run = run
        self.provider = provider
        self.deadline_s = deadline_s
        self.bad = bad_requests(world, len(run.traffic), run.seed)
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def push(self, at_s: float, do: Callable[..., None], *arguments: Any) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at_s, self._count, do, arguments))

    def go(self) -> None:
        heap = self._heap
        for number, at_s in enumerate(self.run.traffic.at_s):
            while heap and heap[0][0] <= at_s:
                due_s, _, do, arguments = heapq.heappop(heap)
                do(due_s, *arguments)
            self._try(at_s, _Open(number))
        while heap:
            due_s, _, do, arguments = heapq.heappop(heap)
            do(due_s, *arguments)

    def _try(self, now_s: float, request: _Open) -> None:
        number, traffic, policy = request.number, self.run.traffic, self.policy
        if now_s > traffic.at_s[number] + self.deadline_s:
            self.run.failed(number, now_s, "deadline")
            return
        inputs, outputs = traffic.inputs[number], traffic.outputs[number]
        key = policy.pick(now_s, inputs, request.tried)
        request.attempts += 1
        if key is None:
            self._again(now_s, request, "nobody left", None)
            return
        answer = self.provider.arrive(now_s, key, inputs, outputs, traffic.cap, bad=number in self.bad)
        self.run.sent(number, now_s, answer)
        policy.sent(now_s, key, inputs)
        self.push(now_s + answer.end_s, self._reply, request, key, answer, now_s)

    def _reply(self, now_s: float, request: _Open, key: int, answer: Answer, sent_s: float) -> None:
        number, traffic = request.number, self.run.traffic
        status = 502 if answer.breaks else answer.status
        used = traffic.inputs[number] + traffic.outputs[number] if answer.status == 200 else 0
        hint_s = answer.retry_after_s
        self.policy.ended(now_s, key, status, took_s=now_s - sent_s, tokens=used, hint_s=hint_s)
        if status == 200:
            self.run.succeeded(number, sent_s, sent_s + answer.first_s, now_s)
            provider = self.provider
            if not provider.one_price:
                self.run.regret_usd += provider.regret_usd(
                    now_s, answer.pool, traffic.inputs[number], traffic.outputs[number], traffic.cap
                )
        elif answer.breaks or status == 400:
            self.run.failed(number, now_s, str(status))
        else:
            request.tried.add(key)
            self._again(now_s, request, str(status), hint_s)

    def _again(self, now_s: float, request: _Open, reason: str, hint_s: float | None) -> None:
        if request.attempts >= self.policy.attempts_max:
            self.run.failed(request.number, now_s, reason)
            return
        pause_s = self.policy.pause_s(now_s, request.attempts, hint_s)
        if pause_s is None or now_s + pause_s > self.run.traffic.at_s[request.number] + self.deadline_s:
            self.run.failed(request.number, now_s, reason)
        elif pause_s > 0:
            self.push(now_s + pause_s, self._try, request)
        else:
            self._try(now_s, request)


def run_policy(
    name: str,
    make: Callable[[Sequence[KeyView], Random], Policy],
    world: World,
    traffic: Traffic,
    *,
    seed: int,
    deadline_s: float = DEADLINE_S,
) -> Run:
    """One policy through one world."""
    provider = Provider(world, seed, traffic.sizes[:4096])
    run = Run(name, traffic, seed)
    policy = make(key_views(world), Random(seed * 15_485_863 + 3))
    _Engine(world, policy, run, provider, deadline_s).go()
    return run
