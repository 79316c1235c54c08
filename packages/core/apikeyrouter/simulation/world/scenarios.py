"""Presets: everything fails, half of it is gray, three times too much is asked for, a greedy neighbour.

Main entries: `SCENARIOS`, `measure`, and the `Figure`s that each is for. Sources of the targets: reference section 4,
rows R5, R6, R12 and R15.
Laws: a scenario's figures come from what the provider saw and what clients got; a ratio is to what the oracle reached
in the same world where it says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from apikeyrouter.simulation.world.run import Run, percentile
from apikeyrouter.simulation.world.spec import Fault, FaultKind, PoolSpec, World
from apikeyrouter.simulation.world.traffic import Traffic, between, fit_pools, poisson

__all__ = ["SCENARIOS", "Figure", "Scenario", "measure"]

_OUTAGE_S = (60.0, 660.0)
_OVERLOAD_S = (60.0, 120.0)
_SETTLED_S = 5.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure and its bound (None: only for reading). `at_most` says which way is better."""

    label: str
    value: float
    bound: float | None = None
    at_most: bool = True

    @property
    def met(self) -> bool | None:
        """None without a bound."""
        if self.bound is None:
            return None
        return self.value <= self.bound if self.at_most else self.value >= self.bound


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world with traffic. `judge`: (run, the oracle's run in the same world or None) -> figures. `solo`: what comes
    first, alone, to compare with."""

    name: str
    about: str
    world: World
    traffic: Traffic
    judge: Callable[[Run, Run | None], list[Figure]]
    solo: Traffic | None = None


def _weighted(traffic: Traffic, load: float) -> tuple[PoolSpec, ...]:
    return fit_pools(traffic, [1, 1, 2, 4], load, rpm_slack=1.5)


# -- R5: nothing works for ten minutes ---------------------------------------------------------------------------------


def outage(seed: int, *, rate_per_s: float = 100.0) -> Scenario:
    """One minute well, ten minutes of 503 from everybody, two minutes well."""
    begin_s, end_s = _OUTAGE_S
    traffic = poisson(rate_per_s, int(rate_per_s * (end_s + 120)), Random(seed))
    world = World(_weighted(traffic, 0.5), faults=(Fault(FaultKind.Outage, begin_s, end_s),))
    return Scenario("outage", "everything answers 503 for ten minutes (R5)", world, traffic, _judge_outage)


def _judge_outage(run: Run, _: Run | None) -> list[Figure]:
    begin_s, end_s = _OUTAGE_S
    arrivals = between(run.traffic, begin_s, end_s)
    sends = sum(run.upstream_at[second] for second in range(int(begin_s), int(end_s)))
    late = between(run.traffic, begin_s + _SETTLED_S, end_s)
    later_sends = sum(run.upstream_at[second] for second in range(int(begin_s + _SETTLED_S), int(end_s)))
    at_s = run.traffic.at_s
    failing = sorted(run.ended_s[n] - at_s[n] for n in late if not run.served[n] and run.ended_s[n] < end_s)
    return [
        Figure("upstream calls per arrival", sends / max(1, len(arrivals)), 0.05),
        Figure("upstream calls per arrival after 5 s", later_sends / max(1, len(late)), 0.10),
        Figure("fail-fast p99, s", percentile(failing, 0.99), 0.050),
        Figure("back to 99 % after, s", _recovery_s(run, end_s), 10.0),
    ]


def _recovery_s(run: Run, end_s: float) -> float:
    """Seconds from `end_s` until a second begins from which on 99 % of 5 s of arrivals succeed; infinite: never."""
    last_s = int(run.traffic.at_s[-1]) - 5
    for second in range(int(end_s), last_s):
        chosen = between(run.traffic, second, second + 5)
        if chosen and sum(run.served[n] for n in chosen) >= 0.99 * len(chosen):
            return second - end_s
    return math.inf


# -- R6: half of the capacity is not well ------------------------------------------------------------------------------


def gray(
    seed: int,
    *,
    kind: FaultKind = FaultKind.Gray,
    load: float = 0.6,
    one_provider: bool = False,
    requests: int = 20_000,
) -> Scenario:
    """Eight keys, four of them ill from the second minute on; `load`: of what the other four can serve."""
    traffic = poisson(20.0, requests, Random(seed))
    pools = fit_pools(traffic, [1] * 8, load / 2, rpm_slack=1.5)
    ill = tuple(pool.name for pool in pools[:4])
    value = {FaultKind.Gray: 0.3, FaultKind.Slow: 10.0, FaultKind.Flap: 20.0}.get(kind, 1.0)
    if not one_provider:
        pools = tuple(
            PoolSpec(pool.name, pool.rpm, pool.tpm, provider="ill" if pool.name in ill else "well") for pool in pools
        )
    world = World(pools, faults=(Fault(kind, 60.0, math.inf, value, ill),))
    most, attempts = (0.995, 1.15) if load <= 0.6 else (0.965, None)

    def judge(run: Run, _: Run | None) -> list[Figure]:
        during = between(run.traffic, 60.0, math.inf)
        served = sum(run.served[n] for n in during) / max(1, len(during))
        sends = sum(run.attempts[n] for n in during) / max(1, len(during))
        first = sorted(run.first_s[n] for n in during if run.served[n])
        return [
            Figure("client success", served, most, at_most=False),
            Figure("attempts per request", sends, attempts),
            Figure("first byte p99, s", percentile(first, 0.99)),
        ]

    where = "of one provider" if one_provider else "a provider of its own"
    about = f"half the capacity, {where}, {kind} ({value:g}); load {load:.0%} of the rest (R6)"
    return Scenario("gray", about, world, traffic, judge)


# -- R12: three times as much as fits ----------------------------------------------------------------------------------


def overload(seed: int, *, times: float = 3.0) -> Scenario:
    """A minute at 60 % of capacity, a minute at `times` capacity, a minute at 60 %."""
    rng = Random(seed)
    capacity_per_s = 20.0
    begin_s, end_s = _OVERLOAD_S
    traffic = poisson(capacity_per_s, int(capacity_per_s * 60), rng)
    pools = _weighted(traffic, 1.0)
    calm = poisson(capacity_per_s * 0.6, int(capacity_per_s * 0.6 * (end_s + 60)), rng)
    rush = poisson(capacity_per_s * (times - 0.6), int(capacity_per_s * (times - 0.6) * (end_s - begin_s)), rng)
    rush = Traffic([at + begin_s for at in rush.at_s], rush.inputs, rush.outputs, rush.tenants)
    both = calm.with_other(rush)
    both = Traffic(both.at_s, both.inputs, both.outputs, [0] * len(both))
    return Scenario("overload", f"{times:g} times the capacity for a minute (R12)", World(pools), both, _judge_overload)


def _judge_overload(run: Run, oracle: Run | None) -> list[Figure]:
    begin_s, end_s = _OVERLOAD_S
    after = between(run.traffic, end_s + 20.0, math.inf)
    early = [told for told in run.told_true if told[0] < 0.8 * told[1]]
    figures = [
        Figure(
            "client success afterwards", sum(run.served[n] for n in after) / max(1, len(after)), 0.99, at_most=False
        ),
        Figure("longest queue, requests", _longest_queue(run)),
        Figure("upstream 429 per 100 requests", 100.0 * run.statuses[429] / max(1, len(run.traffic))),
        # Too early even if nobody else came; what is not too early may still be too late: see who comes back.
        Figure("told to come back too early, share", _share(len(early), len(run.told_true))),
        Figure("seconds told, median", percentile(sorted(run.told_s.values()), 0.5)),
        Figure("came back when told and were served, share", _share(sum(run.came_back), len(run.came_back))),
    ]
    if oracle is not None:
        ours, best = (_goodput(one, begin_s, end_s) for one in (run, oracle))
        figures.insert(0, Figure("goodput, tokens of the oracle's", ours / max(1, best), 0.95, at_most=False))
    return figures


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _goodput(run: Run, begin_s: float, end_s: float) -> int:
    """Tokens of the requests that were sent in that time and succeeded."""
    traffic = run.traffic
    return sum(
        traffic.inputs[n] + traffic.outputs[n]
        for n in range(len(traffic))
        if run.served[n] and begin_s <= traffic.at_s[n] + run.wait_s[n] < end_s
    )


def _longest_queue(run: Run) -> int:
    """The most requests that were waiting at once: arrived, and neither sent for good nor told."""
    moments: list[tuple[float, int]] = []
    for number, at_s in enumerate(run.traffic.at_s):
        until_s = at_s + run.wait_s[number] if run.served[number] else run.ended_s[number]
        if until_s > at_s + 1e-9:
            moments += [(at_s, 1), (until_s, -1)]
    longest = waiting = 0
    for _, change in sorted(moments):
        waiting += change
        longest = max(longest, waiting)
    return longest


# -- R15: a neighbour who asks for ten times as much -------------------------------------------------------------------


def aggressor(seed: int, *, times: float = 10.0, rate_per_s: float = 8.0) -> Scenario:
    """A tenant that asks for 40 % of the capacity, `rate_per_s`, beside one that asks for `times` as much."""
    rng = Random(seed)
    victim = poisson(rate_per_s, int(rate_per_s * 200), rng)
    other = poisson(rate_per_s * times, int(rate_per_s * times * 200), rng)
    return Scenario(
        "aggressor",
        f"a tenant at 40 % of capacity, {rate_per_s:g}/s, beside one that asks for {times:g} times as much (R15)",
        World(_weighted(victim, 0.4)),
        victim.with_other(other),
        _judge_aggressor,
        solo=victim,
    )


def _judge_aggressor(run: Run, solo: Run | None) -> list[Figure]:
    victim = [n for n, tenant in enumerate(run.traffic.tenants) if tenant == 0]
    waits = sorted(run.wait_s[n] for n in victim if run.served[n])
    first = percentile(sorted(run.first_s[n] for n in victim if run.served[n]), 0.99)
    figures = [
        Figure("victim's success", sum(run.served[n] for n in victim) / max(1, len(victim)), 0.98, at_most=False),
        Figure("victim's p99 wait, s", percentile(waits, 0.99)),
    ]
    if solo is None:
        return [*figures, Figure("victim's p99 to first byte, s", first)]
    # Alone it hardly waits at all, and nothing cannot be doubled: so what is doubled is what its clients see.
    alone = percentile(sorted(solo.first_s[n] for n in range(len(solo.traffic)) if solo.served[n]), 0.99)
    return [
        *figures,
        Figure("victim's p99 to first byte, s", first, 2 * alone),
        Figure("the same alone, s", alone),
        Figure("victim's p99 wait alone, s", percentile(sorted(w for w in solo.wait_s if not math.isnan(w)), 0.99)),
    ]


SCENARIOS: dict[str, Callable[[int], Scenario]] = {
    "outage": outage,
    "gray": gray,
    "overload": overload,
    "aggressor": aggressor,
}


def measure(scenario: Scenario, run_of: Callable[[str, Traffic], Run], names: list[str]) -> dict[str, list[Figure]]:
    """The figures of each policy. `run_of`: runs a policy by name in the scenario's world with some traffic."""
    found: dict[str, list[Figure]] = {}
    oracle = run_of("oracle", scenario.traffic) if scenario.name == "overload" else None
    for name in names:
        beside = run_of(name, scenario.solo) if scenario.solo is not None else oracle
        run = run_of(name, scenario.traffic)
        found[name] = scenario.judge(run, beside)
    return found
