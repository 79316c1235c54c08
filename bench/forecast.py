"""How good the forecast of demand is: coverage of its bound, and warning before a window runs dry, on real traffic.

Entry: `main(argv)` (`python -m bench.forecast`). Replays `azure-llm-2023/{conv,code}.csv` from the data folder
(`APIKEYROUTER_DATA`, else `../shared/data`): tokens and requests, whole and split over four pools 1:1:2:4 as a router
would. Beside it: what people use instead (Poisson, compound Poisson, Gamma-Poisson; an alert at 80 % used).
Laws: bounds are asked for once a second with what was known then; the first minute is left out, nothing else.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from apikeyrouter.domain.quota.exhaustion import Supply, exhaustion
from apikeyrouter.domain.quota.forecast import DemandForecast
from bench import report
from bench.forecast_alerts import alert_rows

TRACES = ("conv", "code")
HORIZONS_S = (10, 60)
_WARM_S = 60
_POOLS = (1, 1, 2, 4)


@dataclass(frozen=True, slots=True)
class Trace:
    """Arrivals of one trace: seconds from its start, and units (tokens, or 1 per request)."""

    name: str
    at_s: list[float]
    amounts: list[int]

    def per_second(self) -> list[int]:
        """Units by whole second."""
        sums = [0] * (int(self.at_s[-1]) + 1)
        for at_s, amount in zip(self.at_s, self.amounts, strict=True):
            sums[int(at_s)] += amount
        return sums


def data_folder() -> Path:
    """Where the traces lie, if they do."""
    given = os.environ.get("APIKEYROUTER_DATA")
    return (Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data") / "azure-llm-2023"


def traces(folder: Path) -> list[Trace]:
    """Both traces, in tokens and in requests."""
    found = []
    for name in TRACES:
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        times = [datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp() for row in rows]
        at_s = [one - times[0] for one in times]
        tokens = [int(row["ContextTokens"]) + int(row["GeneratedTokens"]) for row in rows]
        found += [Trace(f"{name} tokens", at_s, tokens), Trace(f"{name} requests", at_s, [1] * len(rows))]
    return found


def split(trace: Trace, seed: int) -> list[Trace]:
    """The trace as four pools of sizes 1:1:2:4 see it, each request at one of them."""
    chance = random.Random(seed)
    parts: list[tuple[list[float], list[int]]] = [([], []) for _ in _POOLS]
    for at_s, amount in zip(trace.at_s, trace.amounts, strict=True):
        times, amounts = chance.choices(parts, _POOLS)[0]
        times.append(at_s)
        amounts.append(amount)
    return [Trace(f"{trace.name} pool {n + 1}/4", *part) for n, part in enumerate(parts)]


# -- baselines: a bound from what arrived up to now --------------------------------------------------------------------


class Counted:
    """Discounted moments of counts and sizes, from which textbook bounds are made."""

    def __init__(self, keep: float) -> None:
        self.keep = keep
        self.seconds = self.count = self.count_square = self.amount = self.square = 0.0

    def second(self, amounts: Sequence[int]) -> None:
        """Takes in one second."""
        keep, number = self.keep, len(amounts)
        self.seconds = self.seconds * keep + 1.0
        self.count = self.count * keep + number
        self.count_square = self.count_square * keep + number * number
        self.amount = self.amount * keep + sum(amounts)
        self.square = self.square * keep + sum(one * one for one in amounts)


def poisson(counted: Counted, horizon_s: int) -> float:
    """The 95 % quantile of a Poisson count (normal approximation) x mean size."""
    mean = counted.count / counted.seconds * horizon_s
    size = counted.amount / counted.count if counted.count else 0.0
    return (mean + 1.645 * math.sqrt(mean)) * size


def compound_poisson(counted: Counted, horizon_s: int) -> float:
    """Poisson counts with the sizes' spread."""
    return (counted.amount * horizon_s + 1.645 * math.sqrt(counted.square * horizon_s * counted.seconds)) / (
        counted.seconds
    )


def gamma_poisson(counted: Counted, horizon_s: int) -> float:
    """A negative binomial count with the mean and variance of the last half minute's seconds, x mean size."""
    if not counted.count:
        return 0.0
    mean = counted.count / counted.seconds
    extra = max(counted.count_square / counted.seconds - mean * mean - mean, 0.0)
    of_rate = extra + mean / counted.seconds
    spread = math.sqrt(horizon_s * mean + horizon_s * horizon_s * of_rate)
    return (horizon_s * mean + 1.645 * spread) * counted.amount / counted.count


