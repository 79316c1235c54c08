"""Alerts of quota: passed on once, under one id in every process, and never so many that they drown the rest; what
the engine lists, and that looking makes nothing watched."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from apikeyrouter.domain.components.foresight import Foresight, supply_of
from apikeyrouter.domain.components.quota_awareness_engine import QuotaAwarenessEngine
from apikeyrouter.domain.interfaces.state_store import StoreBatch
from apikeyrouter.domain.models.events import QuotaChanged
from apikeyrouter.domain.quota.dialects import limit_dialect
from apikeyrouter.domain.quota.exhaustion import exhaustion
from apikeyrouter.domain.quota.facts import MINUTE_S, Dimension, LimitFact, Refill
from apikeyrouter.domain.quota.pools import Pools, PoolView
from apikeyrouter.domain.resilience.failures import FailureClass
from apikeyrouter.testing.virtual_time import ManualClock
from apikeyrouter_proxy.alert_pace import PER_MINUTE
from apikeyrouter_proxy.quota_alerts import QuotaAlerts
from tests.support.keys import Office, failure

NEEDS = (1, 10, 10, 20, 1, 0, 0, 0)


def change(alert: str | None = "runs_dry", pool: str = "openai/acme") -> QuotaChanged:
    return QuotaChanged(
        pool_id=pool, models="gpt-4o", window="requests per minute", before="abundant", after="critical", alert=alert,
        outlook="runs dry in 40 s", limit=60, remaining=12, runs_dry_in_s=40.0, resets_in_s=None,
    )  # fmt: skip


class Desk:
    """An observer with what it wrote and sent."""

    def __init__(self, clock: ManualClock) -> None:
        self.lines: list[Any] = []
        self.sent: list[tuple[str, dict[str, Any], str]] = []
        self.alerts = QuotaAlerts(clock, self.write, lambda _: ["a", "b"], lambda *one: self.sent.append(one))

    def write(self, batch: StoreBatch) -> None:
        self.lines += batch.events


def test_an_alert_is_a_line_and_a_webhook_and_a_change_of_state_is_neither() -> None:
    clock = ManualClock()
    desk = Desk(clock)
    desk.alerts.quota_changed(change(None))
    assert (desk.lines, desk.sent) == ([], [])
    desk.alerts.quota_changed(change())
    ((kind, data, message_id),) = desk.sent
    assert kind == "quota.runs_dry"
    assert message_id.startswith("msg_")
    (line,) = desk.lines
    assert (line.kind, line.entity_id, line.document) == (kind, "openai/acme", data)
    assert data["keys"] == ["a", "b"]
    assert (data["limit"], data["remaining"], data["resets_at"]) == (60, 12, None)
    at = clock.utc_now().timestamp() + 40.0
    assert data["runs_dry_at"].endswith("Z")
    assert str(int(at) % 60).zfill(2) in data["runs_dry_at"]


def test_processes_give_one_alert_one_id_and_another_one_another() -> None:
    clock = ManualClock()
    one, two = Desk(clock), Desk(clock)
    for desk in (one, two):
        desk.alerts.quota_changed(change())
        clock.advance(0.5)
    assert one.sent[0][2] == two.sent[0][2]
    one.alerts.quota_changed(change("all_clear"))
    one.alerts.quota_changed(change(pool="openai/other"))
    clock.advance(600.0)
    one.alerts.quota_changed(change())
    assert len({message_id for _, _, message_id in one.sent}) == 4


def test_thousands_of_pools_that_go_dry_together_are_told_in_part_and_counted() -> None:
    clock = ManualClock()
    desk = Desk(clock)
    for number in range(PER_MINUTE + 7):
        desk.alerts.quota_changed(change(pool=f"openai/{number}"))
    assert len(desk.sent) == len(desk.lines) == PER_MINUTE
    clock.advance(60.0)
    desk.alerts.quota_changed(change(pool="openai/next"))
    desk.alerts.quota_changed(change(pool="openai/after"))
    assert desk.sent[-2][1]["alerts_not_sent"] == 7
    assert "alerts_not_sent" not in desk.sent[-1][1]


class Engine:
    """The quota engine over keys that one provider has, with what `Foresight` told."""

    def __init__(self) -> None:
        self.office = Office()
        self.clock = self.office.clock
        self.told: list[QuotaChanged] = []
        self.pools = Pools(self.clock, limit_dialect)
        self.foresight = Foresight(self.pools, self.told.append)
        self.engine = QuotaAwarenessEngine(self.office.keys, self.pools, self.foresight, self.clock)

    async def keys(self, count: int, **metadata: Any) -> list[str]:
        await self.office.open()
        return [
            (await self.office.keys.register(f"sk-{number:06d}", "openai", metadata, None)).id
            for number in range(count)
        ]

    def view(self, key_id: str) -> PoolView:
        return self.pools.view(self.office.keys.get(key_id), "openai", "gpt-4o")

    def use(self, key_id: str, times: int) -> None:
        view = self.view(key_id)
        now_s = self.clock.monotonic_s()
        for _ in range(times):
            for window in view.windows:
                window.account.adjust_used(NEEDS[window.kind], now_s)
            view.admitted(view.windows, NEEDS, now_s)


async def test_a_pool_that_is_dry_at_the_first_look_is_told_too() -> None:
    world = Engine()
    (key_id,) = await world.keys(1, rpm=5)
    world.use(key_id, 5)
    world.foresight.tick(world.clock.monotonic_s())
    assert [(one.alert, one.after, one.remaining) for one in world.told] == [("dry", "exhausted", 0)]
    world.clock.advance(1.0)
    world.foresight.tick(world.clock.monotonic_s())
    assert len(world.told) == 1


def looks_of(world: Engine, key_id: str, seconds: int, use: Callable[[int], int]) -> list[float]:
    """When a pool that `use` says how much of is taken each second is looked at."""
    found: list[float] = []
    begin_s = world.clock.monotonic_s()
    for second in range(seconds):
        world.use(key_id, use(second))
        for _ in range(4):
            world.foresight.tick(world.clock.monotonic_s())
            at_s = world.view(key_id).refreshed_at_s - begin_s
            if at_s >= 0.0 and at_s not in found:
                found.append(at_s)
            world.clock.advance(0.25)
    return found


async def test_a_pool_is_looked_at_every_three_seconds_and_every_five_while_it_lets_nothing_in() -> None:
    world = Engine()
    (key_id,) = await world.keys(1, rpm=1000)
    assert looks_of(world, key_id, 61, lambda _: 1) == [float(second) for second in range(61)], "little is known yet"
    assert looks_of(world, key_id, 7, lambda _: 1) == [2.0, 5.0]
    assert looks_of(world, key_id, 13, lambda second: second == 11) == [1.0, 6.0, 11.0]


async def test_a_pool_that_loses_a_fifth_of_what_it_has_is_looked_at_within_the_second() -> None:
    world = Engine()
    (key_id,) = await world.keys(1, rpm=1000)
    looks_of(world, key_id, 61, lambda _: 1)
    assert looks_of(world, key_id, 5, lambda second: 250 if second == 1 else 1) == [1.0, 4.0]


async def test_a_pool_of_which_an_alert_is_near_is_looked_at_every_second() -> None:
    world = Engine()
    (key_id,) = await world.keys(1, rpm=1000)
    seen: list[tuple[bool, float]] = []
    last_s = world.clock.monotonic_s()
    for second in range(120):
        world.use(key_id, 6 + second // 6)
        world.foresight.tick(world.clock.monotonic_s())
        window = world.view(key_id).windows[0]
        at_s = world.view(key_id).refreshed_at_s
        if at_s > last_s and window.exhaustion is not None:
            seen.append((window.exhaustion.chance_60s >= 0.1, at_s - last_s))
            last_s = at_s
        if world.told and world.told[-1].alert is not None:
            break
        world.clock.advance(1.0)
    assert [one.alert for one in world.told if one.alert] == ["runs_dry"]
    assert any(near for near, _ in seen[:-1])
    assert all(gap_s == 1.0 for (near, _), (_, gap_s) in pairwise(seen) if near)


async def test_a_dry_pool_is_looked_at_as_soon_as_it_recovers() -> None:
    world = Engine()
    (key_id,) = await world.keys(1, rpm=1000)
    looks_of(world, key_id, 61, lambda _: 1)
    world.use(key_id, 1000)
    world.clock.advance(3.0)
    world.foresight.tick(world.clock.monotonic_s())
    assert world.view(key_id).state == "exhausted"
    world.view(key_id).windows[0].account.adjust_used(-500, world.clock.monotonic_s())
    world.clock.advance(1.0)
    world.foresight.tick(world.clock.monotonic_s())
    assert world.view(key_id).state == "recovering"


async def test_whoever_asks_is_told_of_times_beyond_a_minute_as_of_now() -> None:
    world = Engine()
    (key_id,) = await world.keys(1)
    fact = LimitFact(Dimension.Requests, MINUTE_S, 10_000, refill=Refill.Continuous)
    world.view(key_id).told([fact], (), sent_at_s=world.clock.monotonic_s(), now_s=world.clock.monotonic_s())
    for _ in range(189):
        world.use(key_id, 185)
        world.foresight.tick(world.clock.monotonic_s())
        world.clock.advance(1.0)
    world.use(key_id, 500)
    world.foresight.tick(world.clock.monotonic_s())
    window, now_s = world.view(key_id).windows[0], world.clock.monotonic_s()
    kept, supply = window.exhaustion, supply_of(window, now_s)
    assert kept is not None
    assert window.forecast is not None
    assert supply is not None
    now = exhaustion(window.forecast, supply, now_s)
    assert (kept.chance_60s, kept.shadow_price) == (now.chance_60s, now.shadow_price)
    assert kept.p50_s != now.p50_s
    told = await world.engine.predict_exhaustion(key_id)
    assert told is not None
    assert told.p50_s == now.p50_s


async def test_looking_at_thousands_of_pools_makes_none_watched_and_renews_few() -> None:
    world = Engine()
    ids = await world.keys(1500, rpm=60)
    for key_id in ids:
        world.view(key_id)
    pools, total = await world.engine.list_pools()
    assert (len(pools), total) == (1500, 1500)
    assert {pool.outlook for pool in pools} == {"not in use"}
    assert all(window.forecast is None for key_id in ids for window in world.view(key_id).windows)
    assert await world.engine.predict_exhaustion(ids[0]) is None
    for key_id in ids[:200]:
        world.use(key_id, 3)
    world.clock.advance(5.0)
    await world.engine.list_pools()
    fresh = [key_id for key_id in ids if world.view(key_id).refreshed_at_s == world.clock.monotonic_s()]
    assert 0 < len(fresh) <= 60
    await world.engine.get_quota_state(ids[199])
    assert world.view(ids[199]).refreshed_at_s == world.clock.monotonic_s()


async def test_urgent_pools_come_first_and_pages_meet_without_overlap() -> None:
    world = Engine()
    ids = await world.keys(6, rpm=10)
    for key_id in ids:
        world.use(key_id, 1)
    world.use(ids[4], 9)
    world.foresight.tick(world.clock.monotonic_s())
    urgent, _ = await world.engine.list_pools(order="urgency")
    assert urgent[0].key_ids == [ids[4]]
    assert (urgent[0].capacity_state, urgent[0].outlook.startswith("dry")) == ("exhausted", True)
    pages = [await world.engine.list_pools(limit=4, offset=offset) for offset in (0, 4, 8)]
    assert [pool.key_ids[0] for page, _ in pages for pool in page] == ids
    assert {total for _, total in pages} == {6}
    assert world.engine.labels_of(urgent[0].pool_id) == urgent[0].key_labels


async def test_a_key_that_rests_with_room_in_its_limits_says_so_and_which_limit_is_meant() -> None:
    world = Engine()
    resting, other = await world.keys(2, rpm=100, quota_pool="acme")
    world.use(other, 1)
    world.foresight.tick(world.clock.monotonic_s())
    world.office.refuse(resting, failure(FailureClass.Capacity, hint_s=30.0))
    own = await world.engine.get_quota_state(resting)
    assert own.capacity_state == "exhausted"
    assert own.outlook.startswith("resting for ")
    assert own.outlook.endswith("limits: lasts")
    assert own.outlook_limit == "requests per minute"
    ((pool,), _) = await world.engine.list_pools()
    assert (pool.capacity_state, pool.outlook) == ("abundant", "lasts"), "the other key of the account may serve"
    world.office.refuse(other, failure(FailureClass.Capacity, hint_s=30.0))
    ((pool,), _) = await world.engine.list_pools()
    assert (pool.capacity_state, pool.outlook.partition(" (")[0]) == ("exhausted", own.outlook.partition(" (")[0])
    world.clock.advance(60.0)
    ((pool,), _) = await world.engine.list_pools()
    assert not pool.outlook.startswith("resting")


async def test_steady_traffic_is_told_of_long_before_it_is_dry_once_and_then_all_clear() -> None:
    world = Engine()
    (key_id,) = await world.keys(1, rpm=120)
    alerts: list[tuple[str | None, int]] = []
    dry_at_s = None
    for second in range(60 + 500):
        if second < 60 and (world.view(key_id).windows[0].headroom(world.clock.monotonic_s()) or 0) >= 3:
            world.use(key_id, 3)
        elif dry_at_s is None:
            dry_at_s = second
        world.clock.advance(1.0)
        world.foresight.tick(world.clock.monotonic_s())
        alerts += [(one.alert, second) for one in world.told if one.alert is not None]
        world.told.clear()
    assert [alert for alert, _ in alerts] == ["runs_dry", "all_clear"]
    assert dry_at_s == 40
    assert dry_at_s - alerts[0][1] >= 10
    assert alerts[1][1] >= 60 + 300
