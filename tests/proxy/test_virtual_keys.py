"""Virtual keys: issued once, stored as hashes, checked in constant time, ended at will."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from apikeyrouter.domain.interfaces.state_store import StoredVirtualKey
from apikeyrouter.infrastructure.state_store.memory_store import MemoryStateStore
from apikeyrouter.testing.virtual_time import ManualClock
from apikeyrouter_proxy.principal import Role
from apikeyrouter_proxy.virtual_keys import VirtualKeyNotFoundError, VirtualKeys
from apikeyrouter_proxy.wire.errors import WireError


class Desk:
    """Virtual keys over a memory store, with a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = ManualClock(10.0)
        self.store = MemoryStateStore(clock=self.clock)
        self.keys = VirtualKeys(self.store, self.clock)


@pytest.fixture
async def desk() -> Desk:
    desk = Desk()
    await desk.keys.open()
    return desk


async def test_a_created_key_is_verified_as_its_principal(desk: Desk) -> None:
    view, token = await desk.keys.create("ci", models=["gpt-4o*"], providers=["openai"])
    principal = desk.keys.verify(token.encode())
    assert principal is not None
    assert (principal.id, principal.name, principal.role) == (view.id, "ci", Role.Client)
    assert principal.providers == {"openai"}
    assert principal.tags == {"virtual_key": view.id}
    assert desk.keys.verify(token.encode()) is principal  # the second look is a cached one


async def test_a_keys_team_and_tags_go_with_each_of_its_requests_also_after_a_restart(desk: Desk) -> None:
    view, token = await desk.keys.create("ci", team="search", tags={"feature": "chat"})
    assert (view.team, view.tags) == ("search", {"feature": "chat"})
    for keys in (desk.keys, VirtualKeys(desk.store, desk.clock)):
        await keys.open()
        principal = keys.verify(token.encode())
        assert principal is not None
        assert principal.tags == {"virtual_key": view.id, "team": "search", "feature": "chat"}


