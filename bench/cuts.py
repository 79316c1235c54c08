"""Streams that break off: half by their client, half by their provider, each at a random byte.

`python -m bench cuts --streams 10000` starts a proxy and an upstream (`cut_upstream`), runs the streams in waves, whole
ones in between, and judges: whether all was settled within 2 seconds; what is left of tasks, sockets and holds; how
near the charges of interrupted streams come to what was generated; whether clients always see an end, and providers
stop. Exit status 1 when a bar is missed. `run` is what the test calls with a small number.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.cut_client import Outcome, read_stream
from bench.cut_upstream import DIALECTS, Recipe, prompt_tokens, stream_events
from bench.local_http import call_json, wait_ok
from bench.report import columns, save
from tests.support.processes import ProxyProcess, free_port, proxy_process

__all__ = ["Figures", "main", "run"]

SETTLED_WITHIN_S = 2.0
SPEND_WITHIN = 0.05
KEYS = 64
INPUT_USD, OUTPUT_USD = Decimal("2.5"), Decimal(10)
"""US dollars a million tokens: one to four, as the price list has it for most chat models."""

_MESSAGES = [{"role": "user", "content": "Please tell me what you know about the river and its bridges. " * 4}]
_PROMPT_TOKENS = prompt_tokens(_MESSAGES)
_CONCURRENT = 100
_WAVE = 400
_WHOLE_SHARE = 0.2
_RESTING = 503
"""Half of a provider's streams break off, so its keys may be given a rest; what is refused then is not counted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One stream and who ends it."""

    recipe: Recipe
    hang_up_at: int | None = None
    reset: bool = False
    wants_usage: bool = False

    @property
    def by(self) -> str:
        """ "client", "provider" or "nobody"."""
        return "client" if self.hang_up_at is not None else "nobody" if self.recipe.cut_at is None else "provider"


@dataclass(slots=True)
class Spend:
    """Of one dialect. Costs of interrupted streams in US dollars: as charged, and as it was generated."""

    interrupted: int = 0
    charged: Decimal = Decimal(0)
    generated: Decimal = Decimal(0)
    presumed: Decimal = Decimal(0)

    @property
    def off(self) -> float:
        """How far the charge is from the truth, as a share of it."""
        return float(self.charged / self.generated - 1) if self.generated else 0.0


@dataclass(slots=True)
class Figures:
    """What a run found. `unsettled`: requests that the ledger or the reports miss. `left`: by what tasks and sockets
    grew. `settle_s`: per wave. `stop_s`: from a client's leaving until its provider noticed."""

    cut: int = 0
    whole: int = 0
    took_s: float = 0.0
    settle_s: list[float] = field(default_factory=list)
    stop_s: list[float] = field(default_factory=list)
    unsettled: int = 0
    replayed: int = 0
    unstopped: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    spend: dict[str, Spend] = field(default_factory=dict)

    @property
    def off(self) -> float:
        """Of all dialects together, see `Spend.off`."""
        charged = sum((one.charged for one in self.spend.values()), Decimal(0))
        generated = sum((one.generated for one in self.spend.values()), Decimal(0))
        return float(charged / generated - 1) if generated else 0.0

    def misses(self) -> list[str]:
        """The bars that were missed, in words."""
        found = [f"{count} x {fault}" for fault, count in _most(self.faults)[:8]]
        if max(self.settle_s, default=0.0) > SETTLED_WITHIN_S:
            found.append(f"settled only after {max(self.settle_s):.2f} s")
        for name, count in [("unsettled", self.unsettled), ("replayed", self.replayed), ("unstopped", self.unstopped)]:
            if count:
                found.append(f"{count} {name}")
        found += [f"{count} more {name}" for name, count in self.left.items() if count > 0]
        if abs(self.off) > SPEND_WITHIN:
            found.append(f"interrupted streams are charged {self.off:+.1%}")
        return found


def run(streams: int, *, seed: int = 1, folder: Path) -> Figures:
    """Runs so many streams that break off, and whole ones in between."""
    figures = Figures()
    rng = random.Random(seed)
    with _upstream() as port, _proxy(port, folder) as proxy:
        began_s = time.monotonic()
        numbers = iter(range(1, 10 * streams + 1000))
        warm_up = [_plan(rng, next(numbers), "nobody") for _ in range(3 * len(DIALECTS))]
        judge = _Judge(proxy, port, figures)
        judge.wave(warm_up)
        before = _census(proxy)
        while figures.cut < streams:
            judge.wave(_wave(rng, numbers, min(_WAVE, streams - figures.cut)))
        figures.took_s = time.monotonic() - began_s
        judge.end(before)
    return figures


