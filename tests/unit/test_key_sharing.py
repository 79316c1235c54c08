"""Two key managers on one store: what one registers, changes or learns, the other serves and enforces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from apikeyrouter.domain.errors import KeyNotFoundError, KeyRegistrationError, SealError, StateStoreError
from apikeyrouter.domain.interfaces.shared_ledger import UsageQuery, UsageRow
from apikeyrouter.domain.interfaces.state_store import StateQuery, StoreBatch, StoredKey
from apikeyrouter.domain.keys.eligibility import blocked
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.failures import FailureClass
from apikeyrouter.infrastructure.state_store.keyring import Keyring
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.infrastructure.state_store.sealing import EnvelopeSealer
from tests.support.keys import Office, failure

RATE = failure(FailureClass.Rate, hint_s=30.0, whole_account=True)
AUTH = failure(FailureClass.Auth)


def material(n: int = 1) -> str:
    return f"material-of-key-{n:04d}-" + "m" * 12


async def pair(store: MemoryStateStore | None = None) -> tuple[Office, Office]:
    first = await Office(store).open()
    return first, await first.beside()


async def revision(office: Office, key_id: str) -> int:
    (row,) = await office.store.load_keys([key_id])
    return row.revision


async def test_a_key_registered_here_serves_there() -> None:
    first, second = await pair()
    key = await first.keys.register(material(), "openai", {"models": ["gpt-*"], "weight": 3}, label="team a")
    await second.keys.refresh({key.id})
    record = second.keys.get(key.id)
    assert (record.secret.reveal(), record.label, record.weight) == (material(), "team a", 3.0)
    assert second.heard == [(key.id, None)]
    assert [k.id for k in await second.keys.get_eligible_keys("openai")] == [key.id]


async def test_keys_stand_in_order_of_registration_everywhere() -> None:
    first, second = await pair()
    a = await first.keys.register(material(1), "openai")
    second.clock.advance(1.0)
    b = await second.keys.register(material(2), "openai")
    await second.keys.refresh()
    await first.keys.refresh()
    assert [r.key_id for r in second.keys.records("openai")] == [a.id, b.id]
    assert [r.key_id for r in first.keys.records("openai")] == [a.id, b.id]


async def test_labels_that_two_processes_counted_up_at_once_become_different() -> None:
    first, second = await pair()
    a = await first.keys.register(material(1), "openai")
    second.clock.advance(1.0)
    b = await second.keys.register(material(2), "openai")
    c = await second.keys.register(material(3), "openai", label="chosen")
    await second.keys.refresh()
    await first.keys.refresh()
    for office in (first, second):
        labels = {key.id: key.label for key in await office.keys.list_keys()}
        assert labels == {a.id: "openai-1", b.id: "openai-2", c.id: "chosen"}
    assert (await second.keys.register(material(4), "openai")).label == "openai-3"


@pytest.mark.parametrize(
    ("why", "times", "state"),
    [
        (RATE, 1, KeyState.Throttled),
        (AUTH, 2, KeyState.Invalid),
        (failure(FailureClass.Balance), 1, KeyState.Exhausted),
    ],
)
async def test_what_one_learns_the_other_enforces_until_the_same_moment(why, times, state) -> None:  # type: ignore[no-untyped-def]
    first, second = await pair()
    key = await first.keys.register(material(), "openai")
    await second.keys.refresh({key.id})
    for _ in range(times):
        first.refuse(key.id, why)
        first.clock.advance(6.0)
        second.clock.advance(6.0)
    await second.keys.refresh({key.id})
    there = second.keys.get(key.id)
    assert there.state is state
    block = blocked(there, "gpt-4", second.now_s())
    assert block is not None
    here = first.keys.get(key.id).until_s - first.now_s()
    assert (block.until_s or 0.0) - second.now_s() == pytest.approx(here, abs=0.001)


async def test_limits_of_models_and_of_pools_are_known_everywhere() -> None:
    first, second = await pair()
    a = await first.keys.register(material(1), "openai", {"quota_pool": "org"})
    b = await first.keys.register(material(2), "openai", {"quota_pool": "org"})
    await second.keys.refresh()
    first.refuse(a.id, failure(FailureClass.Rate, hint_s=60.0))
    await second.keys.refresh({a.id, b.id})
    for key_id in (a.id, b.id):
        assert blocked(second.keys.get(key_id), "gpt-4", second.now_s()) is not None
        assert blocked(second.keys.get(key_id), "gpt-5", second.now_s()) is None


async def test_a_deadline_that_only_moved_is_told_at_once() -> None:
    first, second = await pair()
    key = await first.keys.register(material(), "openai")
    await second.keys.refresh()
    tickets = [first.keys.begin(first.keys.get(key.id), "gpt-4", first.now_s()) for _ in range(2)]
    first.keys.fail(tickets[0], RATE, first.now_s())
    before = await revision(first, key.id)
    late = failure(FailureClass.Rate, hint_s=90.0, whole_account=True)
    first.keys.fail(tickets[1], late, first.now_s())
    assert await revision(first, key.id) > before
    await second.keys.refresh({key.id})
    assert second.keys.get(key.id).until_s - second.now_s() >= 90.0


async def test_counters_alone_are_no_news() -> None:
    first, _ = await pair()
    key = await first.keys.register(material(), "openai")
    before = await revision(first, key.id)
    first.serve(key.id)
    first.keys.flush_counters(closing=True)
    assert await revision(first, key.id) == before
    assert (await first.store.list_keys())[0].usage_count == 1


async def test_what_was_taken_in_is_not_written_again() -> None:
    first, second = await pair()
    key = await first.keys.register(material(), "openai")
    first.refuse(key.id, failure(FailureClass.Rate, hint_s=30.0))
    await second.keys.refresh()
    await first.keys.update(key.id, label="renamed")
    await second.keys.refresh()
    before = await revision(first, key.id)
    second.serve(key.id, "gpt-5")
    second.keys.flush_counters()
    assert await revision(first, key.id) == before


async def test_counters_add_up_over_processes_and_restarts() -> None:
    first, second = await pair()
    key = await first.keys.register(material(), "openai")
    await second.keys.refresh()
    for _ in range(3):
        first.serve(key.id)
    second.serve(key.id)
    second.refuse(key.id, RATE)
    this_hour_s = int(first.clock.utc_now().timestamp()) // 3600 * 3600
    for hour_s, requests, failures in ((this_hour_s - 3600, 3, 0), (this_hour_s, 1, 1)):
        row = UsageRow(hour_s, "openai", key.id, "gpt-4", requests=requests, failures=failures)
        await first.store.apply(StoreBatch(usage=[row]))
    for office in (first, second):
        office.clock.advance(2.0)
        office.keys.flush_counters(closing=True)
        shown = await office.keys.get_key(key.id)
        assert (shown.usage_count, shown.failure_count) == (4, 1)
    assert (await (await first.beside()).keys.get_key(key.id)).usage_count == 4


async def test_counters_are_shown_while_the_store_is_down() -> None:
    class Broken(MemoryStateStore):
        async def query_usage(self, query: UsageQuery) -> list[UsageRow]:
            raise StateStoreError("the store is down")

    office = await Office(Broken()).open()
    key = await office.keys.register(material(), "openai")
    office.serve(key.id)
    assert (await office.keys.get_key(key.id)).usage_count == 1


async def test_operators_orders_reach_the_others() -> None:
    first, second = await pair()
    a = await first.keys.register(material(1), "openai")
    b = await first.keys.register(material(2), "openai")
    await second.keys.refresh()
    await first.keys.disable(a.id, reason="leaving")
    await first.keys.revoke_key(b.id)
    await first.keys.update(a.id, label="renamed", metadata={"weight": 5})
    await second.keys.refresh({a.id, b.id})
    assert (await second.keys.get_key(a.id)).state_reason == "leaving"
    assert (second.keys.get(a.id).label, second.keys.get(a.id).weight) == ("renamed", 5.0)
    assert second.keys.get(b.id).secret.reveal() == ""
    assert [r.key_id for r in second.keys.records("openai")] == [a.id]
    await second.keys.enable(a.id)
    await first.keys.refresh({a.id})
    assert first.keys.get(a.id).state is KeyState.Available


async def test_a_rotated_secret_is_used_there_and_running_attempts_keep_theirs() -> None:
    first, second = await pair()
    key = await first.keys.register(material(1), "openai")
    await second.keys.refresh()
    running = second.keys.begin(second.keys.get(key.id), "gpt-4", second.now_s())
    await first.keys.rotate_key(key.id, material(2))
    await second.keys.refresh({key.id})
    record = second.keys.get(key.id)
    assert (record.secret.reveal(), record.version) == (material(2), 2)
    assert record.previous is not None
    assert record.previous.reveal() == running.secret.reveal() == material(1)
    second.keys.fail(running, AUTH, second.now_s())  # the old secret is refused: no word about the new one
    assert record.state is KeyState.Available
    assert record.in_flight == 0


async def test_a_disabled_key_stays_disabled_though_another_process_learned_something_later() -> None:
    first, second = await pair()
    key = await first.keys.register(material(), "openai")
    await second.keys.refresh()
    await first.keys.disable(key.id)
    second.clock.advance(0.1)
    second.refuse(key.id, RATE)  # it has not heard of the order yet; its row replaces the other one
    (row,) = await first.store.load_keys()
    assert row.state == "throttled"
    await first.keys.refresh({key.id})
    await second.keys.refresh({key.id})
    assert first.keys.get(key.id).state is second.keys.get(key.id).state is KeyState.Disabled
    (row,) = await first.store.load_keys()
    assert row.state == "disabled"


async def test_a_revocation_survives_a_row_of_a_process_that_had_not_heard_of_it() -> None:
    first, second = await pair()
    key = await first.keys.register(material(), "openai")
    await second.keys.refresh()
    await first.keys.revoke_key(key.id)
    second.clock.advance(0.1)
    second.refuse(key.id, RATE)
    for office in (first, second):
        await office.keys.refresh({key.id})
        assert office.keys.get(key.id).state is KeyState.Retired
    (row,) = await first.store.load_keys()
    assert (row.state, row.sealed_secret) == ("retired", b"")


async def test_a_deleted_key_is_gone_everywhere() -> None:
    first, second = await pair()
    key = await first.keys.register(material(), "openai")
    await second.keys.refresh()
    record = second.keys.get(key.id)
    await first.store.delete_key(key.id)
    await second.keys.refresh({key.id})
    with pytest.raises(KeyNotFoundError):
        second.keys.get(key.id)
    assert record.state is KeyState.Retired
    assert second.keys.records("openai") == ()
    await first.keys.refresh()
    assert await first.keys.list_keys() == []


class Slow(MemoryStateStore):
    """Each durable write takes a moment, as it does where there is a disk; `gate` holds back those who come to it."""

    gate: asyncio.Event | None = None

    async def apply(self, batch: StoreBatch) -> None:
        gate, self.gate = self.gate, None
        await asyncio.sleep(0)
        if gate is not None:
            await gate.wait()
        await super().apply(batch)

    async def load_keys(self, key_ids: Sequence[str] | None = None) -> list[StoredKey]:
        rows = await super().load_keys(key_ids)
        await asyncio.sleep(0)
        return rows


async def test_material_registered_by_two_processes_at_once_ends_as_one_key() -> None:
    first, second = await pair(Slow())
    second.clock.advance(0.5)  # its clock is ahead: its key is the younger one
    a, b = await asyncio.gather(first.keys.register(material(), "openai"), second.keys.register(material(), "openai"))
    await asyncio.gather(first.keys.refresh({a.id, b.id}), second.keys.refresh({a.id, b.id}))
    await first.keys.refresh({a.id, b.id})
    for office in (first, second):
        assert [r.key_id for r in office.keys.records("openai")] == [a.id]
        gone = await office.keys.get_key(b.id)
        assert gone.state is KeyState.Retired
        assert a.id in gone.state_reason
    events = await first.store.query_events(StateQuery("StateTransition", entity_id=b.id))
    assert len(events) == 1


async def test_a_twin_that_is_heard_of_while_registering_is_refused() -> None:
    store = Slow()
    first, second = await pair(store)
    second.clock.advance(0.5)
    gate = store.gate = asyncio.Event()
    registering = asyncio.ensure_future(second.keys.register(material(), "openai"))
    await asyncio.sleep(0)
    a = await first.keys.register(material(), "openai")
    await second.keys.refresh()
    gate.set()
    with pytest.raises(KeyRegistrationError, match=a.id):
        await registering
    assert [r.key_id for r in second.keys.records("openai")] == [a.id]


async def test_a_key_that_is_heard_of_before_its_registration_returns_is_there_once() -> None:
    class Eager(MemoryStateStore):
        """Tells of a row before it has answered whoever wrote it."""

        office: Office

        async def apply(self, batch: StoreBatch) -> None:
            await super().apply(batch)
            await self.office.keys.refresh({row.key_id for row in batch.keys})

    store = Eager()
    store.office = await Office(store).open()
    key = await store.office.keys.register(material(), "openai")
    assert [r.key_id for r in store.office.keys.records("openai")] == [key.id]
    assert store.office.keys.get(key.id) is store.office.keys.records("openai")[0]
    with pytest.raises(KeyRegistrationError, match=key.id):
        await store.office.keys.register(material(), "openai")


async def test_twins_that_a_crash_left_behind_are_one_key_after_the_next_start() -> None:
    first, second = await pair(Slow())
    second.clock.advance(0.5)
    a, b = await asyncio.gather(first.keys.register(material(), "openai"), second.keys.register(material(), "openai"))
    later = await first.beside()
    assert [r.key_id for r in later.keys.records("openai")] == [a.id]
    assert {row.key_id: row.state for row in await later.store.load_keys()} == {a.id: "available", b.id: "retired"}


async def test_a_key_sealed_with_another_encryption_key_is_named_and_stops_no_other() -> None:
    first, second = await pair()
    second_sealer = EnvelopeSealer(Keyring.random())
    stranger = Office(first.store, clock=second.clock)
    stranger.sealer = second_sealer
    await stranger.open()
    odd = await stranger.keys.register(material(1), "openai")
    good = await first.keys.register(material(2), "openai")
    with pytest.raises(SealError, match=odd.id):
        await second.keys.refresh()
    assert [r.key_id for r in second.keys.records("openai")] == [good.id]


async def test_what_the_store_refused_is_written_by_the_next_flush() -> None:
    class Moody(MemoryStateStore):
        broken = False

        async def apply(self, batch: StoreBatch) -> None:
            if self.broken:
                raise StateStoreError("the disk is full")
            await super().apply(batch)

    store = Moody()
    first, second = await pair(store)
    key = await first.keys.register(material(), "openai")
    await second.keys.refresh()
    store.broken = True
    with pytest.raises(StateStoreError):
        await first.keys.disable(key.id)
    await first.keys.refresh({key.id})
    assert first.keys.get(key.id).state is KeyState.Disabled
    first.keys.flush_counters()
    await second.keys.refresh({key.id})
    assert second.keys.get(key.id).state is KeyState.Disabled


async def test_before_opening_there_is_nothing_to_refresh() -> None:
    class Untouched(MemoryStateStore):
        async def load_keys(self, key_ids: Sequence[str] | None = None) -> list[StoredKey]:
            raise AssertionError("the store was read")

    await Office(Untouched()).keys.refresh()
