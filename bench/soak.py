"""`python -m bench soak`: money at full size on real stores, while processes and servers are killed.

    python -m bench soak                                   everything, on every store (about an hour)
    python -m bench soak --store redis --only kills --kills 20
    python -m bench race --store sqlite                    one budget race, nobody is harmed

Runs, named by the rows of the reliability table: `race` (R2), `kills` (R3: kill -9 of workers), `orphans` (R3 without
black boxes: a killed worker's slices are presumed spent after its lease), `pauses` (a worker stands still for longer
than its lease, is given up, and wakes), `outages` (R4: the server is killed, or
frozen, and comes back). Each starts its own servers in temporary folders and prints a line of figures; the exit status
is 1 if any law was violated: overspend and false rejections 0, spend and presumed charges within the judge's bounds,
errors of workers none but "the store does not answer", everything at rest in the end, work goes on within 5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.race import Plan, run_race
from bench.race_judge import Verdict
from bench.trouble import Trouble
from tests.support.servers import PostgresServer, RedisServer

__all__ = ["STORES", "main", "run_one"]

STORES = ("sqlite", "postgres", "redis", "redis-always")
"""`redis` writes its log to disk once a second (its default), `redis-always` before each answer."""

RUNS = ("race", "kills", "orphans", "pauses", "outages")
RESUME_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything. `minutes`: a run is ended in order after so long, and says what it had reached."""

    processes: int
    tasks: int
    budgets: int
    reservations: int
    kills: int
    server_kills: int
    minutes: float
    seed: int = 1


def run_one(run: str, store: str, size: Size) -> tuple[Verdict, float]:
    """One run on a store of its own; what the judge says, and how many seconds the race took."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="akr-race-")))
        server: PostgresServer | RedisServer | None = None
        url = f"sqlite:///{folder}/money.db"
        if store == "postgres":
            server = stack.enter_context(PostgresServer(durable=run == "outages"))
            url = server.fresh_url()
        elif store != "sqlite":
            server = stack.enter_context(RedisServer(appendfsync="always" if store == "redis-always" else "everysec"))
            url = server.url
        plan = plan_of(run, url, folder, size)
        trouble = Trouble(plan, server, seed=size.seed)
        if run in ("kills", "orphans"):
            trouble.kills = size.kills if run == "kills" else min(size.kills, max(4, size.kills // 10))
        if run == "pauses":
            trouble.pauses = max(2, size.kills // 20)
        if run == "outages":
            trouble.server_kills = size.server_kills
        trouble.seconds_max = size.minutes * 60
        started_s = time.monotonic()
        verdict = asyncio.run(run_race(plan, trouble.run))
        return trouble.note(verdict), time.monotonic() - started_s


def plan_of(run: str, url: str, folder: Path, size: Size) -> Plan:
    """Killed processes should be killed with requests under way: then these take some time."""
    plan = Plan(url, folder, size.processes, size.tasks, size.budgets, size.reservations, size.seed)
    if run != "race":
        plan.pace_s = 0.05
        plan.wait_s = 30.0
    if run in ("orphans", "pauses"):
        plan.boxes, plan.exact, plan.ttl_s = run == "pauses", False, 3.0
        plan.tasks = min(plan.tasks, 16)
    return plan


def _percentile_text(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.2f}/{max(seconds):.2f}" if seconds else "-"


COLUMNS: tuple[tuple[str, Callable[[Verdict, float], str]], ...] = (
    ("budgets", lambda v, _: f"{v.budgets}"),
    ("reservations", lambda v, _: f"{v.reservations:,}"),
    ("limit hits", lambda v, _: f"{v.refusals:,}"),
    ("used %", lambda v, _: f"{v.used_share * 100:.3f}"),
    ("overspend", lambda v, _: f"{v.overspend}"),
    ("false rej.", lambda v, _: f"{v.false_rejections}"),
    ("timeouts", lambda v, _: f"{v.timeouts}"),
    ("store err.", lambda v, _: f"{v.store_errors:,}"),
    ("kills", lambda v, _: f"{v.kills}"),
    ("server kills", lambda v, _: f"{v.server_kills}"),
    ("presumed $", lambda v, _: f"{v.presumed / 1e9:.6f}"),
    ("recovery p50/max s", lambda v, _: _percentile_text(v.recovered_s)),
    ("resumed p50/max s", lambda v, _: _percentile_text(v.resumed_s)),
    ("round trips", lambda v, _: f"{v.round_trips:,}"),
    ("reserv./s", lambda v, s: f"{v.reservations / s:,.0f}"),
    ("s", lambda _, s: f"{s:.0f}"),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--store", choices=("all", *STORES), default="all")
    parser.add_argument("--only", help=f"comma-separated: {', '.join(RUNS)}", default=",".join(RUNS))
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=64, help="per process")
    parser.add_argument("--budgets", type=int, default=70)
    parser.add_argument("--reservations", type=int, default=10_000, help="about so many fit into each budget")
    parser.add_argument("--kills", type=int, default=200, help="of workers")
    parser.add_argument("--server-kills", type=int, default=50, help="half as many freezes come on top")
    parser.add_argument("--minutes", type=float, default=15.0, help="the most for each run")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def main(argv: Sequence[str]) -> int:
    """Runs what was asked for and prints it; 1 if any law was violated."""
    options = _parser().parse_args(argv)
    runs = [run for run in options.only.split(",") if run]
    if not set(runs) <= set(RUNS):
        print(f"unknown run in {options.only!r}; known: {', '.join(RUNS)}", file=sys.stderr)
        return 2
    size = Size(
        options.processes,
        options.tasks,
        options.budgets,
        options.reservations,
        options.kills,
        options.server_kills,
        options.minutes,
        options.seed,
    )
    logging.getLogger("apikeyrouter").setLevel(logging.ERROR)
    good = True
    for store in STORES if options.store == "all" else (options.store,):
        for run in runs:
            if store == "sqlite" and run == "outages":
                continue  # there is no server
            if store == "redis-always" and run != "outages" and options.store == "all":
                continue  # how often the log goes to disk matters only to those who lose the server
            verdict, seconds = run_one(run, store, size)
            good = _report(run, store, verdict, seconds) and good
    return 0 if good else 1


def _report(run: str, store: str, verdict: Verdict, seconds: float) -> bool:
    late = [one for one in verdict.resumed_s if one > RESUME_WITHIN_S]
    if late:
        verdict.faults.append(
            f"{len(late)} times a process took more than {RESUME_WITHIN_S} s to go on: {max(late):.1f}"
        )
    print(f"\n{run} on {store}: {'no violation' if verdict.good else 'VIOLATED'}")
    for name, show in COLUMNS:
        print(f"  {name:<20}{show(verdict, seconds)}")
    for fault in verdict.faults[:20]:
        print(f"  ! {fault}")
    if len(verdict.faults) > 20:
        print(f"  ! and {len(verdict.faults) - 20} more")
    sys.stdout.flush()
    return verdict.good
