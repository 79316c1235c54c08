"""The provider side of a simulated world: who is let in, how long it takes, what is broken at the moment.

Main entry: `Provider.arrive`, one call per request that reaches it, in order of time. Independent of the router's own
arithmetic (nothing of `domain` is imported), so it can judge it. Laws: the same calls with the same seed give the same
answers; a request that is refused never counts but as the world says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from msgspec import Struct

from apikeyrouter.simulation.world.pool import Foreign, Pool, foreign_load
from apikeyrouter.simulation.world.spec import Fault, FaultKind, World

__all__ = ["Answer", "KeyFact", "Provider"]

_DRAWS = 1024


@dataclass(frozen=True, slots=True)
class KeyFact:
    """One key: the number of its pool, whether it is dead (401)."""

    number: int
    pool: int
    dead: bool


class Answer(Struct, eq=False):
    """What came of one request. `status`: 200, 400, 401, 429, 500, 503, or 0 when the connection was refused.
    `first_s`, `end_s`: seconds from arrival to first byte and to the end. `short`: the limit that refused it.
    `retry_after_s`: until it would fit, None when nothing is told. `breaks`: the reply breaks off."""

    status: int
    pool: Pool
    first_s: float
    end_s: float
    short: str = ""
    retry_after_s: float | None = None
    breaks: bool = False


class Provider:
    """All pools and keys of a world. `sizes`: (input, output) of requests, for what others send. `upstream`,
    `refused`: requests that arrived, and that were answered 429."""

    def __init__(self, world: World, seed: int, sizes: Sequence[tuple[int, int]] = ((1000, 200),)) -> None:
        self.world = world
        # Not hash() of a tuple: it would be another one in another process.
        self._rng = Random(seed * 7919 + 1)
        latency = world.latency
        self._ttft = [
            self._rng.lognormvariate(math.log(latency.ttft_s), latency.ttft_sigma) if latency.ttft_s > 0 else 0.0
            for _ in range(_DRAWS)
        ]
        self._drawn = 0
        self.pools = [
            Pool(spec, world, self._foreign(number, seed, list(sizes))) for number, spec in enumerate(world.pools)
        ]
        self.keys = [
            KeyFact(0, number, dead=place < spec.dead_keys)
            for number, spec in enumerate(world.pools)
            for place in range(spec.keys)
        ]
        self.keys = [KeyFact(number, key.pool, key.dead) for number, key in enumerate(self.keys)]
        self.upstream = self.refused = 0
        self._cheapest = min((pool.usd_per_mtok for pool in world.pools), default=0.0)
        self.one_price = all(pool.usd_per_mtok == self._cheapest for pool in world.pools)
        self._tiers = {id(fault): 1.0 for fault in world.faults if fault.kind is FaultKind.Tier}
        self._changes_s = 0.0 if world.faults else math.inf

    def _foreign(self, number: int, seed: int, sizes: list[tuple[int, int]]) -> Foreign | None:
        world = self.world
        if world.foreign_ratio <= 0:
            return None
        rng = Random(seed * 104_729 + number * 31 + 7)
        return foreign_load(world.pools[number], world.foreign_ratio, sizes, rng, bursts=world.foreign_bursts)

    def arrive(
        self, now_s: float, key: int, input_tokens: int, output_tokens: int, cap: int, *, bad: bool = False
    ) -> Answer:
        """One request reaches the provider with key number `key`. `bad`: it is the client's own fault."""
        if now_s >= self._changes_s:
            self._turn(now_s)
        self.upstream += 1
        fact = self.keys[key]
        pool = self.pools[fact.pool]
        world = self.world
        latency = world.latency
        refusal_s = latency.refusal_s
        if pool.health == "down":
            return Answer(0, pool, refusal_s, refusal_s)
        if fact.dead:
            return Answer(401, pool, refusal_s, refusal_s)
        if pool.health:
            return Answer(503, pool, refusal_s, refusal_s)
        if bad:
            return Answer(400, pool, refusal_s, refusal_s)
        self._drawn = drawn = (self._drawn + 1) % _DRAWS
        first_s = self._ttft[drawn] * pool.slow + input_tokens / latency.input_tokens_per_s
        end_s = first_s + output_tokens / latency.output_tokens_per_s
        short = pool.admit(now_s, input_tokens, output_tokens, cap, now_s + end_s)
        if short:
            self.refused += 1
            return Answer(
                429, pool, refusal_s, refusal_s, short, self._hint(pool, now_s, input_tokens, output_tokens, cap)
            )
        if pool.gray_ratio and self._rng.random() < pool.gray_ratio:
            return Answer(500, pool, refusal_s, refusal_s)
        breaks = world.breaks_ratio > 0 and self._rng.random() < world.breaks_ratio
        return Answer(200, pool, first_s, end_s, breaks=breaks)

    def _hint(self, pool: Pool, now_s: float, input_tokens: int, output_tokens: int, cap: int) -> float | None:
        if not self.world.retry_after:
            return None
        wait_s = pool.wait_s(now_s, pool.needs(input_tokens, output_tokens, cap))
        return wait_s if math.isfinite(wait_s) else 60.0

    # -- faults -----------------------------------------------------------------------------------------------------

    def catch_up(self, now_s: float) -> None:
        """Lets everything happen that comes before `now_s`."""
        if now_s >= self._changes_s:
            self._turn(now_s)
        for pool in self.pools:
            pool.catch_up(now_s)

    def _turn(self, now_s: float) -> None:
        """Works out anew what is broken, and when that changes next."""
        for pool in self.pools:
            pool.health, pool.gray_ratio, pool.slow = "", 0.0, 1.0
        following = [math.inf]
        for fault in self.world.faults:
            following += [at_s for at_s in (fault.begin_s, fault.end_s) if at_s > now_s]
            active = fault.begin_s <= now_s < fault.end_s
            if fault.kind is FaultKind.Tier:
                self._tier(fault, now_s, active=active)
            elif active:
                following.append(self._afflict(fault, now_s))
        self._changes_s = min(following)

    def _hit(self, fault: Fault) -> list[Pool]:
        return [pool for pool in self.pools if not fault.pools or pool.spec.name in fault.pools]

    def _afflict(self, fault: Fault, now_s: float) -> float:
        """Makes pools ill; the time when that changes by itself."""
        phase, ill = divmod(now_s - fault.begin_s, fault.value) if fault.kind is FaultKind.Flap else (0.0, 0.0)
        for pool in self._hit(fault):
            if fault.kind is FaultKind.Gray:
                pool.gray_ratio = fault.value
            elif fault.kind is FaultKind.Slow:
                pool.slow = fault.value
            elif fault.kind is FaultKind.Down:
                pool.health = "down"
            elif fault.kind is FaultKind.Outage or phase % 2 == 0:
                pool.health = "outage"
        return now_s + fault.value - ill if fault.kind is FaultKind.Flap else math.inf

    def _tier(self, fault: Fault, now_s: float, *, active: bool) -> None:
        wanted = fault.value if active else 1.0
        change = wanted / self._tiers[id(fault)]
        if change != 1.0:
            self._tiers[id(fault)] = wanted
            for pool in self._hit(fault):
                pool.scale(change, now_s)

    # -- for those who may see everything ---------------------------------------------------------------------------

    def regret_usd(self, now_s: float, pool: Pool, input_tokens: int, output_tokens: int, cap: int) -> float:
        """How much less the cheapest healthy pool with room would have cost for a request that `pool` just served."""
        if self.one_price:
            return 0.0
        cheapest = pool.spec.usd_per_mtok
        needs = pool.needs(input_tokens, output_tokens, cap)
        for other in self.pools:
            if other.spec.usd_per_mtok < cheapest and not other.health:
                other.catch_up(now_s)
                if other.room(now_s, needs) >= 0:
                    cheapest = other.spec.usd_per_mtok
        return (pool.spec.usd_per_mtok - cheapest) * (input_tokens + output_tokens) / 1e6