BASELINES: dict[str, tuple[float, Callable[[Counted, int], float]]] = {
    "Poisson": (math.exp(-1 / 20), poisson),
    "compound Poisson": (math.exp(-1 / 20), compound_poisson),
    "Gamma-Poisson": (0.5 ** (1 / 30), gamma_poisson),
}


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a 95 % bound did. `covered`: per cent of windows under it; `ratio`: mean bound / mean demand; `pinball`:
    loss at 95 % / mean demand, lower is better."""

    trace: str
    horizon_s: int
    method: str
    covered: float
    ratio: float
    pinball: float


def bounds_of(trace: Trace) -> dict[tuple[str, int], list[float]]:
    """Every method's bound at the end of every second."""
    arrivals: list[list[int]] = [[] for _ in range(int(trace.at_s[-1]) + 1)]
    for at_s, amount in zip(trace.at_s, trace.amounts, strict=True):
        arrivals[int(at_s)].append(amount)
    forecast = DemandForecast()
    forecast.add(0, 0.0)
    counted = {name: Counted(keep) for name, (keep, _) in BASELINES.items()}
    bounds: dict[tuple[str, int], list[float]] = {
        (name, horizon_s): [] for name in ("ours", *BASELINES) for horizon_s in HORIZONS_S
    }
    for second, amounts in enumerate(arrivals):
        for amount in amounts:
            forecast.add(amount, second + 0.5)
        for name, (_, bound) in BASELINES.items():
            counted[name].second(amounts)
            for horizon_s in HORIZONS_S:
                bounds[name, horizon_s].append(bound(counted[name], horizon_s))
        for horizon_s in HORIZONS_S:
            bounds["ours", horizon_s].append(forecast.bound(horizon_s, second + 1.0).upper)
    return bounds


def coverage(trace: Trace) -> list[Coverage]:
    """Scores every method on one trace."""
    sums = trace.per_second()
    total = [0]
    for one in sums:
        total.append(total[-1] + one)
    rows = []
    for (method, horizon_s), bounds in bounds_of(trace).items():
        pairs = [
            (total[second + 1 + horizon_s] - total[second + 1], bounds[second])
            for second in range(_WARM_S, len(sums) - horizon_s)
        ]
        came = sum(pair[0] for pair in pairs)
        covered = 100.0 * sum(one <= bound for one, bound in pairs) / len(pairs)
        pinball = sum(max(0.95 * (one - bound), 0.05 * (bound - one)) for one, bound in pairs)
        ratio = sum(pair[1] for pair in pairs) / came
        rows.append(Coverage(trace.name, horizon_s, method, covered, ratio, pinball / came))
    return rows


def coverage_table(rows: Sequence[Coverage]) -> str:
    """Traces and horizons downwards, methods across: covered % (bound / mean, pinball loss)."""
    methods = ("ours", *BASELINES)
    cells = {(row.trace, row.horizon_s, row.method): row for row in rows}
    lines = []
    for trace, horizon_s in dict.fromkeys((row.trace, row.horizon_s) for row in rows):
        found = [cells[trace, horizon_s, method] for method in methods]
        lines.append(
            [f"{trace}, {horizon_s} s", *(f"{one.covered:.1f} ({one.ratio:.2f}x, {one.pinball:.3f})" for one in found)]
        )
    return report.columns(["covered % (bound/mean, pinball)", *methods], lines)


def cost_us(rounds: int = 7) -> list[report.Goal]:
    """Microseconds of the calls on this machine, the best of some rounds: 100 admissions a second, then looks."""
    forecast = DemandForecast()
    add_us = []
    for number in range(rounds):
        started = time.perf_counter()
        for step in range(60_000):
            forecast.add(1000, number * 600 + step * 0.01)
        add_us.append((time.perf_counter() - started) / 0.06)
    now_s = rounds * 600.0
    goals = [report.Goal("add", min(add_us), 0.5, at_most=True, unit="us")]
    calls: dict[str, Callable[[], object]] = {
        "bound": lambda: forecast.bound(60.0, now_s),
        "exhaustion": lambda: exhaustion(forecast, Supply.fixed(4_000_000, 50.0), now_s),
    }
    for name, call in calls.items():
        took_us = []
        for _ in range(rounds):
            started = time.perf_counter()
            for _ in range(1000):
                call()
            took_us.append((time.perf_counter() - started) * 1000)
        goals.append(report.Goal(name, min(took_us), None, at_most=True, unit="us"))
    return goals


def main(argv: list[str]) -> int:
    """Prints the tables; 1 when a promised figure is not met."""
    parser = argparse.ArgumentParser(prog="bench.forecast", description="Coverage and alert lead of the forecast.")
    parser.add_argument("--seed", type=int, default=1, help="of the split over four pools")
    parser.add_argument("--no-alerts", action="store_true", help="coverage only")
    options = parser.parse_args(argv)
    folder = data_folder()
    if not all((folder / f"{name}.csv").exists() for name in TRACES):
        print(f"not run: {folder} has no conv.csv and code.csv (set APIKEYROUTER_DATA)")
        return 0
    whole = traces(folder)
    rows = [row for trace in whole for row in coverage(trace)]
    parts = [row for trace in whole for part in split(trace, options.seed) for row in coverage(part)]
    print(coverage_table(rows), coverage_table(parts), sep="\n\n", end="\n\n")
    ours = [row.covered for row in (*rows, *parts) if row.method == "ours"]
    goals = [
        report.Goal("least coverage of the 95 % bound", min(ours), 92, at_most=False, unit="%"),
        report.Goal("most coverage of the 95 % bound", max(ours), 97, at_most=True, unit="%"),
    ]
    if not options.no_alerts:
        found = [(trace.name, trace.at_s, trace.amounts) for trace in whole]
        table, leads_s, false_per_h = alert_rows(found)
        print(table, end="\n\n")
        goals += [
            report.Goal("median lead of alerts", statistics.median(leads_s), 10, at_most=False, unit="s"),
            report.Goal("false alarms, worst row", max(false_per_h), 1, at_most=True, unit="/h"),
        ]
    goals += cost_us()
    print(report.figures_table(goals))
    return 1 if any(goal.met is False for goal in goals) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
