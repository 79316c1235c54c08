"""Whole runs in small worlds: the same seed gives the same run, the oracle is best, ours keeps its laws."""

from __future__ import annotations

import asyncio
import gc
import re
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from apikeyrouter.simulation.world.arena import ALL, compete, fault_of, names_of, run_one
from apikeyrouter.simulation.world.chaos import check_seed, random_world
from apikeyrouter.simulation.world.engine import run_policy
from apikeyrouter.simulation.world.loop import WorldLoop, run_world
from apikeyrouter.simulation.world.oracle import run_oracle
from apikeyrouter.simulation.world.ours import Ours, run_ours
from apikeyrouter.simulation.world.plan import plan
from apikeyrouter.simulation.world.policies import POLICIES
from apikeyrouter.simulation.world.report import Timeline, timeline, to_html
from apikeyrouter.simulation.world.run import Run, figures, jain, percentile
from apikeyrouter.simulation.world.scenarios import SCENARIOS, measure, outage
from apikeyrouter.simulation.world.spec import Enforcement, Fault, FaultKind, PoolSpec, World
from apikeyrouter.simulation.world.traffic import (
    Traffic,
    capacity_load,
    fit_pools,
    poisson,
    read_log,
    steady,
)
from apikeyrouter.testing.virtual_time import DeadlockError

BASELINES = [name for name in ALL if name != "ours" and not name.startswith("oracle")]


def _crowded(load: float = 0.9, *, seed: int = 1, requests: int = 600) -> tuple[World, Traffic]:
    traffic = poisson(8.0, requests, Random(seed))
    pools = fit_pools(traffic, [1, 1, 2, 4], load, foreign_ratio=0.25)
    return World(pools, refused_count=True, foreign_ratio=0.25, limits_known=True), traffic


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_run(name: str) -> None:
    world, traffic = _crowded()
    one, other = (run_one(name, world, traffic, seed=3) for _ in range(2))
    assert one.attempts == other.attempts
    assert bytes(one.served) == bytes(other.served)
    assert one.ended_s == other.ended_s


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("load", [0.6, 0.9, 1.2])
def test_nobody_serves_more_than_the_oracle(seed: int, load: float) -> None:
    world, traffic = _crowded(load, seed=seed)
    best = sum(run_oracle(world, traffic, seed=seed).served)
    for name in [*BASELINES, "oracle-arrival", "ours"]:
        assert sum(run_one(name, world, traffic, seed=seed).served) <= best, name


def test_the_oracle_sends_nothing_that_is_refused() -> None:
    world, traffic = _crowded(1.2)
    run = run_oracle(world, traffic, seed=1)
    assert run.statuses[429] == 0
    assert not run.open


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_end_every_request_and_send_at_most_four_times(name: str) -> None:
    world, traffic = _crowded(1.2)
    run = run_one(name, world, traffic, seed=1)
    assert not run.open
    assert not run.violations
    assert max(run.attempts) <= 4
    assert sum(run.attempts) == sum(run.statuses.values())


def test_with_room_for_everything_everybody_serves_everything_at_once() -> None:
    traffic = steady(2.0, 100, Random(1))
    world = World((PoolSpec("p0", rpm=10_000, tpm=1e9), PoolSpec("p1", rpm=10_000, tpm=1e9)))
    for cell in compete([name for name in ALL if name != "least-used"], world, lambda _: traffic):
        assert (cell.success_ratio, cell.attempts, cell.refused_per_100, cell.wait_p99_s) == (1.0, 1.0, 0.0, 0.0)


def test_ours_keeps_its_laws_where_everything_goes_wrong() -> None:
    faults = (
        Fault(FaultKind.Gray, 5, 20, 0.3, ("p0",)),
        Fault(FaultKind.Outage, 25, 35),
        Fault(FaultKind.Down, 40, 50, pools=("p1",)),
        Fault(FaultKind.Tier, 10, 60, 0.5),
    )
    traffic = poisson(8.0, 500, Random(4), tenants=3)
    pools = (
        PoolSpec("p0", rpm=300, tpm=300_000, keys=2, dead_keys=1),
        PoolSpec("p1", rpm=300, concurrency=8, provider="other"),
    )
    world = World(pools, faults=faults, breaks_ratio=0.02, bad_ratio=0.02, refused_count=True, skew_s=60.0)
    run = run_ours(world, traffic, seed=1, ours=Ours(check=True))
    assert run.violations == []
    assert not run.open
    assert {200, 400, 401, 500, 503} <= set(run.statuses)


@pytest.mark.parametrize("seed", range(6))
def test_random_worlds_break_no_law(seed: int) -> None:
    run = check_seed(seed, 150)
    assert run.violations == []
    assert not run.open


def test_a_seed_alone_makes_the_same_world() -> None:
    assert random_world(11, 50) == random_world(11, 50)
    assert random_world(11, 50)[0] != random_world(12, 50)[0]


