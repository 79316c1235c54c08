"""Gateways side by side on HTTP: throughput, added latency, streaming, CPU and memory, ours and the peers' in one run.

Entry: `main(argv)` (`python -m bench http [--quick]`). Targets are measured in turns (A B C, A B C, ...) and medians
taken over the rounds, so that a noisy minute hits everybody; added latency is taken against the direct measurement of
the same round.
Laws: no target is timed before its replies were checked; whatever was not a full 200 is counted and printed; a peer
that is not installed is named.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import http_load, processes, report, targets
from bench.http_load import Sample
from bench.targets import CACHE, ROOT, Target
from bench.upstream import EVENTS

STREAM_CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each load runs (seconds) and how often."""

    rounds: int
    warm_s: float
    saturate_s: float
    offer_s: float
    paced_s: float
    burst_s: float
    connections: tuple[int, ...] = (1, 16, 64)


FULL = Plan(rounds=3, warm_s=4.0, saturate_s=3.0, offer_s=8.0, paced_s=4.0, burst_s=3.0)
QUICK = Plan(rounds=3, warm_s=1.5, saturate_s=1.0, offer_s=2.5, paced_s=1.0, burst_s=1.0)


@dataclass
class Series:
    """All samples of one target: figure name -> one value a round."""

    figures: dict[str, list[float]] = field(default_factory=dict)
    bad: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def fault(self, load: str, sample: Sample) -> None:
        for kind, count in sample.bad.items():
            self.bad[f"{load}: {kind}"] = self.bad.get(f"{load}: {kind}", 0) + count

    def median(self) -> dict[str, float]:
        return {name: statistics.median(values) for name, values in self.figures.items()}


@contextmanager
def upstream(folder: Path) -> Iterator[int]:
    """The mock upstream on the load's core; gives its port."""
    port = processes.free_port()
    command = [sys.executable, "-m", "bench.upstream", "--port", str(port)]
    running = processes.start("upstream", command, core=processes.LOAD_CORE, log=folder / "upstream.log", cwd=ROOT)
    try:
        processes.wait_listening(running, port)
        yield port
    finally:
        running.stop()


def measure_round(target: Target, series: Series, plan: Plan, folder: Path, direct: Series | None) -> None:
    """All loads once. `direct` holds the same round's direct figures as its last values; None for the direct target."""
    for connections in plan.connections:
        sample = http_load.saturate(target, connections, plan.saturate_s, folder)
        series.add(f"rps_{connections}", sample.values["rps"])
        series.add(f"p50_ms_{connections}", sample.values["p50_ms"])
        series.add(f"p99_ms_{connections}", sample.values["p99_ms"])
        series.add(f"cpu_us_{connections}", sample.cpu_s / max(1.0, sample.values["requests"]) * 1e6)
        series.fault(f"wrk {connections}", sample)
    rates = targets.RATES_PER_S if direct is None else (target.rate_per_s,)
    for rate_per_s in rates:
        sample = http_load.offer(target, rate_per_s, plan.offer_s)
        for name in ("p50_ms", "p99_ms"):
            series.add(f"offer{rate_per_s}_{name}", sample.values[name])
            if direct is not None:
                series.add(f"added_{name}", sample.values[name] - direct.figures[f"offer{rate_per_s}_{name}"][-1])
        series.fault(f"{rate_per_s}/s", sample)
    paced = http_load.stream(target, 1, plan.paced_s, paced=True)
    series.add("first_event_p50_ms", paced.values["first_p50_ms"])
    series.add("first_event_p99_ms", paced.values["first_p99_ms"])
    if direct is not None:
        for name in ("p50_ms", "p99_ms"):
            floor = direct.figures[f"first_event_{name}"][-1]
            series.add(f"added_first_event_{name}", paced.values[f"first_{name}"] - floor)
    series.fault("paced streams", paced)
    burst = http_load.stream(target, STREAM_CONNECTIONS, plan.burst_s, paced=False)
    series.add("events_per_s", burst.values["events_per_s"])
    series.add("cpu_us_event", burst.cpu_s / max(1.0, burst.values["streams"] * (EVENTS + 1)) * 1e6)
    series.fault("burst streams", burst)


