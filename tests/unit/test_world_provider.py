"""The provider side of a simulated world: who is let in, what it says about it, and what breaks when."""

from __future__ import annotations

import pytest

from apikeyrouter.simulation.world.provider import Provider
from apikeyrouter.simulation.world.spec import (
    Charge,
    Enforcement,
    Fault,
    FaultKind,
    PoolSpec,
    World,
    parse_fault,
    parse_pool,
)
from apikeyrouter.simulation.world.wire import go_duration, reply_body, reply_headers
from apikeyrouter.testing.virtual_time import ManualClock

_ONE = PoolSpec("p0", rpm=3, tpm=1000)


def _statuses(provider: Provider, at_s: list[float], key: int = 0, tokens: int = 100) -> list[int]:
    return [provider.arrive(now_s, key, tokens, 0, 0).status for now_s in at_s]


def test_a_pool_refuses_what_passes_any_of_its_limits() -> None:
    world = World((_ONE,), enforcement=Enforcement.Rolling)
    assert _statuses(Provider(world, 1), [0, 1, 2, 3, 59.9, 60.1]) == [200, 200, 200, 429, 429, 200]
    provider = Provider(world, 1)
    assert _statuses(provider, [0, 1], tokens=600) == [200, 429]
    assert provider.arrive(2.0, 0, 600, 0, 0).short == "tokens"
    assert provider.refused == 2


def test_refused_requests_count_only_where_the_world_says_so() -> None:
    free, counting = (Provider(World((_ONE,), refused_count=count), 1) for count in (False, True))
    for provider in (free, counting):
        assert _statuses(provider, [0, 0, 0], tokens=600) == [200, 429, 429]
    assert _statuses(free, [0.0]) == [200]
    assert _statuses(counting, [0.0]) == [429]


@pytest.mark.parametrize(("charge", "taken"), [(Charge.Use, 150), (Charge.Cap, 300), (Charge.Metered, 100)])
def test_what_is_charged_when_a_request_is_let_in(charge: Charge, taken: int) -> None:
    provider = Provider(World((_ONE,), charge=charge), 1)
    answer = provider.arrive(0.0, 0, 100, 50, 200)
    assert answer.pool.limits["tokens"].free(0.0) == 1000 - taken
    provider.catch_up(answer.end_s)
    drained = 1000 - answer.pool.limits["tokens"].free(answer.end_s)
    late = 50 if charge is Charge.Metered else 0
    assert drained == pytest.approx(max(0.0, taken - answer.end_s * 1000 / 60) + late, abs=1.0)


def test_keys_of_one_pool_share_its_limits_and_dead_ones_are_refused() -> None:
    provider = Provider(World((PoolSpec("p0", rpm=2, keys=3, dead_keys=1), PoolSpec("p1", rpm=2))), 1)
    assert [provider.arrive(0.0, key, 1, 1, 1).status for key in (0, 1, 2, 1, 3)] == [401, 200, 200, 429, 200]


def test_others_use_about_the_share_that_they_are_given() -> None:
    world = World((PoolSpec("p0", rpm=600, tpm=100_000),), foreign_ratio=0.25)
    provider = Provider(world, 3, [(100, 50), (50, 10)])
    provider.catch_up(600.0)
    pool = provider.pools[0]
    assert pool.foreign_sent == pytest.approx(0.25 * 6000, rel=0.1)
    assert pool.foreign_admitted == pool.foreign_sent


def test_faults_begin_and_end_when_they_should() -> None:
    faults = (
        Fault(FaultKind.Outage, 10, 20, pools=("p0",)),
        Fault(FaultKind.Down, 30, 40),
        Fault(FaultKind.Flap, 50, 90, 10),
        Fault(FaultKind.Gray, 100, 110, 1.0),
    )
    provider = Provider(World((PoolSpec("p0"), PoolSpec("p1")), faults=faults), 1)
    times = [0.0, 10.0, 19.9, 20.0, 30.0, 40.0, 50.0, 59.9, 60.0, 70.0, 80.0, 90.0, 100.0, 110.0]
    answered = [200, 503, 503, 200, 0, 200, 503, 503, 200, 503, 200, 200, 500, 200]
    assert _statuses(provider, times) == answered
    again = Provider(World((PoolSpec("p0"), PoolSpec("p1")), faults=faults), 1)
    assert _statuses(again, [10.0, 30.0], key=1) == [200, 0]