def test_a_law_that_is_broken_is_written_down() -> None:
    world, traffic = _crowded(requests=20)
    run = run_policy("random", POLICIES["random"], world, traffic, seed=1)
    run.failed(3, 1.0, "again")
    assert run.violations == ["request 3 ended twice, the second time at 1.000 s"]


def test_figures_count_what_clients_got() -> None:
    traffic = Traffic([0.0, 1.0, 2.0, 3.0], [10, 10, 10, 10], [10, 10, 10, 10], [0, 0, 1, 1])
    world = World((PoolSpec("p0", rpm=2, tpm=1000),), retry_after=False)
    cell = figures(run_policy("cooldown", POLICIES["cooldown"], world, traffic, seed=1))
    assert (cell.success_ratio, cell.attempts, cell.refused_per_100) == (0.5, 0.75, 25.0)
    assert cell.jain == pytest.approx(0.5)
    assert cell.reasons == {"429": 1, "nobody left": 1}


def test_indexes_and_percentiles() -> None:
    assert jain([1.0, 1.0, 1.0]) == pytest.approx(1.0)
    assert jain([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0


@pytest.mark.parametrize("load", [0.5, 0.8, 1.3])
def test_pools_and_traffic_are_brought_to_the_load_that_was_asked_for(load: float) -> None:
    traffic = poisson(3.0, 500, Random(2))
    world = World(fit_pools(traffic, [1, 3], load, foreign_ratio=0.5), foreign_ratio=0.5)
    assert capacity_load(traffic, world) == pytest.approx(load)
    faster = traffic.at_load(world, 1.0)
    assert capacity_load(faster, world) == pytest.approx(1.0)


def test_names_of_policies_are_read() -> None:
    assert names_of("ours,oracle,ours") == ["ours", "oracle"]
    assert set(names_of("all")) == set(ALL)
    assert len(names_of("litellm")) == 4
    with pytest.raises(ValueError, match="no policy 'best'"):
        names_of("best")


def test_the_blind_oracle_is_asked_for_by_name_and_only_about_buckets() -> None:
    assert names_of("oracle-blind,all")[0] == "oracle-blind"
    assert "oracle-blind" not in names_of("all")
    pools = (PoolSpec("p", rpm=30, tpm=30_000),)
    world = World(pools, foreign_ratio=0.25, refused_count=True)
    assert fault_of(["ours", "oracle-blind"], world) is None
    rolling = fault_of(["oracle-blind"], World(pools, enforcement=Enforcement.Rolling))
    assert rolling is not None
    assert "token buckets only" in rolling
    traffic = poisson(0.4, 120, Random(1))
    served = [sum(run_one(name, world, traffic, seed=1).served) for name in ("oracle-blind", "oracle")]
    assert 0 < served[0] <= served[1]


def test_logs_are_read_with_several_headers(tmp_path: Path) -> None:
    azure = tmp_path / "azure.csv"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:05,7,8\n"
    )
    assert read_log(azure).at_s == pytest.approx([0.0, 1.02004])
    own = tmp_path / "own.csv"
    own.write_text("arrival,input,output,tenant\n5,10,20,a\n3.5,30,40,b\n\n")
    traffic = read_log(own)
    assert (traffic.at_s, traffic.inputs, traffic.outputs, traffic.tenants) == ([0.0, 1.5], [30, 10], [40, 20], [1, 0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: no column 'arrival'"),
        ("when,in\n", "line 1: no column 'arrival'"),
        ("arrival,input,output\n", "no requests"),
        ("arrival,input,output\n1,2,3\n1,2\n", "line 3: 2 columns where the header has 3"),
        ("arrival,input,output\nsoon,2,3\n", "line 2: arrival 'soon'"),
        ("arrival,input,output\n1,2,-3\n", "line 2: '-3' is not a whole number of tokens"),
    ],
)
def test_logs_that_make_no_sense_are_refused_with_their_line(tmp_path: Path, text: str, said: str) -> None:
    log = tmp_path / "log.csv"
    log.write_text(text)
    with pytest.raises(ValueError, match=r"log\.csv") as refused:
        read_log(log)
    assert said in str(refused.value)


def test_the_loop_keeps_order_and_finds_deadlocks() -> None:
    seen: list[tuple[float, str]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WorldLoop)
        note = seen.append
        loop.at(2.0, lambda name: note((loop.time(), name)), "call")
        loop.call_later(2.0, lambda: note((loop.time(), "timer")))
        loop.call_later(1.0, lambda: note((loop.time(), "first")))
        cancelled = loop.call_later(1.5, lambda: note((loop.time(), "never")))
        cancelled.cancel()
        await asyncio.sleep(3.0)

    run_world(main())
    assert seen == [(1.0, "first"), (2.0, "call"), (2.0, "timer")]

    async def stuck() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError, match="nothing is scheduled"):
        run_world(stuck())

    async def endless() -> None:
        for _ in range(1000):
            await asyncio.sleep(10.0)

    with pytest.raises(DeadlockError, match="passed 100 s"):
        run_world(endless(), limit_s=100.0)