@contextmanager
def alone(target: Target, others: list[Target]) -> Iterator[None]:
    """Holds all other gateways still: an idle one, too, has timers that run on the measured core."""
    resting = [other.running for other in others if other is not target and other.running is not None]
    for running in resting:
        running.pause()
    try:
        yield
    finally:
        for running in resting:
            running.resume()


def start_all(wanted: list[Target]) -> tuple[list[Target], dict[str, str]]:
    """Starts what can be started: the targets that answer correctly, and the reason for each that is left out."""
    ready: list[Target] = []
    left_out: dict[str, str] = {}
    for target in wanted:
        reason = target.missing()
        if reason is None:
            try:
                target.start()
                faults = http_load.check(target)
                reason = "; ".join(faults) if faults else None
            except (OSError, RuntimeError, ValueError, KeyError) as error:
                tail = target.running.log_tail(6) if target.running is not None else ""
                reason = f"{type(error).__name__}: {error}\n{tail}".strip()
        if reason is None:
            ready.append(target)
            print(f"{target.name}: ready after {target.ready_s:.2f} s, replies checked", flush=True)
        else:
            target.stop()
            left_out[target.name] = reason
            print(f"{target.name}: left out: {reason}", flush=True)
    return ready, left_out


def run(names: list[str], plan: Plan, folder: Path) -> dict[str, object]:
    """The whole measurement; returns what is written as JSON."""
    raised = processes.raise_priority()
    with upstream(folder) as port:
        wanted = targets.build(names, port, folder)
        try:
            ready, left_out = start_all(wanted)
            series = {target.name: Series() for target in ready}
            for target in ready:
                if target.running is not None:
                    series[target.name].add("rss_idle_mib", target.running.rss_mib())
                series[target.name].add("ready_s", target.ready_s)
                with alone(target, ready):
                    http_load.saturate(target, 16, plan.warm_s, folder)
                    http_load.stream(target, 4, plan.warm_s / 2, paced=False)
            for number in range(plan.rounds):
                for target in ready:
                    print(f"round {number + 1} of {plan.rounds}: {target.name}", flush=True)
                    direct = None if target.name == "direct" else series["direct"]
                    with alone(target, ready):
                        measure_round(target, series[target.name], plan, folder, direct)
            for target in ready:
                if target.running is not None:
                    series[target.name].add("rss_after_mib", target.running.rss_mib())
            accounting = next((target.accounting() for target in ready if isinstance(target, targets.Ours)), None)
        finally:
            for target in wanted:
                target.stop()
    return {
        "machine": {
            "cores": len(processes.available_cores()),
            "system": platform.platform(),
            "python": sys.version.split()[0],
        },
        "priority_raised": raised,
        "commit": _commit(),
        "rounds": plan.rounds,
        "left_out": left_out,
        "medians": {name: one.median() for name, one in series.items()},
        "samples": {name: one.figures for name, one in series.items()},
        "bad": {name: one.bad for name, one in series.items() if one.bad},
        "accounting": accounting,
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def main(argv: list[str]) -> int:
    """Command line: `--quick`, `--only direct,nginx,ours`, `--no-setup`. Exit code 1 when ours was not measured."""
    parser = argparse.ArgumentParser(prog="python -m bench http", description="Gateways side by side on HTTP.")
    parser.add_argument("--quick", action="store_true", help="three short rounds, about 3 minutes")
    parser.add_argument("--only", default=",".join(targets.ORDER), help="comma list; direct is always measured")
    parser.add_argument("--no-setup", action="store_true", help="do not install wrk, nginx and the peers")
    arguments = parser.parse_args(argv)
    names = [name.strip() for name in arguments.only.split(",") if name.strip()]
    unknown = sorted(set(names) - set(targets.ORDER))
    if unknown:
        parser.error(f"unknown target {', '.join(unknown)}; known: {', '.join(targets.ORDER)}")
    if not arguments.no_setup:
        subprocess.run([str(ROOT / "bench" / "setup.sh")], check=False)
    plan = QUICK if arguments.quick else FULL
    folder = CACHE / f"run-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    began_s = time.perf_counter()
    result = run(["direct", *names], plan, folder)
    path = report.save("http", result)
    shutil.rmtree(folder)  # logs and stores are kept only when the run failed
    print()
    print(report.http_table(result))
    print(f"\n{time.perf_counter() - began_s:.0f} s; figures: {path}")
    return 1 if "ours" in names and "ours" not in json.loads(path.read_text())["medians"] else 0