def test_a_tier_changes_limits_for_its_time() -> None:
    faults = (Fault(FaultKind.Tier, 10, 20, 0.5),)
    provider = Provider(World((PoolSpec("p0", rpm=10),), faults=faults), 1)
    limits = []
    for now_s in (0.0, 10.0, 20.0):
        provider.arrive(now_s, 0, 1, 1, 1)
        limits.append(provider.pools[0].limits["requests"].limit)
    assert limits == [10, 5, 10]


def test_the_same_seed_gives_the_same_answers() -> None:
    world = World((PoolSpec("p0", rpm=60),), foreign_ratio=0.5, faults=(Fault(FaultKind.Gray, 0, 100, 0.5),))
    runs = [[Provider(world, seed).arrive(0.0, 0, 10, 10, 10).end_s for _ in range(5)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    statuses = [_statuses(Provider(world, seed), [float(n) for n in range(80)]) for seed in (9, 9, 10)]
    assert statuses[0] == statuses[1] != statuses[2]


def test_headers_say_what_is_left_and_refusals_when_to_come_back() -> None:
    world = World((_ONE,))
    provider = Provider(world, 1)
    answers = [provider.arrive(0.0, 0, 400, 0, 0) for _ in range(3)]
    clock = ManualClock()
    headers = dict(reply_headers(world, answers[0], 0.0, clock))
    assert headers[b"x-ratelimit-limit-tokens"] == b"1000"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"200"
    assert headers[b"x-ratelimit-reset-tokens"] == b"48s"
    refusal = dict(reply_headers(world, answers[2], 0.0, clock))
    assert (refusal[b"retry-after"], refusal[b"retry-after-ms"]) == (b"12", b"12000")
    body = reply_body(world, answers[2], 400, 0, 0, 0.0)
    assert b"Limit 1000, Used 800, Requested 400. Please try again in 12s." in body
    whole = World((_ONE,), horizon_s=6.0, horizon_told=False)
    answer = Provider(whole, 1).arrive(0.0, 0, 40, 0, 0)
    assert answer.status == 429  # 0.3 requests fit into six seconds of three a minute
    assert dict(reply_headers(whole, answer, 0.0, clock))[b"x-ratelimit-remaining-tokens"] == b"1000"
    broken = Provider(World((PoolSpec("p", rpm=2.75),)), 1)
    answer = [broken.arrive(0.0, 0, 1, 0, 0) for _ in range(3)][-1]
    assert b"Limit 2, Used 2, Requested 1." in reply_body(broken.world, answer, 1, 0, 0, 0.0)
    assert dict(reply_headers(broken.world, answer, 0.0, clock))[b"x-ratelimit-limit-requests"] == b"2"
    silent = World((_ONE,), headers=False, retry_after=False)
    answer = [Provider(silent, 1).arrive(0.0, 0, 2000, 0, 0)][0]
    assert [name for name, _ in reply_headers(silent, answer, 0.0, clock)] == [b"content-type"]


def test_durations_are_written_as_go_writes_them() -> None:
    assert [go_duration(s) for s in (0.12, 1.0, 1.5, 60.0, 366.25)] == [b"120ms", b"1s", b"1.5s", b"1m0s", b"6m6.25s"]


def test_pools_are_read_from_one_line() -> None:
    pools = parse_pool("rpm=60,tpm=90k,keys=2,price=2.5 x3", 4)
    assert [pool.name for pool in pools] == ["p4", "p5", "p6"]
    assert (pools[0].rpm, pools[0].tpm, pools[0].keys, pools[0].usd_per_mtok) == (60, 90_000, 2, 2.5)
    assert parse_pool("concurrency=4,name=own,provider=b")[0] == PoolSpec("own", concurrency=4, provider="b")


@pytest.mark.parametrize(
    "text", ["rpm", "rpm=ten", "rpm=-1", "rpm=0", "keys=1.5", "speed=3", "rpm=1 x0", "rpm=nan", "keys=1,dead=2", ""]
)
def test_pools_that_make_no_sense_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="pool"):
        parse_pool(text)


def test_events_are_read_from_one_line_and_written_back() -> None:
    fault = parse_fault("60-360 gray=0.3 p0,p1", frozenset({"p0", "p1"}))
    assert fault == Fault(FaultKind.Gray, 60, 360, 0.3, ("p0", "p1"))
    assert parse_fault(fault.text()) == fault
    assert parse_fault("10- outage").text() == "10- outage"


@pytest.mark.parametrize("text", ["outage", "5-3 outage", "1-2 fire", "1-2 gray=2", "1-2 tier=0", "1-2 outage p9"])
def test_events_that_make_no_sense_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="event"):
        parse_fault(text, frozenset({"p0"}))
