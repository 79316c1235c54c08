"""What a decision costs, alone, with 10 to 10,000 keys: gather, sift, rank and hold, without any sending.

Entry: `wired()`, `decision_latency()`; `main(argv)` prints the table (`python -m bench decision`). The first has keys
without limits; the last rows everything at once: limits on every pool, three budgets, a constraint, a prompt that
providers cache, the objective of most terms, and then two policies and `max_cost` besides.
Laws: it calls the functions that the pipeline calls, on a router wired as users wire it; every hold is given back
outside the timed part, but the turn stays taken, so that each decision meets the state that the one before left
behind.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from apikeyrouter import ApiKeyRouter, OpenAIAdapter
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.models.budget import BudgetScope, EnforcementMode, TimeWindow
from apikeyrouter.domain.models.call import Call, Operation, peek
from apikeyrouter.domain.models.routing_decision import ObjectiveType, RoutingObjective
from apikeyrouter.domain.routing.demand import demand_of
from apikeyrouter.domain.routing.explain import DecisionRecord
from apikeyrouter.domain.routing.objectives import Objective
from bench import processes, report
from bench.client import percentile
from bench.http_load import body

SIZES = (10, 100, 1_000, 10_000)
OBJECTIVES = ("fairness", "cost", "reliability")
FULL_SIZES = (50, 5_000)
FULL = "balanced, everything on"
RULED = "the same, policies, max_cost"
PLENTY = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Latency:
    """Microseconds a decision; lower is better."""

    keys: int
    objective: str
    resting: int
    mean_us: float
    p50_us: float
    p99_us: float


async def wired(keys: int) -> ApiKeyRouter:
    """A router over a memory store with `keys` keys at seven prices."""
    router = ApiKeyRouter()
    await router.register_provider("openai", OpenAIAdapter())
    for number in range(keys):
        price = f"{0.001 * (1 + number % 7):.4f}"
        await router.register_key(f"sk-bench-{number:08d}", "openai", {"cost_per_1k": price})
    return router


async def wired_full(keys: int) -> ApiKeyRouter:
    """As `wired`, with limits on every pool and three soft budgets on every request: their holds are the dearest to
    work out, and no store has to be asked meanwhile."""
    router = ApiKeyRouter()
    await router.register_provider("openai", OpenAIAdapter())
    for number in range(keys):
        terms = {"cost_per_1k": f"{0.001 * (1 + number % 7):.4f}", "rpm": PLENTY, "tpm": 1_000 * PLENTY}
        await router.register_key(f"sk-bench-{number:08d}", "openai", terms)
    for period in (TimeWindow.Daily, TimeWindow.Monthly, TimeWindow.Total):
        await router.cost_controller.create_budget(BudgetScope.Global, PLENTY, period, None, EnforcementMode.Soft)
    return router


def full_call(router: ApiKeyRouter) -> Call:
    """One conversation of about 1,500 tokens."""
    wire = json.loads(body())
    wire["messages"][1]["content"] = " ".join(f"word{number}" for number in range(600))
    content = json.dumps(wire).encode()
    return router.new_call(Operation.Chat, content, peek(content), session="bench")


def full_objective(router: ApiKeyRouter, *, ruled: bool = False) -> Objective:
    """Every term, and a constraint. `ruled`: and the most that a request may cost."""
    constraints: dict[str, object] = {"blocked_providers": ["another"]}
    if ruled:
        constraints["max_cost"] = PLENTY
    return router.objective(RoutingObjective(primary=ObjectiveType.Balanced, constraints=constraints))


async def rule(router: ApiKeyRouter) -> None:
    """Two policies that every key has to pass."""
    await router.policy_engine.add_policy(id="no-such-tag", blocked_tags=["such"])
    await router.policy_engine.add_policy(id="known-providers", allowed_providers=["openai", "another"])


async def rest(router: ApiKeyRouter, count: int) -> None:
    """Disables the first `count` keys."""
    for key in (await router.key_manager.list_keys("openai"))[:count]:
        await router.key_manager.disable(key.id, reason="bench")


def decision_latency(
    router: ApiKeyRouter, name: str, *, full: bool = False, ruled: bool = False, samples: int = 20_000
) -> Latency:
    """Times `samples` decisions of a wired router for the objective `name`, or those of `full_call`, under policies.

    Raises RuntimeError when a decision finds nobody, since then nothing was measured.
    """
    content = body().encode()
    asked = full_objective(router, ruled=ruled) if full else router.objective(name)
    call = full_call(router) if full else router.new_call(Operation.Chat, content, peek(content))
    took_us: list[float] = []
    gc.collect()
    gc.freeze()
    for number in range(samples + samples // 10):
        now_s = time.monotonic()
        began_ns = time.perf_counter_ns()
        objective = router.policy_engine.apply(asked, call)
        record = DecisionRecord("bench", call.request_id, call.model, objective, at_utc_s=0.0, stream=False)
        group = router.directory.group_for(call.provider_id, call.model)
        demand = demand_of(call, router.cost_controller.lengths)
        taken = router.chooser.choose(group, demand, objective, record, tried=set(), now_s=now_s, tags=call.tags)
        ended_ns = time.perf_counter_ns()
        if taken is None:
            raise RuntimeError(
                f"no key was chosen among {record.candidates}: {[one.reason for one in record.rejections[:3]]}"
            )
        taken.hold.release()
        # The first tenth warms caches (and parks the keys that rest).
        if number >= samples // 10:
            took_us.append((ended_ns - began_ns) / 1e3)
    gc.unfreeze()
    mean_us = sum(took_us) / len(took_us)
    states = [record.state for record in router.key_manager.records("openai")]
    resting = states.count(KeyState.Disabled)
    return Latency(len(states), name, resting, mean_us, percentile(took_us, 0.5), percentile(took_us, 0.99))


async def measure(sizes: Sequence[int], samples: int) -> list[Latency]:
    """All sizes and objectives, and then one row each with half of the keys disabled."""
    rows: list[Latency] = []
    for keys in sizes:
        router = await wired(keys)
        rows += [decision_latency(router, objective, samples=samples) for objective in OBJECTIVES]
        await rest(router, keys // 2)
        rows.append(decision_latency(router, "fairness", samples=samples))
        await router.aclose()
    for keys in FULL_SIZES:
        router = await wired_full(keys)
        rows.append(decision_latency(router, FULL, full=True, samples=samples))
        await rule(router)
        rows.append(decision_latency(router, RULED, full=True, ruled=True, samples=samples))
        await router.aclose()
    return rows


def main(argv: list[str]) -> int:
    """Command line: `--quick` takes fewer samples and stops at 1,000 keys."""
    parser = argparse.ArgumentParser(prog="python -m bench decision", description="What a decision costs.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples, up to 1,000 keys")
    arguments = parser.parse_args(argv)
    processes.raise_priority()
    sizes = SIZES[:-1] if arguments.quick else SIZES
    rows = asyncio.run(measure(sizes, 2_000 if arguments.quick else 20_000))
    cells = [
        [
            f"{row.keys:,}",
            f"{row.resting:,}",
            row.objective,
            f"{row.p50_us:.1f}",
            f"{row.mean_us:.1f}",
            f"{row.p99_us:.1f}",
        ]
        for row in rows
    ]
    print(report.columns(["keys", "resting", "objective", "p50 us", "mean us", "p99 us"], cells))
    p50_us = {(row.keys, row.objective, row.resting): row.p50_us for row in rows}
    worst = {keys: max(p50_us[keys, objective, 0] for objective in OBJECTIVES) for keys in sizes}
    full = [p50_us[keys, FULL, 0] for keys in FULL_SIZES]
    goals = [
        report.Goal("50 keys, everything on", full[0], 60, at_most=True, unit="us"),
        report.Goal("50 keys, two policies and max_cost too", p50_us[50, RULED, 0], 60, at_most=True, unit="us"),
        report.Goal("5,000 keys / 50 keys, everything on", full[1] / full[0], 3, at_most=True, unit="x"),
        report.Goal("decision at 10 keys (dearest objective)", worst[10], 40, at_most=True, unit="us"),
        report.Goal("1,000 keys / 10 keys", worst[1_000] / worst[10], 3, at_most=True, unit="x"),
    ]
    if 10_000 in worst:
        goals.append(report.Goal("10,000 keys / 10 keys", worst[10_000] / worst[10], None, at_most=True, unit="x"))
    print()
    print(report.figures_table(goals))
    print(f"\nfigures: {report.save('decision', {'rows': [asdict(row) for row in rows]})}")
    return 0
