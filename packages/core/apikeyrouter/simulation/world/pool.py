"""One quota pool as the provider keeps it: what is let in, what is refused and why, and who else uses it.

Main entry: `Pool.admit`. Laws: a request is let in only if every limit has room for all of it, and then every limit is
charged, else none (but for the request limit, where refused requests count); what others use is let in by the same
rules, before anything that comes later.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from operator import itemgetter
from random import Random

from apikeyrouter.simulation.world.limiters import Bucket, Limiter, Minute, Rolling, Slots
from apikeyrouter.simulation.world.spec import Charge, Enforcement, PoolSpec, World

__all__ = ["Foreign", "Needs", "Pool", "foreign_load", "foreign_rate", "limiter_of"]

Foreign = Iterator[tuple[float, int, int]]
"""What others send: (time, input, output), in order of time, without end."""

Needs = tuple[int, int, int, int]
"""What a request counts: requests, input, output, all tokens."""

_NEVER: tuple[float, int, int] = (math.inf, 0, 0)
_REQUESTS, _INPUT, _OUTPUT, _TOTAL = range(4)
_NAMES = ("requests", "input_tokens", "output_tokens", "tokens")
_BURST_S = 20.0


def limiter_of(world: World, limit: float) -> Limiter:
    """A limit per minute, enforced as the world does it."""
    if world.enforcement is Enforcement.Rolling:
        return Rolling(limit)
    if world.enforcement is Enforcement.Minute:
        return Minute(limit, world.skew_s)
    return Bucket(limit, world.horizon_s)


class Pool:
    """`limits`: limiters by what they count ("requests", "input_tokens", "output_tokens", "tokens"); `numbered`: the
    same, by their place in `needs`. `health`: set by the provider's faults: "" for well."""

    __slots__ = (
        "_cap_counts", "_foreign", "_foreign_next", "_late", "_metered", "_refused_count", "_requests",
        "foreign_admitted", "foreign_sent", "gray_ratio", "health", "limits", "log", "numbered", "slots", "slow",
        "spec",
    )  # fmt: skip

    def __init__(self, spec: PoolSpec, world: World, foreign: Foreign | None = None) -> None:
        self.spec = spec
        limits = ((_REQUESTS, spec.rpm), (_INPUT, spec.itpm), (_OUTPUT, spec.otpm), (_TOTAL, spec.tpm))
        self.numbered = [(which, limiter_of(world, limit)) for which, limit in limits if limit is not None]
        self.limits = {_NAMES[which]: limiter for which, limiter in self.numbered}
        self._requests = self.limits.get("requests")
        self.slots = None if spec.concurrency is None else Slots(spec.concurrency)
        self._refused_count = world.refused_count
        self._cap_counts = world.charge is Charge.Cap
        self._metered = world.charge is Charge.Metered
        self._late: list[tuple[float, int]] = []
        self._foreign = foreign or iter(())
        self._foreign_next = next(self._foreign, _NEVER)
        self.foreign_sent = self.foreign_admitted = 0
        self.health = ""
        self.gray_ratio = 0.0
        self.slow = 1.0
        self.log: list[tuple[float, tuple[int, int, int, int]]] | None = None

    def needs(self, input_tokens: int, output_tokens: int, cap: int) -> tuple[int, int, int, int]:
        """What a request counts when it is let in: requests, input, output, all tokens."""
        output = cap if self._cap_counts else 0 if self._metered else output_tokens
        return 1, input_tokens, output, input_tokens + output

    def admit(self, now_s: float, input_tokens: int, output_tokens: int, cap: int, end_s: float) -> str:
        """ "" when it is let in, until `end_s`; else the name of the limit that has no room."""
        self.catch_up(now_s)
        return self._judge(now_s, input_tokens, output_tokens, cap, end_s)

    def catch_up(self, now_s: float) -> None:
        """Lets everything happen that comes before `now_s`: what others send, output that is charged late."""
        while self._foreign_next[0] <= now_s:
            at_s, input_tokens, output_tokens = self._foreign_next
            self.foreign_sent += 1
            if not self._judge(at_s, input_tokens, output_tokens, output_tokens, at_s + 1.0):
                self.foreign_admitted += 1
            self._foreign_next = next(self._foreign, _NEVER)
        if self._late:
            self._charge_late(now_s)

    def _judge(self, now_s: float, input_tokens: int, output_tokens: int, cap: int, end_s: float) -> str:
        needs = self.needs(input_tokens, output_tokens, cap)
        short = ""
        for which, limiter in self.numbered:
            if needs[which] > limiter.free(now_s) + 1e-9:
                short = _NAMES[which]
                break
        if not short and self.slots is not None and self.slots.free(now_s) < 1:
            short = "concurrency"
        if short:
            if self._refused_count and self._requests is not None:
                self._requests.drain(1, now_s)
            return short
        for which, limiter in self.numbered:
            limiter.take(needs[which], now_s)
        if self.slots is not None:
            self.slots.take(end_s)
        if self._metered and output_tokens:
            heapq.heappush(self._late, (end_s, output_tokens))
        if self.log is not None:
            self.log.append((now_s, needs))
        return ""

    def _charge_late(self, now_s: float) -> None:
        while self._late and self._late[0][0] <= now_s:
            at_s, output = heapq.heappop(self._late)
            for which, limiter in self.numbered:
                if which in (_OUTPUT, _TOTAL):
                    limiter.charge_late(output, max(at_s, now_s))

    def room(self, now_s: float, needs: tuple[int, int, int, int]) -> float:
        """The least share of any limit that would be free after `needs` were taken; negative when it does not fit.
        Only for those who may see everything. More is better."""
        least = 1.0
        for which, limiter in self.numbered:
            least = min(least, (limiter.free(now_s) - needs[which]) / limiter.capacity)
        if self.slots is not None and self.slots.free(now_s) < 1:
            return -1.0
        return least

    def wait_s(self, now_s: float, needs: tuple[int, int, int, int]) -> float:
        """Seconds until `needs` fit if nobody else takes anything; infinite when they never do."""
        longest_s = 0.0 if self.slots is None else self.slots.wait_s(now_s)
        for which, limiter in self.numbered:
            one_s = limiter.wait_s(needs[which], now_s)
            if one_s > longest_s:
                longest_s = one_s
        return longest_s

    def scale(self, factor: float, now_s: float) -> None:
        """Another tier."""
        self.catch_up(now_s)
        for _, limiter in self.numbered:
            limiter.scale(factor, now_s)


