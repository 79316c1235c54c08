"""The judge's table: our router beside others and an oracle, over traces, loads, provider models and faults.

`python -m bench.quota_grid` runs the grid (R7) and the scenarios (R5, R6, R12, R15); `--ci` checks the laws in 2,000
random worlds of 1,000 requests (R1) and then the same grid; `--quick` takes a slice of either. Traces: Azure LLM
inference 2023 (conv, code), from `APIKEYROUTER_DATA` or `../shared/data`; without them that part is skipped and said.
Reference 2.9 has the same rows from a toy; where ours differ, and why: see `baseline_table`. Two oracles: one sees all,
also when others come who use the same accounts; `oracle-blind` knows all but that, and shows how much nobody can know
(`bar_of` says which of them is the bar where).
Law: every figure is printed with its target; any violation prints the command that replays it, and fails the run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from apikeyrouter.simulation.world import chaos, scenarios
from apikeyrouter.simulation.world.arena import run_one
from apikeyrouter.simulation.world.ours import Ours, run_ours
from apikeyrouter.simulation.world.run import Cell, Run, figures
from apikeyrouter.simulation.world.scenarios import Figure, Scenario
from apikeyrouter.simulation.world.spec import FaultKind, World
from apikeyrouter.simulation.world.traffic import Traffic, fit_pools, read_log
from bench import report

WEIGHTS = (1.0, 1.0, 2.0, 4.0)
TRACES = ("conv", "code")
POLICIES = (
    "round-robin", "least-used", "random", "cooldown", "litellm-shuffle", "litellm-least-busy", "litellm-usage",
    "litellm-latency", "ours",
)  # fmt: skip
_RETURNING = "ours, asked again"
"""Our router, and clients who come back once when they were told to."""
_BLIND = "oracle-blind"
"""Knows everything but when others come, as no router can (`simulation.world.blind`)."""

CI_SEEDS, CI_QUICK_SEEDS = 2_000, 100
_T = TypeVar("_T")
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the grid."""

    trace: str
    load: float
    refused_count: bool = True
    foreign: float = 0.25
    horizon_s: float = 60.0
    requests: int | None = None
    headers: bool = True
    horizon_told: bool = True

    def label(self) -> str:
        """For a table."""
        counts = "count" if self.refused_count else "free"
        silent = "" if self.headers else " no headers"
        silent += "" if self.horizon_told else " untold"
        return f"{self.trace} {self.load:.0%} {counts} foreign {self.foreign:.0%} {self.horizon_s:g} s{silent}"


def data_folder() -> Path | None:
    """Where the traces are, or None."""
    folder = Path(os.environ.get("APIKEYROUTER_DATA") or _ROOT.parent / "shared" / "data") / "azure-llm-2023"
    return folder if folder.is_dir() else None


@lru_cache(maxsize=4)
def trace(name: str, requests: int | None) -> Traffic:
    """A trace, or its beginning. Raises FileNotFoundError."""
    folder = data_folder()
    if folder is None:
        raise FileNotFoundError("the traces are not there; set APIKEYROUTER_DATA")
    whole = read_log(folder / f"{name}.csv")
    return whole if requests is None else whole.head(requests)


def world_of(point: Point, traffic: Traffic) -> World:
    """Four pools 1:1:2:4. Our router must learn their limits; the others are told."""
    return World(
        fit_pools(traffic, WEIGHTS, point.load, foreign_ratio=point.foreign),
        horizon_s=point.horizon_s,
        refused_count=point.refused_count,
        foreign_ratio=point.foreign,
        headers=point.headers,
        horizon_told=point.horizon_told,
    )


def run_point(point: Point, names: Sequence[str], seed: int) -> dict[str, Cell]:
    """Every policy and the oracle at one point."""
    traffic = trace(point.trace, point.requests)
    world = world_of(point, traffic)
    cells = {"oracle": figures(run_one("oracle", world, traffic, seed=seed))}
    blind = bar_of(point) == _BLIND  # elsewhere it is as good: slow to work out, and no bar
    cells[_BLIND] = figures(run_one(_BLIND, world, traffic, seed=seed)) if blind else cells["oracle"]
    return cells | {name: figures(run_one(name, world, traffic, seed=seed)) for name in names}


def grid(*, quick: bool) -> list[Point]:
    """The points of R7; `quick`: the first 2,000 requests of a few."""
    if quick:
        return [Point(name, 0.8, refused_count=count, requests=2_000) for name in TRACES for count in (False, True)]
    return (
        [
            Point(name, load, count, foreign, horizon_s)
            for name in TRACES
            for horizon_s in (60.0, 6.0, 1.0)
            for count in (False, True)
            for foreign in (0.0, 0.25)
            for load in (0.6, 0.8, 0.95)
        ]
        + [
            Point(name, 0.8, count, 0.25, horizon_s, headers=horizon_s < 60, horizon_told=horizon_s == 60)
            for name in TRACES
            for count in (False, True)
            for horizon_s in (60.0, 6.0)
        ]
        + [Point(name, 0.8, count, 0.25, 6.0, headers=False) for name in TRACES for count in (False, True)]
    )


