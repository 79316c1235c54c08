"""Keys from registration to retirement, on a store that outlives the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from apikeyrouter.domain.errors import (
    InvalidStateTransitionError,
    KeyNotFoundError,
    KeyRegistrationError,
    RouterError,
    SealError,
    StateStoreError,
)
from apikeyrouter.domain.interfaces.state_store import StateQuery, StoreBatch
from apikeyrouter.domain.keys.eligibility import blocked
from apikeyrouter.domain.keys.rotation import OVERLAP_S
from apikeyrouter.domain.keys.saving import COUNTERS_EVERY_S
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.resilience.failures import FailureClass
from apikeyrouter.infrastructure.state_store.keyring import Keyring
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.infrastructure.state_store.sealing import EnvelopeSealer
from tests.support.keys import Office, failure

RATE = failure(FailureClass.Rate, hint_s=30.0, whole_account=True)
AUTH = failure(FailureClass.Auth)


class BrokenStore(MemoryStateStore):
    """Refuses every durable write while `broken`."""

    broken = False

    async def apply(self, batch: StoreBatch) -> None:
        if self.broken:
            raise StateStoreError("the disk is full")
        await super().apply(batch)


class SlowStore(MemoryStateStore):
    """Lets others run before each durable write."""

    async def apply(self, batch: StoreBatch) -> None:
        await asyncio.sleep(0)
        await super().apply(batch)


@pytest.fixture
async def office() -> Office:
    return await Office().open()


def material(n: int = 1) -> str:
    return f"material-of-key-{n:04d}-" + "m" * 12


async def two_in_one_pool(office: Office) -> tuple[str, str]:
    first = await office.keys.register(material(1), "openai", {"quota_pool": "org-1"})
    second = await office.keys.register(material(2), "openai", {"quota_pool": "org-1"})
    return first.id, second.id


async def test_a_registered_key_is_stored_sealed_and_eligible_at_once(office: Office) -> None:
    key = await office.keys.register("sk-key-1", "openai", {"cost_per_1k": "0.01", "weight": 2})
    assert key.state is KeyState.Available
    assert (key.label, key.pool_id, key.version) == ("openai-1", key.id, 1)
    assert key.metadata == {"cost_per_1k": "0.01", "weight": 2}
    assert [k.id for k in await office.keys.get_eligible_keys("openai")] == [key.id]
    assert [k.id for k in await office.keys.get_eligible_keys("anthropic")] == []
    (row,) = await office.store.load_keys()
    assert b"sk-key-1" not in row.sealed_secret + row.fingerprint
    assert "sk-key-1" not in repr(row)
    assert office.heard == [(key.id, None)]
    assert office.keys.get(key.id).weight == 2.0


async def test_the_same_material_is_refused_for_the_same_provider_and_names_the_key(office: Office) -> None:
    key = await office.keys.register(material(), "openai")
    with pytest.raises(KeyRegistrationError, match=key.id) as refused:
        await office.keys.register(f"  {material()}\n", "openai")
    assert material() not in str(refused.value)
    other = await office.keys.register(material(), "azure")
    assert other.id != key.id


async def test_two_registrations_of_the_same_material_at_once_make_one_key() -> None:
    office = await Office(SlowStore()).open()
    results = await asyncio.gather(
        *(office.keys.register(material(), "openai") for _ in range(5)), return_exceptions=True
    )
    assert [isinstance(result, KeyRegistrationError) for result in results].count(False) == 1
    assert len(await office.store.load_keys()) == 1


async def test_registrations_at_once_get_labels_of_their_own() -> None:
    office = await Office(SlowStore()).open()
    keys = await asyncio.gather(*(office.keys.register(material(n), "openai") for n in range(5)))
    assert len({key.label for key in keys}) == 5


async def test_a_key_that_the_store_refused_does_not_exist() -> None:
    store = BrokenStore()
    office = await Office(store).open()
    store.broken = True
    with pytest.raises(StateStoreError):
        await office.keys.register(material(), "openai")
    assert await office.keys.list_keys() == []
    store.broken = False
    await office.keys.register(material(), "openai")


@pytest.mark.parametrize("provider_id", ["", "  ", None, 5])
async def test_a_key_needs_a_provider(office: Office, provider_id: Any) -> None:
    with pytest.raises(KeyRegistrationError, match="provider"):
        await office.keys.register(material(), provider_id)


async def test_nothing_is_registered_before_opening() -> None:
    with pytest.raises(RouterError, match="not open yet"):
        await Office().keys.register(material(), "openai")


async def test_unknown_ids_are_named(office: Office) -> None:
    for act in (office.keys.get_key, office.keys.disable, office.keys.history, office.keys.revoke_key):
        with pytest.raises(KeyNotFoundError, match="key_none"):
            await act("key_none")
    with pytest.raises(KeyNotFoundError):
        office.keys.get("key_none")


async def test_records_are_the_same_tuple_until_keys_come_or_go(office: Office) -> None:
    first = await office.keys.register(material(1), "openai")
    records = office.keys.records("openai")
    assert office.keys.records("openai") is records
    office.refuse(first.id, RATE)
    assert office.keys.records("openai") is records
    await office.keys.register(material(2), "openai")
    assert len(office.keys.records("openai")) == 2


async def test_a_restart_finds_keys_secrets_counters_and_deadlines(office: Office) -> None:
    key = await office.keys.register(material(), "openai", {"models": ["gpt-*"], "quota_pool": "org-1"}, label="team a")
    office.serve(key.id)
    office.refuse(key.id, RATE)
    later = await office.reopened(after_s=10.0)
    record = later.keys.get(key.id)
    assert record.secret.reveal() == material()
    assert (record.label, record.pool_id, record.models) == ("team a", "org-1", frozenset({"gpt-*"}))
    assert (record.usage_count, record.failure_count, record.in_flight) == (2, 1, 0)
    block = blocked(record, "gpt-4", later.now_s())
    assert block is not None
    assert block.code == "rate_limited"
    assert 19.9 <= (block.until_s or 0.0) - later.now_s() <= 23.1
    later.clock.advance(24.0)
    later.serve(key.id)
    assert record.state is KeyState.Available


async def test_a_wait_that_ended_during_the_restart_still_asks_for_a_probe(office: Office) -> None:
    key = await office.keys.register(material(), "openai")
    office.refuse(key.id, failure(FailureClass.Rate, whole_account=True))
    later = await office.reopened(after_s=3600.0)
    record = later.keys.get(key.id)
    assert record.until_s < 0.0
    ticket = later.keys.begin(record, "gpt-4", later.now_s())
    assert ticket.probe
    later.keys.succeed(ticket, later.now_s())
    assert record.state is KeyState.Available


async def test_a_models_limit_survives_a_restart(office: Office) -> None:
    key = await office.keys.register(material(), "openai")
    office.refuse(key.id, failure(FailureClass.Rate, hint_s=60.0))
    later = await office.reopened()
    record = later.keys.get(key.id)
    assert (blocked(record, "gpt-4", later.now_s()) or pytest.fail("not blocked")).code == "rate_limited"
    assert blocked(record, "gpt-3.5", later.now_s()) is None


async def test_invalid_and_disabled_keys_stay_so_over_a_restart(office: Office) -> None:
    dead = await office.keys.register(material(1), "openai")
    off = await office.keys.register(material(2), "openai")
    office.refuse(dead.id, AUTH)
    office.clock.advance(6.0)
    office.refuse(dead.id, AUTH)
    await office.keys.disable(off.id, reason="leaving")
    later = await office.reopened()
    assert later.keys.get(dead.id).state is KeyState.Invalid
    assert (await later.keys.get_key(off.id)).state_reason == "leaving"
    assert await later.keys.get_eligible_keys("openai") == []


async def test_a_wrong_encryption_key_stops_the_start_and_names_the_keys(office: Office) -> None:
    key = await office.keys.register(material(), "openai", label="team a")
    other = Office(office.store)
    with pytest.raises(SealError, match=f"{key.id} \\(team a, openai\\)") as refused:
        await other.open()
    assert "APIKEYROUTER_ENCRYPTION_KEY" in str(refused.value)
    assert await other.keys.list_keys() == []


async def test_swapped_rows_do_not_open(office: Office) -> None:
    for n in (1, 2):
        await office.keys.register(material(n), "openai")
    first, second = await office.store.load_keys()
    first.sealed_secret, second.sealed_secret = second.sealed_secret, first.sealed_secret
    await office.store.apply(StoreBatch(keys=[first, second]))
    with pytest.raises(SealError, match="another row"):
        await office.reopened()


async def test_a_new_encryption_key_takes_over_at_the_next_start() -> None:
    old, new = bytes([1] * 32), bytes([2] * 32)
    source = Keyring.random().source
    office = await Office(keyring=Keyring([old], source)).open()
    kept = await office.keys.register(material(1), "openai")
    rotated = await office.keys.register(material(2), "openai")
    await office.keys.rotate_key(rotated.id, material(3))
    await Office(office.store, keyring=Keyring([new, old], source)).open()
    last = await Office(office.store, keyring=Keyring([new], source)).open()
    assert last.keys.get(kept.id).secret.reveal() == material(1)
    assert last.keys.get(rotated.id).secret.reveal() == material(3)
    with pytest.raises(KeyRegistrationError, match=kept.id):
        await last.keys.register(material(1), "openai")


async def test_a_pools_limit_rests_all_its_keys_until_the_same_moment(office: Office) -> None:
    first, second = await two_in_one_pool(office)
    alone = await office.keys.register(material(3), "openai")
    foreign = await office.keys.register(material(4), "azure", {"quota_pool": "org-1"})
    office.refuse(first, RATE)
    assert office.keys.get(first).until_s == office.keys.get(second).until_s > 0.0
    assert office.keys.get(second).state is KeyState.Throttled
    assert office.keys.get(alone.id).state is KeyState.Available
    assert office.keys.get(foreign.id).state is KeyState.Available
    moved = [moved for key_id, moved in office.heard if key_id == second and moved is not None]
    assert [m.cause for m in moved] == ["rate"]


async def test_a_refused_secret_concerns_its_key_and_not_the_pool(office: Office) -> None:
    first, second = await two_in_one_pool(office)
    office.refuse(first, AUTH)
    assert office.keys.get(second).state is KeyState.Available


async def test_a_pools_limit_leaves_stopped_keys_alone(office: Office) -> None:
    first, second = await two_in_one_pool(office)
    await office.keys.disable(second)
    office.refuse(first, RATE)
    assert office.keys.get(second).state is KeyState.Disabled


async def test_the_audit_trail_tells_what_happened_and_by_whom(office: Office) -> None:
    key = await office.keys.register(material(), "openai")
    office.refuse(key.id, RATE)
    office.clock.advance(40.0)
    office.serve(key.id)
    await office.keys.disable(key.id, reason="holidays", actor="mara")
    await office.keys.enable(key.id)
    lines = await office.keys.history(key.id)
    assert [(line.trigger, line.to_state, line.actor) for line in lines] == [
        ("rate_limited", KeyState.Throttled, "provider"),
        ("succeeded", KeyState.Available, "provider"),
        ("operator_disabled", KeyState.Disabled, "mara"),
        ("operator_enabled", KeyState.Available, "operator"),
    ]
    assert lines[0].evidence["provider_request_id"] == "req-77"
    assert lines[0].until is not None
    assert 30.0 <= (lines[0].until - lines[0].transition_timestamp).total_seconds() <= 33.0
    assert lines[2].cause == "holidays"
    found = await office.store.query_events(StateQuery("key.registered", entity_id=key.id))
    assert len(found) == 1


async def test_a_revoked_key_is_gone_for_good_and_its_secret_too(office: Office) -> None:
    key = await office.keys.register(material(), "openai")
    revoked = await office.keys.revoke_key(key.id, reason="leaked")
    assert (revoked.state, revoked.state_reason) == (KeyState.Retired, "leaked")
    assert office.keys.records("openai") == ()
    assert await office.keys.list_keys() == []
    assert (await office.keys.revoke_key(key.id)).state is KeyState.Retired
    (row,) = await office.store.load_keys()
    assert (row.sealed_secret, row.sealed_previous, row.fingerprint) == (b"", None, b"")
    for act in (office.keys.enable, office.keys.disable, office.keys.update):
        with pytest.raises(InvalidStateTransitionError):
            await act(key.id)
    with pytest.raises(InvalidStateTransitionError):
        await office.keys.rotate_key(key.id, material(2))
    later = await office.reopened()
    assert (await later.keys.get_key(key.id)).state is KeyState.Retired
    again = await later.keys.register(material(), "openai")
    assert again.id != key.id
    assert again.label != key.label


async def test_rotation_keeps_the_id_and_survives_a_restart_with_both_secrets(office: Office) -> None:
    key = await office.keys.register(material(1), "openai")
    rotated = await office.keys.rotate_key(key_id=key.id, new_key_material=material(2))
    assert (rotated.id, rotated.version) == (key.id, 2)
    assert rotated.draining_until is not None
    later = await office.reopened()
    record = later.keys.get(key.id)
    assert record.secret.reveal() == material(2)
    later.refuse(key.id, AUTH)
    assert record.secret.reveal() == material(1)
    assert [line.trigger for line in await later.keys.history(key.id)] == ["secret_replaced", "rotation_undone"]
    again = await later.reopened()
    assert again.keys.get(key.id).secret.reveal() == material(1)
    with pytest.raises(KeyRegistrationError, match=key.id):
        await again.keys.register(material(1), "openai")


@pytest.mark.parametrize("restart", [False, True])
async def test_the_old_secret_is_dropped_when_the_overlap_is_over(office: Office, restart: bool) -> None:
    key = await office.keys.register(material(1), "openai")
    await office.keys.rotate_key(key.id, material(2))
    if restart:
        office = await office.reopened(after_s=OVERLAP_S + 1.0)
    else:
        office.clock.advance(OVERLAP_S + 1.0)
        office.keys.flush_counters()
    assert office.keys.get(key.id).previous is None
    (row,) = await office.store.load_keys()
    assert row.sealed_previous is None
    assert (await office.keys.get_key(key.id)).draining_until is None


async def test_a_late_refusal_of_the_old_secret_is_no_news(office: Office) -> None:
    key = await office.keys.register(material(1), "openai")
    record = office.keys.get(key.id)
    running = office.keys.begin(record, "gpt-4", office.now_s())
    await office.keys.rotate_key(key.id, material(2))
    office.clock.advance(60.0)
    office.keys.fail(running, AUTH, office.now_s())
    assert record.state is KeyState.Available
    assert record.secret.reveal() == material(2)


@pytest.mark.parametrize(
    ("new", "overlap_s", "says"),
    [(material(1), 60.0, "registered already"), ("", 60.0, "empty"), (material(2), -1.0, "overlap")],
)
async def test_a_rotation_that_makes_no_sense_changes_nothing(
    office: Office, new: str, overlap_s: float, says: str
) -> None:
    key = await office.keys.register(material(1), "openai")
    with pytest.raises(KeyRegistrationError, match=says):
        await office.keys.rotate_key(key.id, new, overlap_s=overlap_s)
    assert (await office.keys.get_key(key.id)).version == 1


async def test_counters_alone_are_posted_every_ten_seconds_and_at_the_end(office: Office) -> None:
    key = await office.keys.register(material(), "openai")
    office.serve(key.id)
    office.keys.flush_counters()
    assert (await office.store.list_keys())[0].usage_count == 0
    office.clock.advance(COUNTERS_EVERY_S)
    office.keys.flush_counters()
    assert (await office.store.list_keys())[0].usage_count == 1
    office.serve(key.id)
    office.keys.flush_counters(closing=True)
    (shown,) = await office.store.list_keys(provider_id="openai")
    assert shown.usage_count == 2
    assert shown.last_used_at == office.clock.utc_now()


async def test_a_running_attempt_is_shown_and_ends_once(office: Office) -> None:
    key = await office.keys.register(material(), "openai")
    ticket = office.keys.begin(office.keys.get(key.id), "gpt-4", office.now_s())
    assert ticket.secret.reveal() == material()
    assert (await office.keys.get_key(key.id)).in_flight == 1
    office.keys.release(ticket)
    assert (await office.keys.get_key(key.id)).in_flight == 0
    with pytest.raises(InvalidStateTransitionError):
        office.keys.release(ticket)


async def test_whoever_waits_for_a_probe_hears_when_it_told_nothing(office: Office) -> None:
    key = await office.keys.register(material(), "openai")
    office.refuse(key.id, failure(FailureClass.Rate, whole_account=True))
    office.clock.advance(10.0)
    ticket = office.keys.begin(office.keys.get(key.id), "gpt-4", office.now_s())
    office.heard.clear()
    office.keys.release(ticket)
    assert office.heard == [(key.id, None)]


async def test_terms_can_be_changed(office: Office) -> None:
    key = await office.keys.register(material(1), "openai")
    updated = await office.keys.update(key.id, metadata={"weight": 3, "quota_pool": "org-9"}, label="renamed")
    assert (updated.label, updated.pool_id, updated.metadata["weight"]) == ("renamed", "org-9", 3)
    mate = await office.keys.register(material(2), "openai", {"quota_pool": "org-9"})
    office.refuse(key.id, RATE)
    assert office.keys.get(mate.id).state is KeyState.Throttled
    assert (await office.reopened()).keys.get(key.id).weight == 3.0


async def test_terms_that_make_no_sense_change_nothing(office: Office) -> None:
    key = await office.keys.register(material(), "openai", {"weight": 2})
    for bad in ({"metadata": {"weight": -1}}, {"label": material()}, {"metadata": {"x": material()}, "label": "ok"}):
        with pytest.raises(KeyRegistrationError):
            await office.keys.update(key.id, **bad)  # type: ignore[arg-type]
    assert (await office.keys.get_key(key.id)).label == "openai-1"
    assert office.keys.get(key.id).weight == 2.0


async def test_opening_twice_loads_once(office: Office) -> None:
    key = await office.keys.register(material(), "openai")
    await office.keys.open(EnvelopeSealer(Keyring.random()))
    assert office.keys.get(key.id).secret.reveal() == material()


@pytest.mark.parametrize(
    "act",
    [
        lambda keys, key_id: keys.disable(key_id),
        lambda keys, key_id: keys.rotate_key(key_id, material(9)),
        lambda keys, key_id: keys.revoke_key(key_id),
    ],
    ids=["disable", "rotate", "revoke"],
)
async def test_an_operators_change_that_the_store_refused_counts_here_and_is_tried_again(
    act: Callable[..., Any],
) -> None:
    store = BrokenStore()
    office = await Office(store).open()
    key = await office.keys.register(material(1), "openai")
    store.broken = True
    with pytest.raises(StateStoreError):
        await act(office.keys, key.id)
    here = await office.keys.get_key(key.id)
    assert (here.state, here.version) != (KeyState.Available, 1)
    store.broken = False
    office.keys.flush_counters()
    (row,) = await store.load_keys()
    assert (row.state, row.version) == (here.state.value, here.version)