def _wave(rng: random.Random, numbers: Iterator[int], cuts: int) -> list[Plan]:
    enders = ["client", "provider"] * (cuts // 2) + ["client"] * (cuts % 2) + ["nobody"] * int(cuts * _WHOLE_SHARE)
    rng.shuffle(enders)
    return [_plan(rng, next(numbers), by) for by in enders]


def _plan(rng: random.Random, number: int, by: str) -> Plan:
    model = rng.choice(list(DIALECTS))
    recipe = Recipe(number, model, tokens=rng.randint(10, 60), reset=rng.random() < 0.5)
    size = sum(len(event.data) for event in stream_events(recipe, _PROMPT_TOKENS))
    plan = Plan(recipe, reset=rng.random() < 0.5, wants_usage=rng.random() < 0.5)
    if by == "client":
        return replace(plan, hang_up_at=rng.randrange(size))
    return plan if by == "nobody" else replace(plan, recipe=replace(recipe, cut_at=rng.randrange(size)))


class _Judge:
    """Runs waves and adds up what they show."""

    def __init__(self, proxy: ProxyProcess, upstream_port: int, figures: Figures) -> None:
        self._proxy = proxy
        self._upstream_port = upstream_port
        self._figures = figures
        self._asked: set[int] = set()
        self._records: list[dict[str, Any]] = []

    def wave(self, plans: Sequence[Plan]) -> None:
        """Runs them, at most so many at once, and waits until all is settled."""
        figures = self._figures
        outcomes = asyncio.run(_all(self._proxy.port, plans))
        figures.settle_s.append(self._settled())
        records: dict[int, list[dict[str, Any]]] = {}
        for record in call_json(self._upstream_port, "GET", "/_records")["items"]:  # type: ignore[attr-defined]  # JSON
            records.setdefault(record["stream"], []).append(record)
        for plan, outcome in zip(plans, outcomes, strict=True):
            self._judge(plan, outcome, records.get(plan.recipe.stream, []))
            if outcome.status == _RESTING:
                continue
            if plan.by == "nobody":
                figures.whole += 1
            else:
                figures.cut += 1
        self._records += [record for found in records.values() for record in found]

    def end(self, before: dict[str, int]) -> None:
        """What is left, and what was charged."""
        figures = self._figures
        after = _census(self._proxy, at_most=before)
        figures.left = {name: after[name] - count for name, count in before.items()}
        report = self._proxy.get("/api/v1/spend?by=model&since=7d")[1]
        requests = sum(row["requests"] for row in report["data"])
        figures.unsettled += len({record["stream"] for record in self._records}) - requests
        for row in report["data"]:
            figures.spend[row["model"]] = _spend(row, [r for r in self._records if r["model"] == row["model"]])

    def _settled(self) -> float:
        """Seconds until nothing is held and nothing runs any more; those that never settle are counted."""
        began_s = time.monotonic()
        while True:
            state = self._proxy.get("/api/v1/state")[1]
            held = [b for b in self._proxy.get("/api/v1/budgets")[1]["data"] if Decimal(b["held"])]
            took_s = time.monotonic() - began_s
            if not state["open_holds"] and not state["in_flight"] and not held:
                return took_s
            if took_s > 5 * SETTLED_WITHIN_S:
                self._figures.unsettled += max(1, state["open_holds"])
                return took_s
            time.sleep(0.02)

    def _judge(self, plan: Plan, outcome: Outcome, records: list[dict[str, Any]]) -> None:
        figures = self._figures
        for fault in outcome.faults:
            _add(figures.faults, f"{plan.by} cut {plan.recipe.model}: {fault}")
        if any(record["events"] for record in records[:-1]):
            figures.replayed += 1
        if outcome.hung_up_s is not None:
            _add(figures.answers, "hung up")
            self._judge_hang_up(plan, outcome, records)
            return
        text = _text(plan.recipe)
        if outcome.status != 200:
            _add(figures.answers, f"{outcome.status} {(outcome.error or {}).get('code')}")
            if plan.by != "provider" and outcome.status != _RESTING:
                _add(figures.faults, f"{outcome.status} for a stream that nobody cut")
        elif outcome.error is not None:
            _add(figures.answers, "in-band error")
            if plan.by != "provider" or not text.startswith(outcome.text):
                _add(figures.faults, "an error or a text that nobody sent")
        else:
            _add(figures.answers, "complete")
            if outcome.text != text:
                _add(figures.faults, f"{plan.by} cut {plan.recipe.model}: taken for complete")

    def _judge_hang_up(self, plan: Plan, outcome: Outcome, records: list[dict[str, Any]]) -> None:
        for record in records:
            if record["left_s"] is not None and outcome.hung_up_s is not None:
                self._figures.stop_s.append(record["left_s"] - outcome.hung_up_s)
            elif not record["whole"] and plan.by == "client":
                self._figures.unstopped += 1


def _add(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


async def _all(port: int, plans: Sequence[Plan]) -> list[Outcome]:
    turn = asyncio.Semaphore(_CONCURRENT)

    async def one(plan: Plan) -> Outcome:
        async with turn:
            return await read_stream(
                port, plan.recipe.stream, _body(plan), hang_up_at=plan.hang_up_at, reset=plan.reset
            )

    return list(await asyncio.gather(*(one(plan) for plan in plans)))


def _body(plan: Plan) -> bytes:
    told = asdict(plan.recipe)
    model = told.pop("model")
    body = {"model": model, "messages": _MESSAGES, "max_tokens": 100, "stream": True}
    body["metadata"] = {"recipe": json.dumps(told)}
    if plan.wants_usage:
        body["stream_options"] = {"include_usage": True}
    return json.dumps(body).encode()


def _text(recipe: Recipe) -> str:
    """What the client of an undisturbed stream reads."""
    parts = []
    for event in stream_events(recipe, _PROMPT_TOKENS):
        start = event.data.find(b"data: {")
        if event.tokens and start >= 0:
            value = json.loads(event.data[start + 6 :].splitlines()[0])
            parts.append(value["choices"][0]["delta"]["content"])
    return "".join(parts)


def _spend(row: dict[str, Any], records: list[dict[str, Any]]) -> Spend:
    """Charges of a dialect without those of its whole streams, which are known exactly."""
    broken = [record for record in records if not record["whole"] and record["events"]]
    whole = [record for record in records if record["whole"]]
    if DIALECTS[row["model"]].usage == "none":  # whole streams are estimated too
        broken, whole = [*broken, *whole], []
    exact = sum((_cost(record) for record in whole), Decimal(0))
    presumed = Decimal(row["presumed"])
    return Spend(
        len(broken),
        Decimal(row["cost"]) - presumed - exact,
        sum((_cost(record) for record in broken), Decimal(0)),
        presumed,
    )


def _cost(record: dict[str, Any]) -> Decimal:
    cost: Decimal = (INPUT_USD * record["prompt_tokens"] + OUTPUT_USD * record["tokens"]) / 1_000_000
    return cost


def _census(proxy: ProxyProcess, at_most: dict[str, int] | None = None) -> dict[str, int]:
    """Tasks and open files of the proxy at rest, kept-alive connections to providers taken off; with `at_most`, after
    some patience."""
    until_s = time.monotonic() + SETTLED_WITHIN_S
    while True:
        text = str(proxy.get("/metrics")[1])
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        values = [(name, float(value)) for name, _, value in lines]
        tasks = int(sum(value for name, value in values if name == "apikeyrouter_tasks"))
        pooled = int(sum(value for name, value in values if name.startswith("apikeyrouter_upstream_connections")))
        files = sum(1 for _ in Path(f"/proc/{proxy.process.pid}/fd").iterdir())
        found = {"tasks": tasks, "open files": files - pooled}
        if at_most is None or all(found[name] <= count for name, count in at_most.items()):
            return found
        if time.monotonic() > until_s:
            return found
        time.sleep(0.05)


@contextmanager
def _upstream() -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.cut_upstream", "--port", str(port)])
    try:
        wait_ok(port, "/v1/models", limit_s=20.0)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _proxy(upstream_port: int, folder: Path) -> Iterator[ProxyProcess]:
    """With many keys, one hard budget over everything, and prices."""
    env = {f"OPENAI_API_KEY_{i}": f"sk-cut-{i:03d}-" + "x" * 12 for i in range(1, KEYS + 1)}
    env |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{upstream_port}/v1", "LOG_LEVEL": "WARNING"}
    with proxy_process(None, folder, env=env) as proxy:
        for model in DIALECTS:
            price = {"unit": "per_1m", "input": str(INPUT_USD), "output": str(OUTPUT_USD)}
            status, told, _ = proxy.ask("PUT", f"/api/v1/prices/openai/{model}", price)
            if status != 200:
                raise RuntimeError(f"no price could be set: {told}")
        proxy.post("/api/v1/budgets", {"limit": "1000000", "name": "everything"})
        yield proxy


def report(figures: Figures) -> str:
    """Tables for people."""
    rows = [
        [
            name,
            str(one.interrupted),
            f"{one.charged:.4f}",
            f"{one.generated:.4f}",
            f"{one.off:+.1%}",
            f"{one.presumed:.4f}",
        ]
        for name, one in sorted(figures.spend.items())
    ]
    stop = sorted(figures.stop_s) or [0.0]
    lines = [
        columns(["dialect", "interrupted", "charged $", "generated $", "off", "presumed $"], rows),
        "",
        f"{figures.cut} streams cut, {figures.whole} whole ones in between, in {figures.took_s:.0f} s",
        f"settled after the last byte of a wave: at most {max(figures.settle_s):.2f} s (bar {SETTLED_WITHIN_S:g})",
        f"provider stopped after a hang-up: p50 {stop[len(stop) // 2] * 1e3:.0f} ms, at most {stop[-1] * 1e3:.0f} ms",
        f"answers: {', '.join(f'{count} {name}' for name, count in _most(figures.answers))}",
        f"left behind: {', '.join(f'{count:+d} {name}' for name, count in figures.left.items())}",
        f"charges of interrupted streams, all together: {figures.off:+.2%}",
        *[f"MISSED: {miss}" for miss in figures.misses()],
    ]
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """The command. Exit status 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench cuts", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        figures = run(options.streams, seed=options.seed, folder=Path(folder))
    print(report(figures))
    kept = save("cuts", json.loads(json.dumps(asdict(figures), default=str)))
    print(f"all figures: {kept}")
    return 1 if figures.misses() else 0