def wanted_share(point: Point) -> float:
    """R7: the share of the oracle's success that we must reach."""
    return 0.92 if point.trace == "code" and point.horizon_s < 60 else 0.98


def bar_of(point: Point) -> str:
    """The oracle that our success is held against: the one that sees everything, but where others take unseen and
    refused requests use up the limit.

    There an empty limit is a race: whoever comes first takes what has flowed back, and who comes too early loses it.
    With r places a second flowing back and others coming at random at r/4, who sees them sends at the very moment at
    which a place is free and gets 1 / ((exp(1/4) - 1) / (1/4)) = 0.88 of r; who does not see them finds the place taken
    in 1 - exp(-1/4) of all cases and gets 0.78. No router can be told what its own requests do not show."""
    return _BLIND if point.foreign and point.refused_count else "oracle"


def meets(point: Point, cells: dict[str, Cell]) -> bool:
    """Whether ours meets every bar of R7 at this point."""
    ours, bar = cells["ours"], cells[bar_of(point)]
    few = ours.refused_per_100 <= 4 or point.load > 0.8 or point.horizon_s < 60
    return ours.success_ratio >= wanted_share(point) * bar.success_ratio and ours.attempts <= 1.05 and few


def mean_cell(cells: Sequence[Cell]) -> Cell:
    """The mean of runs that differ by their seed; reasons are those of the first."""
    means = {
        name: sum(getattr(cell, name) for cell in cells) / len(cells)
        for name, value in asdict(cells[0]).items()
        if isinstance(value, float)
    }
    return replace(cells[0], violations=sum(cell.violations for cell in cells), **means)


