"""The health of providers: damped, told once per change, looked at without disturbing anybody."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from apikeyrouter.domain.models.events import KeyMoved, ProviderHealthChanged, RequestEnded
from apikeyrouter.domain.models.health_state import HealthStatus
from apikeyrouter.health_watch import AGREE, SPAN_S, HealthWatch, Look
from apikeyrouter.testing import ManualClock, VirtualClock, run_virtual


class Listener:
    def __init__(self) -> None:
        self.told: list[ProviderHealthChanged] = []

    def request_ended(self, event: RequestEnded) -> None: ...

    def key_moved(self, event: KeyMoved) -> None: ...

    def provider_health(self, event: ProviderHealthChanged) -> None:
        self.told.append(event)
        raise RuntimeError("an observer's own trouble")


class Deaf:
    def request_ended(self, event: RequestEnded) -> None: ...

    def key_moved(self, event: KeyMoved) -> None: ...


async def no_look(_provider_id: str) -> Look | None:
    return None


def watch() -> tuple[HealthWatch, Listener]:
    listener = Listener()
    return HealthWatch(ManualClock(), no_look, lambda: ["p"], observers=[Deaf(), listener]), listener


def test_the_first_good_word_is_believed_and_is_no_news() -> None:
    health, listener = watch()
    assert health.state("p").status is None
    health.heard("p", ok=True, now_s=1.0)
    assert health.state("p").status is HealthStatus.Healthy
    assert not listener.told


def test_three_failures_over_two_seconds_are_an_outage_and_three_successes_its_end() -> None:
    health, listener = watch()
    health.heard("p", ok=True, now_s=0.0)
    for now_s in (10.0, 11.0, 11.9):
        health.heard("p", ok=False, now_s=now_s, detail="503")
    assert health.state("p").status is HealthStatus.Healthy, "one bad moment"
    health.heard("p", ok=False, now_s=12.0, detail="503")
    assert health.state("p").status is HealthStatus.Down
    assert health.state("p").since_s == 12.0
    for now_s in (20.0, 21.0, 22.0):
        health.heard("p", ok=True, now_s=now_s)
    assert [(e.before, e.after) for e in listener.told] == [("healthy", "down"), ("down", "healthy")]
    assert listener.told[0].detail == "503"


def test_flapping_is_not_told() -> None:
    health, listener = watch()
    for i in range(200):
        health.heard("p", ok=i % 3 == 0, now_s=float(i))
    assert not listener.told


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 3.0)), max_size=200))
def test_the_word_only_follows_outcomes_that_agreed(history: list[tuple[bool, float]]) -> None:
    health, listener = watch()
    now_s, run_ok, length, from_s = 10.0, True, 0, 0.0
    for ok, pause_s in history:
        now_s += pause_s
        if ok != run_ok or not length:
            run_ok, length, from_s = ok, 0, now_s
        length += 1
        told = len(listener.told)
        health.heard("p", ok=ok, now_s=now_s)
        if len(listener.told) > told:
            assert len(listener.told) == told + 1
            assert listener.told[-1].after == ("healthy" if ok else "down")
            assert length >= AGREE
            assert now_s - from_s >= SPAN_S
    assert all(a.after == b.before for a, b in zip(listener.told, listener.told[1:], strict=False))


def test_looks_come_at_their_pace_survive_faults_of_ours_and_end_on_stop() -> None:
    looks: list[float] = []

    async def look(provider_id: str) -> Look | None:
        now_s = asyncio.get_running_loop().time()
        looks.append(now_s)
        await asyncio.sleep(0.5)
        if 95.0 < now_s < 125.0:
            raise ValueError(provider_id)
        return Look(now_s < 200.0, "told")

    async def go() -> tuple[HealthWatch, list[ProviderHealthChanged]]:
        listener = Listener()
        health = HealthWatch(VirtualClock(), look, lambda: ["p"], observers=[listener], every_s=30.0)
        health.start()
        health.start()
        await asyncio.sleep(400.0)
        await health.stop()
        await health.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return health, listener.told

    health, told = run_virtual(go())
    assert len(looks) == 14
    assert health.state("p").look_latency_s == 0.5
    assert [(e.after, e.latency_s) for e in told] == [("down", 0.5)]
    assert [s.status for s in health.states()] == [HealthStatus.Down]


def test_a_provider_without_keys_stays_unknown_and_0_means_no_looks() -> None:
    async def go() -> None:
        health = HealthWatch(VirtualClock(), no_look, lambda: ["p"])
        health.start()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (await health.look("p")).status is None

    run_virtual(go())
