"""What waiting costs and yields: 3x overload for a minute (R12), a tenant that asks ten times as much (R15), and time.

Entry: `overload()`, `aggressor()` in virtual time, `must_queue_ns()`, `enter_and_served_us()`; `main(argv)` prints the
table (`python -m bench waiting`). `World` plays the pipeline's part before a token bucket.
Laws: open loop: requests come whether or not others were served; a promise is judged by what happened afterwards, never
by what was known then; every run is the same for the same seed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.testing.virtual_time import VirtualClock, run_virtual
from apikeyrouter.waiting_room import Place, WaitingRoom, WaitingRules
from bench import processes, report
from bench.client import percentile

LINE = ("", "gpt-4o-mini")


class Bucket:
    """Capacity: `rate` a second, at most `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self.tries = 0
        self.taken = 0.0
        self._level = burst
        self._at_s = 0.0

    def take(self, need: float, now_s: float) -> float | None:
        """None: taken. Else the time at which `need` would be there if nobody took anything."""
        self.tries += 1
        self._refill(now_s)
        # a bucket that is full serves what is larger than it
        missing = min(need, self.burst) - self._level
        if missing <= 1e-9:
            self._level -= need
            self.taken += need
            return None
        return now_s + missing / self.rate

    def give_back(self, amount: float, now_s: float) -> None:
        """What was not used after all."""
        self._refill(now_s)
        self._level = min(self.burst, self._level + amount)
        self.taken -= amount

    def set_rate(self, rate: float, now_s: float) -> None:
        """The limit changed."""
        self._refill(now_s)
        self.rate = rate

    def _refill(self, now_s: float) -> None:
        self._level = min(self.burst, self._level + (now_s - self._at_s) * self.rate)
        self._at_s = now_s


@dataclass(slots=True)
class Result:
    """One request's fate. `promised_s`: what it was told to expect, on entering or with its refusal; `truly_s`: how
    long it waited, or how long one that was refused would have had to."""

    tenant: str
    came_s: float
    cost: int
    served: bool = False
    wait_s: float = 0.0
    promised_s: float | None = None
    truly_s: float | None = None
    refused_in_line: bool = False
    watched_by: list[Result] = field(default_factory=list)
    """Those that were refused since the one before this in line entered: it has the place that they would have had."""


@dataclass(slots=True)
class World:
    """A room before a bucket, and the loop that a pipeline runs around them."""

    room: WaitingRoom
    bucket: Bucket
    results: list[Result] = field(default_factory=list)
    order: list[Result] = field(default_factory=list)
    """Who was served, in that order."""
    waiting_peak: int = 0
    _last: dict[str, Result] = field(default_factory=dict)
    _refused: dict[str, list[Result]] = field(default_factory=dict)

    async def request(
        self, tenant: str, cost: int = 1, *, weight: float = 1.0, deadline_s: float = 1e9, line: object = LINE
    ) -> Result:
        """Comes, waits if need be, is served or refused."""
        now_s = self.room.now_s
        result = Result(tenant, now_s(), cost)
        self.results.append(result)
        place: Place | None = None
        feasible_at_s: float | None = None
        if not self.room.must_queue(line):
            feasible_at_s = self.bucket.take(cost, now_s())
            if feasible_at_s is None:
                return self._served(result)
        expected_s = self.room.expected_wait_s(line, cost, feasible_at_s, tenant=tenant, weight=weight)
        result.promised_s = expected_s
        place = self.room.enter(
            line, tenant=tenant, weight=weight, cost=cost, deadline_s=deadline_s, feasible_at_s=feasible_at_s
        )
        if place is None:
            self._refused.setdefault(tenant, []).append(result)
            return result
        self.waiting_peak = max(self.waiting_peak, self.room.waiting)
        refused = self._refused.pop(tenant, [])
        if tenant in self._last:
            result.watched_by = refused
        self._last[tenant] = result
        try:
            with place:
                while await place.turn(feasible_at_s if feasible_at_s is not None else 0.0):
                    feasible_at_s = self.bucket.take(cost, now_s())
                    if feasible_at_s is None:
                        place.served()
                        return self._served(result)
            result.refused_in_line = True
            return result
        finally:
            if self._last.get(tenant) is result:
                del self._last[tenant]

    def _served(self, result: Result) -> Result:
        result.served = True
        result.wait_s = result.truly_s = self.room.now_s() - result.came_s
        self.order.append(result)
        for refused in result.watched_by:
            refused.truly_s = self.room.now_s() - refused.came_s
        return result


async def offer(
    world: World, tenant: str, per_s: float, until_s: float, rng: random.Random, cost: Callable[[], int], weight: float
) -> None:
    """Requests at random (exponential gaps), open loop."""
    async with asyncio.TaskGroup() as tasks:
        while True:
            await asyncio.sleep(rng.expovariate(per_s))
            if world.room.now_s() >= until_s:
                return
            tasks.create_task(world.request(tenant, cost(), weight=weight))


def new_world(rate: float, burst: float, rules: WaitingRules | None = None) -> World:
    """An empty room before a full bucket, in virtual time."""
    return World(WaitingRoom(VirtualClock(), rules), Bucket(rate, burst))


@dataclass(frozen=True, slots=True)
class Overload:
    """R12. Ratios of 1 are best. `goodput`: served / (what the bucket could give). `refusal_error_p95`: how far the
    promised time of refused requests was off, relative, absolute value; `late`: entered, but not served in time."""

    goodput: float
    served: int
    refused: int
    late: int
    waiting_peak: int
    refusal_error_p50: float
    refusal_error_p95: float
    entry_error_p95: float
    tries_per_served: float
    drained_s: float


def overload(
    *, seed: int = 1, rate: float = 20.0, factor: float = 3.0, tenants: int = 1, heavy: bool = False
) -> Overload:
    """`factor` times the capacity for 60 s, then nothing but what waits. `heavy`: costs differ by 100 times."""
    rng = random.Random(seed)

    def cost() -> int:
        return min(2000, max(20, int(rng.lognormvariate(4.6, 0.9)))) if heavy else 100

    mean = sum(cost() for _ in range(5000)) / 5000

    async def story() -> Overload:
        world = new_world(rate * mean, 2 * mean)
        async with asyncio.TaskGroup() as tasks:
            for number in range(tenants):
                per_s = factor * rate / tenants
                tasks.create_task(offer(world, f"t{number}", per_s, 60.0, rng, cost, 1.0))
        done = [one for one in world.results if one.served]
        end_s = max(one.came_s + one.wait_s for one in done)
        within = sum(one.cost for one in done if one.came_s + one.wait_s <= 60.0)
        refused = [one for one in world.results if not one.served and not one.refused_in_line]
        off = [abs(one.promised_s / one.truly_s - 1) for one in refused if one.promised_s and one.truly_s]
        waited = [one for one in done if one.promised_s is not None and one.wait_s > 1.0]
        off_in = [abs((one.promised_s or 0.0) / one.wait_s - 1) for one in waited]
        return Overload(
            within / (world.bucket.burst + world.bucket.rate * 60.0),
            len(done),
            len(refused),
            sum(one.refused_in_line for one in world.results),
            world.waiting_peak,
            percentile(off, 0.5),
            percentile(off, 0.95),
            percentile(off_in, 0.95),
            world.bucket.tries / len(done),
            end_s - 60.0,
        )

    return run_virtual(story())


@dataclass(frozen=True, slots=True)
class Fairness:
    """R15. The victim's p99 wait alone, and beside a tenant that offers ten times as much; seconds."""

    load: float
    burst: int
    credit_s: float
    alone_p99_s: float
    beside_p99_s: float
    refused: int
    served_of_aggressor: int

    @property
    def ratio(self) -> float:
        """How many times as long the victim waits; 1 is best."""
        return self.beside_p99_s / self.alone_p99_s


async def bursts(world: World, tenant: str, size: int, per_s: float, until_s: float, rng: random.Random) -> None:
    """`size` requests at once, at random times."""
    async with asyncio.TaskGroup() as tasks:
        while True:
            await asyncio.sleep(rng.expovariate(per_s / size))
            if world.room.now_s() >= until_s:
                return
            for _ in range(size):
                tasks.create_task(world.request(tenant, 100))


def aggressor(
    *, load: float = 0.1, burst: int = 20, factor: float = 10.0, credit_s: float = 20.0, rate: float = 20.0
) -> Fairness:
    """A victim that offers `load` of the capacity in bursts, for ten minutes; then beside one that offers `factor`
    times as much.
    """

    async def story(times: float) -> World:
        world = new_world(rate * 100, 200, WaitingRules(credit_s=credit_s))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bursts(world, "victim", burst, load * rate, 600.0, random.Random(1)))
            if times:
                per_s = times * load * rate
                tasks.create_task(offer(world, "aggressor", per_s, 600.0, random.Random(2), lambda: 100, 1.0))
        return world

    alone, beside = run_virtual(story(0.0)), run_virtual(story(factor))
    p99 = [percentile([one.wait_s for one in world.order if one.tenant == "victim"], 0.99) for world in (alone, beside)]
    return Fairness(
        load,
        burst,
        credit_s,
        p99[0],
        p99[1],
        sum(one.tenant == "victim" and not one.served for one in beside.results),
        sum(one.tenant == "aggressor" for one in beside.order),
    )


def must_queue_ns(samples: int = 1_000_000) -> float:
    """Nanoseconds to ask, where nobody waits; what every request pays."""
    room = WaitingRoom(SystemClock())
    began_ns = time.perf_counter_ns()
    for _ in range(samples):
        room.must_queue(LINE)
    asked_ns = time.perf_counter_ns()
    for _ in range(samples):
        pass
    return (asked_ns - began_ns - (time.perf_counter_ns() - asked_ns)) / samples


def enter_and_served_us(waiting: int, tenants: int, samples: int = 5_000) -> float:
    """Microseconds to estimate, enter and be served where `waiting` others of `tenants` stand in line."""

    async def story() -> float:
        room = WaitingRoom(SystemClock(), WaitingRules(wait_s=1e6, waiting_max=waiting + 1))
        for number in range(waiting):
            room.enter(LINE, tenant=f"t{number % tenants}", weight=1.0, cost=100, deadline_s=1e9)
        began_ns = time.perf_counter_ns()
        for number in range(samples):
            place = room.enter(LINE, tenant=f"t{number % tenants}", weight=1.0, cost=100, deadline_s=1e9)
            if place is None:
                raise RuntimeError("the room was full, so nothing was measured")
            place.served()
        return (time.perf_counter_ns() - began_ns) / samples / 1e3

    return asyncio.run(story())


def main(argv: list[str]) -> int:
    """Command line: no options."""
    argparse.ArgumentParser(prog="python -m bench waiting", description=__doc__.splitlines()[0]).parse_args(argv)
    processes.raise_priority()
    loads = {
        "one tenant": overload(),
        "4 tenants": overload(tenants=4),
        "4 tenants, sizes 1:100": overload(tenants=4, heavy=True),
        "100 tenants": overload(tenants=100),
        "10 tenants, 200/s": overload(tenants=10, rate=200.0),
    }
    rows = [
        [
            name,
            f"{one.goodput:.2%}",
            f"{one.refusal_error_p50:.1%}",
            f"{one.refusal_error_p95:.1%}",
            f"{one.late}/{one.served}",
            str(one.waiting_peak),
            f"{one.tries_per_served:.1f}",
            f"{one.drained_s:.1f}",
        ]
        for name, one in loads.items()
    ]
    head = ["3x for 60 s", "goodput", "Retry-After off p50", "p95", "late/served", "most waiting", "tries", "tail s"]
    print(report.columns(head, rows))
    shares = [
        aggressor(load=load, burst=size, credit_s=s) for load, size in ((0.1, 20), (0.3, 20)) for s in (0.0, 20.0)
    ]
    cells = [
        [
            f"{one.load:.0%} in bursts of {one.burst}",
            f"{one.credit_s:g}",
            f"{one.alone_p99_s:.2f}",
            f"{one.beside_p99_s:.2f}",
            f"{one.ratio:.2f}",
            str(one.refused),
            str(one.served_of_aggressor),
        ]
        for one in shares
    ]
    head = ["victim beside 10x", "credit s", "p99 alone s", "p99 beside s", "ratio", "refused", "served of other"]
    print(f"\n{report.columns(head, cells)}\n")
    asked_ns = must_queue_ns()
    one_us, many_us = enter_and_served_us(0, 1), enter_and_served_us(999, 100)
    goals = [
        report.Goal("goodput at 3x (worst row)", min(one.goodput for one in loads.values()), 0.95, at_most=False),
        report.Goal("Retry-After off, p95 (4 tenants)", loads["4 tenants"].refusal_error_p95, 0.2, at_most=True),
        report.Goal("victim's p99 wait / alone (worst)", max(one.ratio for one in shares[1::2]), 2.0, at_most=True),
        report.Goal("must_queue", asked_ns, 100, at_most=True, unit="ns"),
        report.Goal("enter + served, empty line", one_us, None, at_most=True, unit="us"),
        report.Goal("enter + served, 999 of 100 tenants wait", many_us, None, at_most=True, unit="us"),
    ]
    print(report.figures_table(goals))
    result = {"overload": {name: asdict(one) for name, one in loads.items()}, "shares": [asdict(s) for s in shares]}
    print(f"\nfigures: {report.save('waiting', result)}")
    return 0