def in_processes(work: Callable[[Any], _T], items: Sequence[Any], processes: int) -> list[_T]:
    """`work` over `items`, in order, on several cores; says on standard error how far it is."""
    done: list[_T] = []
    with ProcessPoolExecutor(processes) as pool:
        for result in pool.map(work, items, chunksize=1):
            done.append(result)
            if len(done) % max(1, len(items) // 20) == 0:
                print(f"{len(done)} of {len(items)}", file=sys.stderr, flush=True)
    return done


def baseline_table(points: Sequence[Point], results: Sequence[dict[str, Cell]]) -> str:
    """Success % / sends per request / 429 per 100, as reference 2.9 has it.

    Where its rows differ from ours, and why: there, code round robin is 86.7 / 1.83 (60 %) and 71.0 / 2.30 (80 %),
    which ours meets within 2 points. Its chat rows are lower (round robin 46.7 / 3.36; ours about 74 / 2.4) and so is
    its chat oracle (98.6; ours 99.8): its request limit was tighter than its token limit, here both bind alike, and
    here a refused request can take a free place but never makes a debt. With debt, ours falls to 28 / 3.5.
    """
    names = list(results[0])
    rows = []
    for point, cells in zip(points, results, strict=True):
        row = [point.label()]
        row += [
            f"{100 * cells[n].success_ratio:.1f}/{cells[n].attempts:.2f}/{cells[n].refused_per_100:.1f}" for n in names
        ]
        ours = cells.get("ours")
        share, of_blind = (
            ours.success_ratio / max(1e-9, cells[name].success_ratio) if ours is not None else 0.0
            for name in ("oracle", _BLIND)
        )
        met = "" if ours is None else "yes" if meets(point, cells) else "NO"
        row += [f"{100 * share:.1f}", f"{100 * of_blind:.1f}", met + " (blind)" * (bar_of(point) == _BLIND)]
        rows.append(row)
    return str(report.columns(["success % / sends / 429 per 100", *names, "% of oracle", "of blind", "met"], rows))


# -- R1 ----------------------------------------------------------------------------------------------------------------


def _check(requests: int, seed: int) -> tuple[int, list[str]]:
    try:
        return seed, chaos.check_seed(seed, requests).violations[:3]
    except Exception as fault:  # noqa: BLE001 - whatever it is, its seed must be told
        return seed, [f"{type(fault).__name__}: {fault}"]


def check_laws(first: int, seeds: int, processes: int, requests: int = chaos.REQUESTS) -> int:
    """R1. Prints a line that replays it for every seed that broke a law; how many did."""
    began_s = time.perf_counter()
    found = in_processes(partial(_check, requests), range(first, first + seeds), processes)
    took_s = time.perf_counter() - began_s
    broken = [(seed, said) for seed, said in found if said]
    for seed, said in broken:
        print(f"VIOLATION {said[0]}\n  replay: {chaos.replay_line(seed, requests)}")
    total = seeds * requests
    print(
        f"R1: {total:,} simulated requests in {seeds:,} random worlds, {len(broken)} worlds with violations; "
        f"{took_s:.0f} s, {total / took_s:,.0f} requests/s on {processes} processes"
    )
    return len(broken)


# -- R5, R6, R12, R15 --------------------------------------------------------------------------------------------------


def scenario_list(seed: int, *, quick: bool) -> list[Callable[[], Scenario]]:
    """What is measured besides the grid."""
    few = 3_000 if quick else 20_000
    makes: list[Callable[[], Scenario]] = [
        partial(scenarios.outage, seed, rate_per_s=10.0 if quick else 100.0),
        partial(scenarios.overload, seed),
        partial(scenarios.aggressor, seed),
        partial(scenarios.aggressor, seed, rate_per_s=8.0 if quick else 40.0),
    ]
    kinds = (FaultKind.Gray, FaultKind.Slow, FaultKind.Flap)
    makes += [partial(scenarios.gray, seed, kind=kind, requests=few) for kind in kinds]
    makes.append(partial(scenarios.gray, seed, load=0.8, requests=few))
    makes.append(partial(scenarios.gray, seed, one_provider=True, requests=few))
    return makes


def run_scenario(names: Sequence[str], seed: int, make: Callable[[], Scenario]) -> tuple[str, dict[str, list[Figure]]]:
    """One scenario with every policy."""
    scenario = make()

    def run_of(name: str, traffic: Traffic) -> Run:
        if name == _RETURNING:
            return run_ours(scenario.world, traffic, seed=seed, ours=Ours(come_back=True))
        return run_one(name, scenario.world, traffic, seed=seed)

    if scenario.name == "overload":
        names = [*names, _RETURNING]
    return f"{scenario.name}: {scenario.about}", scenarios.measure(scenario, run_of, list(names))


def tell_scenario(about: str, found: dict[str, list[Figure]]) -> None:
    """Prints the figures of one scenario, policies as columns."""
    names = list(found)
    rows = []
    for place, figure in enumerate(found[names[0]]):
        bound = "" if figure.bound is None else f"{'<=' if figure.at_most else '>='} {figure.bound:.4g}"
        ours = found["ours"][place].met if "ours" in found else None
        met = "" if ours is None else "yes" if ours else "NO"
        rows.append([figure.label, *[f"{found[name][place].value:.4g}" for name in names], bound, met])
    print(f"\n{about}\n{report.columns(['figure', *names, 'target', 'ours meets it'], rows)}")


def main(argv: list[str]) -> int:
    """Command line; 1 when a law was broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.quota_grid", description="Our router, judged.")
    parser.add_argument("--ci", action="store_true", help="laws in random worlds first (R1)")
    parser.add_argument("--quick", action="store_true", help="a small slice of everything")
    parser.add_argument("--only", choices=("grid", "scenarios", "laws"), help="one part")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, help=f"random worlds; default {CI_SEEDS:,}, quick {CI_QUICK_SEEDS}")
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--main", action="store_true", help="of the grid, the cells at 60 s and 6 s")
    parser.add_argument("--runs", type=int, default=1, help="each cell is the mean of so many seeds")
    chosen = parser.parse_args(argv)
    names = chosen.policies.split(",")
    broken = 0
    if chosen.only == "laws" or (chosen.ci and chosen.only is None):
        seeds = chosen.seeds or (CI_QUICK_SEEDS if chosen.quick else CI_SEEDS)
        broken = check_laws(chosen.seed, seeds, chosen.processes)
    kept: dict[str, Any] = {}
    if chosen.only in (None, "grid"):
        if data_folder() is None:
            print("R7: data not found, skipped; set APIKEYROUTER_DATA to a folder with azure-llm-2023/conv.csv")
        else:
            points = grid(quick=chosen.quick)
            if chosen.main:
                points = [point for point in points if point.horizon_s > 1.0]
            results = grid_results(points, names, range(chosen.seed, chosen.seed + chosen.runs), chosen.processes)
            print(f"\nR7\n{baseline_table(points, results)}")
            kept["grid"] = [
                {"point": asdict(point), "cells": {name: asdict(cell) for name, cell in cells.items()}}
                for point, cells in zip(points, results, strict=True)
            ]
    if chosen.only in (None, "scenarios"):
        makes = scenario_list(chosen.seed, quick=chosen.quick)
        few = [name for name in names if name in ("ours", "round-robin", "cooldown", "litellm-shuffle")]
        for about, found in in_processes(partial(run_scenario, few, chosen.seed), makes, chosen.processes):
            tell_scenario(about, found)
            kept[about] = {name: [asdict(figure) for figure in said] for name, said in found.items()}
    if kept:
        print(f"\nfigures: {report.save('quota-grid', kept)}")
    return 1 if broken else 0


def grid_results(
    points: Sequence[Point], names: Sequence[str], seeds: Sequence[int], processes: int
) -> list[dict[str, Cell]]:
    """Every policy at every point, the mean over seeds."""
    runs = in_processes(partial(_run, names), [(point, seed) for point in points for seed in seeds], processes)
    groups = [runs[first : first + len(seeds)] for first in range(0, len(runs), len(seeds))]
    return [{name: mean_cell([run[name] for run in group]) for name in group[0]} for group in groups]


def _run(names: Sequence[str], what: tuple[Point, int]) -> dict[str, Cell]:
    return run_point(what[0], names, what[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