@pytest.mark.parametrize("name", ["team", "virtual_key"])
async def test_a_tag_cannot_pose_as_a_team_or_another_virtual_key(desk: Desk, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        await desk.keys.create("ci", tags={name: "other"})
    assert desk.keys.list() == []


async def test_a_key_that_was_stored_before_teams_existed_still_works(desk: Desk) -> None:
    view, token = await desk.keys.create("old")
    (row,) = await desk.store.load_virtual_keys()
    del row.document["team"], row.document["tags"]
    await desk.store.save_virtual_key(row)
    keys = VirtualKeys(desk.store, desk.clock)
    await keys.open()
    principal = keys.verify(token.encode())
    assert principal is not None
    assert principal.tags == {"virtual_key": view.id}
    assert (keys.get(view.id).team, keys.get(view.id).tags) == (None, {})


async def test_the_token_has_a_prefix_an_id_256_bits_and_a_checksum(desk: Desk) -> None:
    view, token = await desk.keys.create("one")
    _, other = await desk.keys.create("two")
    assert token.startswith("akr_" + view.id.removeprefix("vk_"))
    assert len(token) == 4 + 12 + 43 + 6
    assert token != other
    assert token.isascii()


async def test_neither_views_nor_rows_nor_a_leaked_database_can_authenticate(desk: Desk) -> None:
    view, token = await desk.keys.create("one")
    rows = await desk.store.load_virtual_keys()
    secret = token[16:-6]
    for text in (repr(view), view.model_dump_json(), repr(rows)):
        assert secret not in text
    assert desk.keys.verify(rows[0].digest) is None
    assert desk.keys.verify(rows[0].digest.hex().encode()) is None


async def test_any_single_changed_character_is_refused(desk: Desk) -> None:
    _, token = await desk.keys.create("one")
    for place in range(len(token)):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert desk.keys.verify(changed.encode()) is None, place
    for wrong in (b"", b"akr_", token.encode() + b"A", token.encode()[:-1], b"sk-" + b"a" * 40):
        assert desk.keys.verify(wrong) is None


async def test_a_right_checksum_over_a_wrong_secret_is_refused(desk: Desk) -> None:
    from apikeyrouter_proxy.virtual_key_tokens import _checksum

    _, token = await desk.keys.create("one")
    body = token[:20] + "0" * 39
    assert desk.keys.verify((body + _checksum(body.encode())).encode()) is None
    body = token[:-6]
    assert desk.keys.verify((body + _checksum(body.encode())).encode()) is not None


async def test_a_revoked_key_is_refused_at_once_though_it_was_cached(desk: Desk) -> None:
    view, token = await desk.keys.create("one")
    assert desk.keys.verify(token.encode()) is not None
    revoked = await desk.keys.revoke(view.id)
    assert revoked.revoked_at is not None
    assert not revoked.active
    assert desk.keys.verify(token.encode()) is None
    assert await desk.keys.revoke(view.id) == revoked


async def test_a_key_expires_by_the_clock_though_it_was_cached(desk: Desk) -> None:
    view, token = await desk.keys.create("one", expires_at=desk.clock.utc_now() + timedelta(seconds=60))
    desk.clock.advance(59.9)
    assert desk.keys.verify(token.encode()) is not None
    assert desk.keys.get(view.id).active
    desk.clock.advance(0.2)
    assert desk.keys.verify(token.encode()) is None
    assert not desk.keys.get(view.id).active


async def test_keys_survive_in_the_store(desk: Desk) -> None:
    view, token = await desk.keys.create("one", Role.Admin)
    again = VirtualKeys(desk.store, desk.clock)
    await again.open()
    principal = again.verify(token.encode())
    assert principal is not None
    assert principal.role is Role.Admin
    assert again.list() == [view]
    assert (again.any_created, again.any_admin) == (True, True)


async def test_keys_of_another_process_are_seen_after_a_refresh(desk: Desk) -> None:
    other = VirtualKeys(desk.store, desk.clock)
    await other.open()
    view, token = await other.create("elsewhere")
    assert desk.keys.verify(token.encode()) is None
    assert not desk.keys.any_created
    await desk.keys.refresh()
    assert desk.keys.verify(token.encode()) is not None
    assert desk.keys.any_created
    await other.revoke(view.id)
    await desk.keys.refresh()
    assert desk.keys.verify(token.encode()) is None


class SlowStore(MemoryStateStore):
    """Something happens while it saves: `before` it does, and `after`, before anybody is told."""

    before: Callable[[], Awaitable[object]] | None = None
    after: Callable[[], Awaitable[object]] | None = None

    async def save_virtual_key(self, virtual_key: StoredVirtualKey, *, only_if: StoredVirtualKey | None = None) -> bool:
        before, after, self.before, self.after = self.before, self.after, None, None
        if before is not None:
            await before()
        saved = await super().save_virtual_key(virtual_key, only_if=only_if)
        if after is not None:
            await after()
        return saved


async def test_a_change_that_another_process_was_faster_with_keeps_what_that_one_set() -> None:
    store = SlowStore(clock=ManualClock(10.0))
    ours, theirs = VirtualKeys(store, ManualClock(10.0)), VirtualKeys(store, ManualClock(10.0))
    await ours.open()
    view, _ = await ours.create("app")
    await theirs.open()
    store.before = lambda: theirs.change(view.id, {"tpm": 700})
    before, now = await ours.change(view.id, {"rpm": 7})
    assert ((before.rpm, before.tpm), (now.rpm, now.tpm)) == ((None, 700), (7, 700))


async def test_what_is_read_while_a_change_is_saved_does_not_hide_it_or_what_came_after_it() -> None:
    store = SlowStore(clock=ManualClock(10.0))
    ours, theirs = VirtualKeys(store, ManualClock(10.0)), VirtualKeys(store, ManualClock(10.0))
    await ours.open()
    view, _ = await ours.create("app")
    await theirs.open()

    async def changed_again() -> None:
        await theirs.refresh()
        await theirs.change(view.id, {"rpm": 8})
        await ours.refresh()

    store.before, store.after = ours.refresh, changed_again
    assert (await ours.change(view.id, {"rpm": 7}))[1].rpm == 8

    async def another_key() -> None:
        await theirs.create("another")
        await ours.refresh()

    store.before = another_key
    assert (await ours.change(view.id, {"rpm": 9}))[1].rpm == 9
    assert ours.get(view.id).rpm == 9


async def test_an_unknown_id_is_a_named_error(desk: Desk) -> None:
    with pytest.raises(VirtualKeyNotFoundError, match="vk_nope"):
        desk.keys.get("vk_nope")
    with pytest.raises(VirtualKeyNotFoundError):
        await desk.keys.revoke("vk_nope")


@pytest.mark.parametrize(
    ("model", "fine"), [("gpt-4o-mini", True), ("openai/gpt-4o", True), ("gpt-4", False), ("claude-3", False)]
)
async def test_model_patterns_limit_a_key(desk: Desk, model: str, fine: bool) -> None:
    _, token = await desk.keys.create("one", models=["gpt-4o*"])
    principal = desk.keys.verify(token.encode())
    assert principal is not None
    assert principal.may_use(model) is fine
    if not fine:
        with pytest.raises(WireError) as caught:
            principal.check_model(model)
        assert caught.value.status == 403


async def test_the_cache_of_verified_tokens_is_bounded_and_holds_no_plaintext(desk: Desk) -> None:
    _, token = await desk.keys.create("one")
    desk.keys.verify(token.encode())
    for number in range(5000):
        desk.keys.verify(b"akr_%d" % number)
    assert len(desk.keys._verified) == 1  # wrong tokens are not remembered
    assert token.encode() not in desk.keys._verified
