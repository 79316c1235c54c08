"""Several policies in the same world with the same traffic and seeds, one after the other.

Main entry: `compete`; `names_of` reads a list of policies. Laws: each policy meets its own copy of the provider, made
from the same seed; figures of several seeds are means over runs, and ratios to the oracle are taken seed by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from apikeyrouter.simulation.world.blind import run_blind
from apikeyrouter.simulation.world.engine import DEADLINE_S, run_policy
from apikeyrouter.simulation.world.litellm import LITELLM
from apikeyrouter.simulation.world.oracle import run_oracle
from apikeyrouter.simulation.world.ours import Ours, run_ours
from apikeyrouter.simulation.world.policies import POLICIES
from apikeyrouter.simulation.world.run import Cell, Run, figures
from apikeyrouter.simulation.world.spec import Enforcement, World
from apikeyrouter.simulation.world.traffic import Traffic

__all__ = ["ALL", "compete", "fault_of", "mean_cell", "names_of", "run_one"]

BASELINES = {**POLICIES, **LITELLM}
ALL = (*BASELINES, "oracle", "oracle-arrival", "ours")
_BLIND = "oracle-blind"
"""Not among `all`: it knows token buckets only, and takes ten times as long as the others."""
_MEANS = (
    "success_ratio", "attempts", "refused_per_100", "wait_p50_s", "wait_p99_s", "first_p99_s", "fail_p99_s", "jain",
    "regret_usd",
)  # fmt: skip


def names_of(text: str) -> list[str]:
    """`ours,round-robin` or `all`; `litellm` stands for its four strategies, `oracle-blind` for `run_blind`. Raises
    ValueError for unknown names."""
    names: list[str] = []
    for word in (one.strip() for one in text.split(",")):
        if word == "all":
            names += ALL
        elif word == "litellm":
            names += LITELLM
        elif word in ALL or word == _BLIND:
            names.append(word)
        else:
            raise ValueError(f"there is no policy {word!r}; known are {', '.join(ALL)}, {_BLIND}, litellm and all")
    return list(dict.fromkeys(names))


def fault_of(names: Sequence[str], world: World) -> str | None:
    """Why these policies cannot run in this world, for people; None when they can."""
    if _BLIND in names and world.enforcement is not Enforcement.Bucket:
        return f"{_BLIND} knows token buckets only, and these limits are {world.enforcement}; take oracle instead"
    return None


def run_one(
    name: str, world: World, traffic: Traffic, *, seed: int, deadline_s: float = DEADLINE_S, ours: Ours | None = None
) -> Run:
    """One policy, by a name that `names_of` knows. Raises ValueError where `oracle-blind` cannot run."""
    if name == "ours":
        return run_ours(world, traffic, seed=seed, deadline_s=deadline_s, ours=ours)
    if name == _BLIND:
        return run_blind(world, traffic, seed=seed, deadline_s=deadline_s)
    if name.startswith("oracle"):
        return run_oracle(world, traffic, seed=seed, deadline_s=deadline_s, order=name.partition("-")[2] or None)
    return run_policy(name, BASELINES[name], world, traffic, seed=seed, deadline_s=deadline_s)


def compete(
    names: Sequence[str],
    world: World,
    traffic_of: Callable[[int], Traffic],
    *,
    seeds: Sequence[int] = (1,),
    deadline_s: float = DEADLINE_S,
    ours: Ours | None = None,
    on_run: Callable[[Run], None] | None = None,
) -> list[Cell]:
    """One cell per policy, in the order of `names`. `traffic_of`: the traffic of a seed; `on_run`: sees each run."""
    cells: dict[str, list[Cell]] = {name: [] for name in names}
    for seed in seeds:
        traffic = traffic_of(seed)
        best: float | None = None
        for name in sorted(names, key=lambda one: one != "oracle"):
            run = run_one(name, world, traffic, seed=seed, deadline_s=deadline_s, ours=ours)
            if on_run is not None:
                on_run(run)
            cell = figures(run)
            if name == "oracle":
                best = cell.success_ratio
            share = cell.success_ratio / best if best else None
            cells[name].append(replace(cell, of_oracle_ratio=share))
    return [mean_cell(cells[name]) for name in names]


def mean_cell(cells: Sequence[Cell]) -> Cell:
    """The mean of several runs of one policy; reasons and violations are added up."""
    first = cells[0]
    if len(cells) == 1:
        return first
    reasons: dict[str, int] = {}
    for cell in cells:
        for reason, count in cell.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    shares = [cell.of_oracle_ratio for cell in cells if cell.of_oracle_ratio is not None]
    means: dict[str, Any] = {name: fmean(getattr(cell, name) for cell in cells) for name in _MEANS}
    return replace(
        first,
        **means,
        requests=sum(cell.requests for cell in cells),
        reasons=reasons,
        of_oracle_ratio=fmean(shares) if shares else None,
        violations=sum(cell.violations for cell in cells),
    )
