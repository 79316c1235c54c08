"""The production router in a simulated world: its pipeline, ledger, key states and statistics, over a `Transport` that
asks the provider model instead of a network.

Main entry: `run_ours`. Bodies are shared between requests of about the same length (what the router reads of a body is
its size, and a shared one is sized once), four bytes a token give or take a tenth, and prices are those of the keys;
nothing else is simplified.
Laws: the same world, traffic and seed give the same run; what goes wrong inside the router is written down as a
violation, not lost.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

from apikeyrouter.domain.cost.input_bound import InputBound, tight_input_bound
from apikeyrouter.domain.cost.lengths import template_of
from apikeyrouter.domain.errors import NoEligibleKeysError, SystemError
from apikeyrouter.domain.interfaces.price_source import ModelPrice
from apikeyrouter.domain.interfaces.transport import HttpReply, HttpRequest, SendPhase, TransportError
from apikeyrouter.domain.models.call import Call, Operation, Peek, Tenant, peek
from apikeyrouter.domain.routing.explain import DecisionRecord
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.infrastructure.adapters.openai_adapter import OpenAIAdapter
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter.simulation.world.checks import Watch
from apikeyrouter.simulation.world.engine import DEADLINE_S, bad_requests
from apikeyrouter.simulation.world.loop import WorldLoop, run_world, settle
from apikeyrouter.simulation.world.provider import Provider
from apikeyrouter.simulation.world.run import Run
from apikeyrouter.simulation.world.spec import PoolSpec, World
from apikeyrouter.simulation.world.traffic import Traffic
from apikeyrouter.simulation.world.wire import (
    MODEL,
    WorldReply,
    reply_body,
    reply_headers,
    request_body,
)

__all__ = ["Ours", "run_ours"]

_log = logging.getLogger("apikeyrouter")
_BYTES_PER_TOKEN = 4.0
_STEP = 1.03
_NUMBER = b"x-world-request"
_CHAT = Operation.Chat  # a member of an enum class costs five times a global
_AFTER_S = 3600.0
_RENDERED_ONE_IN = 16


@dataclass(frozen=True, slots=True)
class Ours:
    """How our router is set up. `objective`: None for its default; `settings`: of `RouterSettings`; `check`: whether
    laws are checked on the way; `weights`: of tenants, by number, 1 for others; `come_back`: whether refused clients
    ask once more at the time that they were told (they count as failed all the same)."""

    objective: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    check: bool = False
    weights: dict[int, float] = field(default_factory=dict)
    come_back: bool = False


def run_ours(
    world: World, traffic: Traffic, *, seed: int, deadline_s: float = DEADLINE_S, ours: Ours | None = None
) -> Run:
    """The production router through one world."""
    chosen = ours or Ours()
    run = Run("ours" if chosen.objective is None else f"ours-{chosen.objective}", traffic, seed)
    provider = Provider(world, seed, traffic.sizes[:4096])
    limit_s = traffic.at_s[-1] + deadline_s + _AFTER_S if len(traffic) else _AFTER_S
    level = _log.level
    try:
        run_world(_Drive(world, run, provider, deadline_s, chosen).go(), limit_s=limit_s)
    finally:
        _log.setLevel(level)  # the router of the run was told to be quiet, others in this process were not
    return run


class _Transport:
    """The network, as the router sees it."""

    def __init__(self, drive: _Drive) -> None:
        self._drive = drive

    def send(self, request: HttpRequest) -> Coroutine[Any, Any, HttpReply]:
        """See `Transport.send`."""
        drive = self._drive
        headers = request.headers
        name, number = headers[-2]  # the content type is behind it
        if name != _NUMBER:
            number = next(value for name, value in reversed(headers) if name == _NUMBER)
        return drive.send(int(number), drive.key_of[headers[0][1]], request)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""


class _NoList:
    """A price list without models. The simulated one is in no list, and looking for it would load the whole catalogue:
    50 ms of the first run of a process."""

    def price(self, provider_id: str, model: str) -> ModelPrice | None:  # noqa: ARG002 - as the protocol has it
        """See `PriceSource.price`."""
        return None


class _Drive:
    def __init__(self, world: World, run: Run, provider: Provider, deadline_s: float, ours: Ours) -> None:
        self.world = world
        self.run = run
        self.provider = provider
        self.deadline_s = deadline_s
        self.ours = ours
        self.key_of: dict[bytes, int] = {}
        self._traffic = run.traffic
        self._bad = bad_requests(world, len(run.traffic), run.seed)
        self._sent_s = [0.0] * len(run.traffic)
        self._rng = Random(run.seed * 32_452_843 + 11)
        self._bodies: dict[int, tuple[Peek, tuple[bytes, str, InputBound, str]]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._watch: Watch | None = None
        self._returning = 0
        tenants = set(run.traffic.tenants)
        self._tenants = {n: Tenant(f"tenant-{n}", weight=ours.weights.get(n, 1.0)) for n in tenants}
        self._tags = {n: {"virtual_key": f"tenant-{n}"} if len(tenants) > 1 else {} for n in tenants}

    async def go(self) -> None:
        """The whole run."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, WorldLoop):
            raise TypeError("a world runs on its own loop; use run_world")
        self.loop = loop
        self.clock = loop.clock
        router = self.router = ApiKeyRouter(
            config={"decision_log_max": 1, "log_level": "CRITICAL", **self.ours.settings},
            transport=_Transport(self),
            clock=self.clock,
            price_source=_NoList(),
            rng=Random(self.run.seed * 49_979_687 + 13),
            environ={},
        )
        await self._register(router)
        self._objective: Objective = router.objective(self.ours.objective)
        if self.ours.check:
            self._watch = Watch(router, self.run)
        self._start_s = loop.time()
        self._done = loop.create_future()
        if len(self._traffic):
            loop.at(self._start_s + self._traffic.at_s[0], self._arrive, 0)
            await self._done
        await router.aclose()
        if self._watch is not None:
            self._watch.at_rest()

    async def _register(self, router: ApiKeyRouter) -> None:
        number = 0
        for name in dict.fromkeys(pool.provider for pool in self.world.pools):
            await router.register_provider(name, OpenAIAdapter("http://127.0.0.1/v1", claims_all=True))
        for pool in self.world.pools:
            for place in range(pool.keys):
                material = f"key-{pool.name}-{place:05d}-{number:07d}"
                await router.register_key(material, pool.provider, _metadata(pool, self.world), f"{pool.name}/{place}")
                self.key_of[b"Bearer " + material.encode()] = number
                number += 1

    def _arrive(self, number: int) -> None:
        # one name for all: asyncio makes up a new one for each without any
        self._tasks[number] = asyncio.Task(self._one(number), loop=self.loop, name="request")
        following = number + 1
        if following < len(self._traffic):
            self.loop.at(self._start_s + self._traffic.at_s[following], self._arrive, following)

    def _body(self, tokens: int) -> tuple[Peek, tuple[bytes, str, InputBound, str]]:
        """A body of about the right length, shared by those that differ by less than 3 %, and what is read of it."""
        size = tokens * _BYTES_PER_TOKEN * self._rng.gauss(1.0, 0.1)
        if size < 8.0:
            size = 8.0
        step = round(math.log(size, _STEP))
        found = self._bodies.get(step)
        if found is None:
            body = request_body(round(_STEP**step), self._traffic.cap)
            peeked = peek(body)
            sized = (body, MODEL, tight_input_bound(body, MODEL), template_of(peeked.messages, peeked.tools))
            found = self._bodies[step] = (peeked, sized)
        return found

    async def _one(self, number: int) -> None:
        run, watch = self.run, self._watch
        told_s = None
        try:
            reply = await self.router.serve(self._call(number), self._objective)
        except SystemError as error:
            told_s = error.retry_after
            run.failed(number, self._now_s(), _reason(error), told_s)
            if told_s is not None:
                run.told_true.append((told_s, self._true_wait_s(number)))
            if watch is not None and error.decision is not None:
                watch.decided(number, error.decision)
        except Exception as fault:  # noqa: BLE001 - a fault of ours is what this is looking for
            run.failed(number, self._now_s(), type(fault).__name__)
            run.violations.append(f"request {number} ended in {type(fault).__name__}: {fault}")
        else:
            self._served(number, reply.record)
        if told_s is not None and self.ours.come_back:
            await self._come_back(number, told_s)
        del self._tasks[number]
        if not run.open and not self._returning:
            self._done.set_result(None)

    def _call(self, number: int) -> Call:
        now_s = self.loop.time()
        tenant = self._traffic.tenants[number]
        peeked, sized = self._body(self._traffic.inputs[number])
        call = Call(  # by position: what has names takes twice as long
            f"req_{number}",
            _CHAT,
            MODEL,
            sized[0],
            peeked,
            now_s,
            now_s + self.deadline_s,
            None,
            [(_NUMBER, b"%d" % number)],
            self._tags[tenant],
            "",
            self._tenants[tenant],
        )
        call.sized = sized
        return call

    def _true_wait_s(self, number: int) -> float:
        """Seconds until some healthy pool would let this request in if nobody else came."""
        traffic, now_s = self._traffic, self._now_s()
        waits = []
        for pool in self.provider.pools:
            pool.catch_up(now_s)
            if not pool.health:
                needs = pool.needs(traffic.inputs[number], traffic.outputs[number], traffic.cap)
                waits.append(pool.wait_s(now_s, needs))
        return min(waits, default=math.inf)

    async def _come_back(self, number: int, told_s: float) -> None:
        self._returning += 1
        try:
            await self.clock.sleep(told_s)
            await self.router.serve(self._call(number), self._objective)
        except SystemError:
            self.run.came_back.append(0)
        else:
            self.run.came_back.append(1)
        finally:
            self._returning -= 1

    def _served(self, number: int, record: DecisionRecord) -> None:
        fact = record.attempts[-1]
        sent_s = self._sent_s[number]
        self.run.succeeded(number, sent_s, sent_s + (fact.ttft_s or 0.0), self._now_s())
        if self._watch is not None and number % _RENDERED_ONE_IN == 0:
            self._watch.decided(number, self.router.journal.render(record))

    def _now_s(self) -> float:
        return self.loop.time() - self._start_s

    async def send(self, number: int, key: int, request: HttpRequest) -> HttpReply:
        """One request reaches the provider. The answer is known at once, and told when it is due."""
        loop, world, traffic, watch = self.loop, self.world, self._traffic, self._watch
        inputs, outputs = traffic.inputs[number], traffic.outputs[number]
        arrived_s = loop.time()
        now_s = self._sent_s[number] = arrived_s - self._start_s
        bad = number in self._bad
        answer = self.provider.arrive(now_s, key, inputs, outputs, traffic.cap, bad=bad)
        self.run.sent(number, now_s, answer)
        if watch is not None:
            watch.sending(number)
        if answer.status == 200 and not self.provider.one_price:
            self.run.regret_usd += self.provider.regret_usd(now_s, answer.pool, inputs, outputs, traffic.cap)
        # As of now, and not when they are read: others may have been let in by then.
        headers = reply_headers(world, answer, now_s, self.clock)
        body = reply_body(world, answer, inputs, outputs, traffic.cap, now_s)
        first_s = answer.first_s if world.latency.headers_first else answer.end_s
        limit_s = request.timeouts.first_byte_s
        late = limit_s is not None and first_s > limit_s
        begun = loop.create_future()
        loop.at(arrived_s + (limit_s if late and limit_s is not None else first_s), settle, begun)
        try:
            await begun
        finally:
            if watch is not None:
                watch.under_way -= 1
        if late:
            raise TransportError("first_byte_timeout", SendPhase.Unanswered, "no first byte in time")
        if answer.status == 0:
            raise TransportError("refused", SendPhase.NotSent, "the connection was refused")
        if watch is not None and (answer.breaks or answer.status == 400):
            (watch.broken if answer.breaks else watch.at_fault).add(number)
        return WorldReply(loop, answer.status, headers, body, arrived_s + answer.end_s, answer.breaks)


def _metadata(pool: PoolSpec, world: World) -> dict[str, Any]:
    known: dict[str, Any] = {"cost_per_1k": f"{pool.usd_per_mtok / 1000:.9f}"}
    if pool.keys > 1:
        known["quota_pool"] = pool.name
    if world.limits_known:
        known |= {
            name: max(1, int(limit)) for name, limit in (("rpm", pool.rpm), ("tpm", pool.tpm)) if limit is not None
        }
    return known


def _reason(error: SystemError) -> str:
    kind = "refused" if isinstance(error, NoEligibleKeysError) else "failed"
    return f"{kind} {error.status} {error.provider_code or error.category.value}"
