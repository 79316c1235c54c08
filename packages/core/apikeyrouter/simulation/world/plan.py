"""Plan my keys: how well a user's own traffic is served with the keys there are, and what reaches a target.

Main entry: `plan`. Two ways are searched, each by bisection on a ladder with the production router in every trial: a
higher (or lower) tier for every pool, and more (or fewer) keys like the largest one, each with limits of its own.
Laws: every row of the answer was simulated, none is extrapolated; success is taken to grow with capacity, which the
bisection needs and worlds with faults may bend a little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from apikeyrouter.simulation.world.arena import mean_cell
from apikeyrouter.simulation.world.engine import DEADLINE_S
from apikeyrouter.simulation.world.ours import Ours, run_ours
from apikeyrouter.simulation.world.run import Cell, figures
from apikeyrouter.simulation.world.spec import PoolSpec, World
from apikeyrouter.simulation.world.traffic import Traffic, capacity_load

__all__ = ["Option", "Plan", "plan"]

_TIERS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0)
_KEYS_MAX = 64


@dataclass(frozen=True, slots=True)
class Option:
    """A set of keys and what it gives. `load`: the share of its capacity that the traffic asks for on average."""

    about: str
    pools: tuple[PoolSpec, ...]
    load: float
    cell: Cell


@dataclass(frozen=True, slots=True)
class Plan:
    """`now`: with the keys as they are. `tier`, `keys`: the least that reaches the target, None where nothing did up
    to 64 times the limits or 64 keys."""

    target_ratio: float
    now: Option
    tier: Option | None
    keys: Option | None


class _Trials:
    def __init__(self, world: World, traffic: Traffic, seeds: Sequence[int], deadline_s: float, ours: Ours) -> None:
        self.world = world
        self._traffic = traffic
        self._seeds = seeds
        self._deadline_s = deadline_s
        self._ours = ours
        self.known: dict[tuple[PoolSpec, ...], Option] = {}

    def run(self, about: str, pools: tuple[PoolSpec, ...]) -> Option:
        found = self.known.get(pools)
        if found is None:
            world = replace(self.world, pools=pools)
            cells = [
                figures(run_ours(world, self._traffic, seed=seed, deadline_s=self._deadline_s, ours=self._ours))
                for seed in self._seeds
            ]
            found = Option(about, pools, capacity_load(self._traffic, world), mean_cell(cells))
            self.known[pools] = found
        return replace(found, about=about)


def plan(
    world: World,
    traffic: Traffic,
    target_ratio: float,
    *,
    seeds: Sequence[int] = (1,),
    deadline_s: float = DEADLINE_S,
    ours: Ours | None = None,
    on_trial: Callable[[Option], None] | None = None,
) -> Plan:
    """What the keys give, and the least that gives `target_ratio` (0..1). `on_trial`: is told of each trial
    that was run."""
    trials = _Trials(world, traffic, seeds, deadline_s, ours or Ours())

    def run(about: str, pools: tuple[PoolSpec, ...]) -> Option:
        new = pools not in trials.known
        option = trials.run(about, pools)
        if new and on_trial is not None:
            on_trial(option)
        return option

    now = run("as it is", world.pools)
    largest = max(world.pools, key=lambda pool: ((pool.tpm or 0.0) / pool.keys, (pool.rpm or 0.0) / pool.keys))

    def tier(place: int) -> Option:
        factor = _TIERS[place]
        return run(f"{factor:g} x the limits", tuple(pool.scaled(factor) for pool in world.pools))

    def keys(count: int) -> Option:
        return run(f"{count} pool{'s' * (count > 1)}", _pools_of(world.pools, largest, count))

    def enough(option: Option) -> bool:
        return option.cell.success_ratio >= target_ratio

    met = enough(now)
    start = _TIERS.index(1.0)
    tiers = range(start + 1) if met else range(start, len(_TIERS))
    count = len(world.pools)
    counts = range(1, count + 1) if met else range(count, max(count, _KEYS_MAX) + 1)
    return Plan(target_ratio, now, _least(tier, tiers, enough), _least(keys, counts, enough))


def _pools_of(pools: tuple[PoolSpec, ...], like: PoolSpec, count: int) -> tuple[PoolSpec, ...]:
    """The first `count` pools; more of them are like one that is there."""
    names = {pool.name for pool in pools}
    added: list[PoolSpec] = []
    number = 0
    while len(pools) + len(added) < count:
        number += 1
        if f"new{number}" not in names:
            added.append(replace(like, name=f"new{number}", dead_keys=0))
    return (*pools, *added)[:count]


def _least(trial: Callable[[int], Option], places: range, enough: Callable[[Option], bool]) -> Option | None:
    """The first place whose trial is enough, when all after it are; None when the last is not. Steps double first."""
    low, step, high = places.start, 1, places.start
    while not enough(trial(high)):
        if high == places.stop - 1:
            return None
        low, high, step = high + 1, min(places.stop - 1, high + step), step * 2
    while low < high:
        middle = (low + high) // 2
        if enough(trial(middle)):
            high = middle
        else:
            low = middle + 1
    return trial(high)