def foreign_rate(spec: PoolSpec, ratio: float, sizes: Sequence[tuple[int, int]]) -> float:
    """Requests a second of others who use `ratio` of a pool's tightest limit."""
    mean_in = sum(map(itemgetter(0), sizes)) / len(sizes)
    mean_out = sum(map(itemgetter(1), sizes)) / len(sizes)
    pairs = ((spec.rpm, 1.0), (spec.itpm, mean_in), (spec.otpm, mean_out), (spec.tpm, mean_in + mean_out))
    rates = [ratio * limit / 60.0 / each for limit, each in pairs if limit is not None and each > 0]
    return max(0.0, min(rates, default=0.0))


def foreign_load(
    spec: PoolSpec, ratio: float, sizes: list[tuple[int, int]], rng: Random, *, bursts: bool = False
) -> Foreign:
    """Others who use `ratio` of a pool's tightest limit with requests of the given sizes (input, output): at random
    times, or (`bursts`) all of it in one third of every 20 s on average."""
    rate = foreign_rate(spec, ratio, sizes)
    if rate <= 0:
        return
    now_s, quiet_until_s = 0.0, 0.0
    while True:
        if bursts and now_s >= quiet_until_s:
            now_s += rng.expovariate(1.0 / (_BURST_S * 2 / 3))
            quiet_until_s = now_s + rng.expovariate(1.0 / (_BURST_S / 3))
        now_s += rng.expovariate(rate * 3 if bursts else rate)
        yield (now_s, *sizes[rng.randrange(len(sizes))])