def test_what_is_due_at_one_time_comes_in_the_order_in_which_it_was_made() -> None:
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WorldLoop)

        async def sleeper(name: str) -> None:
            await loop.clock.sleep(2.0)
            seen.append(name)

        tasks = [loop.create_task(sleeper("sleeper"))]
        for number in range(20):
            loop.call_later(2.0, seen.append, f"timer {number}")
        await asyncio.sleep(0.0)
        loop.at(2.0, seen.append, "call")
        await asyncio.gather(*tasks)

    run_world(main())
    assert seen == ["call", *(f"timer {number}" for number in range(20)), "sleeper"]


def test_a_sleeper_that_was_cancelled_moves_no_time_and_a_fault_in_a_timer_is_told() -> None:
    told: list[str] = []

    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WorldLoop)
        loop.set_exception_handler(lambda _, about: told.append(f"{about['message']} {about['exception']!r}"))
        sleeper = loop.create_task(loop.clock.sleep(50.0))
        await loop.clock.sleep(1.0)
        sleeper.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeper
        loop.call_later(1.0, [].pop)
        await loop.clock.sleep(3.0)
        assert loop.clock.monotonic_s() == loop.time() == 4.0
        await loop.create_future()
        return loop.time()

    with pytest.raises(DeadlockError, match="nothing is scheduled"):
        run_world(main())
    assert len(told) == 1
    assert "pop from empty list" in told[0]


def test_a_world_leaves_the_collector_of_its_process_as_it_was() -> None:
    before = gc.get_threshold()

    async def fails() -> None:
        assert gc.get_threshold() != before
        raise LookupError

    with pytest.raises(LookupError):
        run_world(fails())
    assert gc.get_threshold() == before


@pytest.mark.parametrize(("duration_s", "last"), [(150.0, "150 s"), (0.3, "0.3 s"), (3600.0, "3000 s")])
def test_a_page_marks_round_times(duration_s: float, last: str) -> None:
    cell = figures(Run("ours", steady(1.0, 1, Random(1)), 1))
    page = to_html("t", "a", [cell], [Timeline("ours", duration_s / 10, [1.0] * 10, [2.0] * 10, [0.0] * 10)])
    marks = re.findall(r">([0-9.]+ s)</text>", page)
    assert marks[0] == "0 s"
    assert last in marks
    assert 4 <= len(marks) / 3 <= 8, marks


def test_a_plan_finds_the_least_that_is_enough() -> None:
    traffic = steady(2.0, 400, Random(1))
    tried: list[str] = []
    world = World((PoolSpec("p0", rpm=40), PoolSpec("p1", rpm=20)))
    found = plan(world, traffic, 0.95, on_trial=lambda option: tried.append(option.about))
    assert tried[0] == "as it is"
    assert len(tried) == len(set(tried))
    assert not {"1 x the limits", "2 pools"} & set(tried), "they are what was tried first"
    assert found.now.cell.success_ratio < 0.95
    assert found.tier is not None
    assert found.keys is not None
    assert found.tier.cell.success_ratio >= 0.95
    assert found.tier.pools[0].rpm in (60.0, 80.0, 120.0)
    assert [pool.name for pool in found.keys.pools] in (["p0", "p1", "new1"], ["p0", "p1", "new1", "new2"])
    assert found.keys.pools[2].rpm == 40


def test_a_plan_gives_up_on_what_no_capacity_can_mend() -> None:
    world = World((PoolSpec("p0", rpm=600),), faults=(Fault(FaultKind.Down, 0),))
    found = plan(world, steady(2.0, 40, Random(1)), 0.5)
    assert (found.tier, found.keys) == (None, None)


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_have_figures_of_every_policy(name: str) -> None:
    scenario = SCENARIOS[name](1) if name != "outage" else outage(1, rate_per_s=1.0)
    scenario = replace(scenario, traffic=scenario.traffic.head(700))

    def run_of(policy: str, traffic: Traffic) -> Run:
        return run_one(policy, scenario.world, traffic, seed=1)

    found = measure(scenario, run_of, ["round-robin", "ours"])
    assert [figure.label for figure in found["ours"]][:1] == [figure.label for figure in found["round-robin"]][:1]
    assert all(figure.met is not None for figure in found["ours"] if figure.bound is not None)


def test_a_timeline_adds_up_to_the_run() -> None:
    world, traffic = _crowded(1.2)
    run = run_one("round-robin", world, traffic, seed=1)
    line = timeline(run)
    assert sum(line.sends_per_s) * line.step_s == pytest.approx(sum(run.attempts))
    assert sum(line.refused_per_s) * line.step_s == pytest.approx(run.statuses[429])


def test_clients_that_come_back_when_told_are_counted_apart() -> None:
    world, traffic = _crowded(1.2)
    run = run_ours(replace(world, foreign_ratio=0.0), traffic, seed=1, ours=Ours(come_back=True))
    assert len(run.came_back) == len(run.told_s) == len(run.told_true)
    assert not run.open
